// What the person chose: kept over reloads, and the same in every tab.
//   settings (EventTarget): the fields of a request that differ from their defaults, and `model`.
//     .get(name) -> value or null; .all() -> {name: value}; .set({name: value | null, …}): null is the default again
//     .use(request, {keepSeed = true}): all of a request in place of what is there; keepSeed false leaves the seed to be drawn. With a
//     `model` in it (null: the one that comes with sumi) that is chosen, too. .replace(values): these, and no others
//       Pictures that it goes by (image, mask, …) are no settings: whoever shows them sets them.
//   prefs (EventTarget): the same for what is the page's own (theme, simple, mode, …), with .get, .all and .set.
//   Both tell a "change" (detail: Set of the names that changed), also when another tab made it. Seeds are text: they may have 64 bits.

export const PICTURES = ["image", "mask", "map", "depth", "low_res", "like"];
const NOT_SETTINGS = [...PICTURES, "outpaint", "digests"];

class Kept extends EventTarget {
  #name;
  #values;

  constructor(name) {
    super();
    this.#name = name;
    this.#values = this.#stored();
    addEventListener("storage", ({ key }) => {
      if (key === null || key === name) this.#become(this.#stored());
    });
  }

  get(name) { return this.#values[name] ?? null; }
  all() { return structuredClone(this.#values); }

  set(changes) {
    const values = { ...this.#stored(), ...changes };
    this.replace(values);
  }

  replace(values) {
    const kept = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null && value !== undefined));
    try {
      localStorage.setItem(this.#name, JSON.stringify(kept));
    } catch {
      // A browser that keeps nothing still has what is set here, until the page is left.
    }
    this.#become(kept);
  }

  #stored() {
    try {
      const values = JSON.parse(localStorage.getItem(this.#name));
      return values && typeof values === "object" && !Array.isArray(values) ? values : this.#values ?? {};
    } catch {
      return this.#values ?? {};
    }
  }

  #become(values) {
    const before = this.#values;
    const differs = (name) => JSON.stringify(before[name]) !== JSON.stringify(values[name]);
    const names = new Set([...Object.keys(before), ...Object.keys(values)].filter(differs));
    this.#values = values;
    if (names.size) this.dispatchEvent(new CustomEvent("change", { detail: names }));
  }
}

class Settings extends Kept {
  use(request, { keepSeed = true } = {}) {
    const values = Object.fromEntries(Object.entries(request).filter(([name]) => !NOT_SETTINGS.includes(name)));
    if (!("model" in request)) values.model = this.get("model");
    for (const name of ["seed", "variation_seed"]) values[name] = keepSeed && values[name] != null ? String(values[name]) : null;
    this.replace(values);
  }
}

export const settings = new Settings("sumi.settings");
export const prefs = new Kept("sumi.prefs");
