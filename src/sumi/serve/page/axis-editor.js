// One axis of a grid as it is asked for: a field, and its values as text or by pressing those that are offered.
//   new AxisEditor(letter, title): .element; .offer(fields) fills the list; .set({name, text}), .get();
//     .axis() -> {name, values} or null, or throws
//   tells "change" when either is changed

import { AxisError, heading, parts, read, written } from "./axes.js";
import { el } from "./dom.js";

const SHOWN = 12;

export class AxisEditor extends EventTarget {
  #fields = new Map();
  #choice; #text; #offered; #told; #about;

  constructor(letter, title) {
    super();
    const id = (name) => `axis-${letter}-${name}`;
    this.#choice = el("select", { id: id("field"), onchange: () => this.#changed(true) });
    this.#text = el("input", {
      id: id("values"), type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "none",
      "aria-describedby": `${id("about")} ${id("told")}`,
      oninput: () => this.#changed(false),
    });
    this.#offered = el("div", { class: "offered", role: "group", "aria-label": `values of ${letter.toUpperCase()}` });
    this.#told = el("p", { class: "read", id: id("told"), "aria-live": "polite" });
    this.#about = el("p", { class: "about", id: id("about") });
    this.element = el("fieldset", { class: "axis" },
      el("legend", {}, el("b", { text: letter.toUpperCase() }), ` ${title}`),
      el("label", { class: "unseen", for: id("field"), text: `what ${letter.toUpperCase()} varies` }), this.#choice,
      el("label", { class: "unseen", for: id("values"), text: `values of ${letter.toUpperCase()}` }), this.#text,
      this.#offered, this.#told, this.#about);
  }

  get field() { return this.#fields.get(this.#choice.value) ?? null; }

  offer(fields) {
    const before = this.get();
    this.#fields = new Map(fields.map((field) => [field.name, field]));
    const groups = Map.groupBy(fields, ({ group }) => group);
    const options = (list) => list.map(({ name, called }) => el("option", { value: name, text: called }));
    this.#choice.replaceChildren(el("option", { value: "", text: "nothing" }),
      ...[...groups].flatMap(([group, list]) => group ? [el("optgroup", { label: group }, options(list))] : options(list)));
    this.set(before);
  }

  get() { return { name: this.#choice.value, text: this.#text.value }; }

  set({ name = "", text = "" }) {
    this.#choice.value = this.#fields.has(name) ? name : "";
    this.#text.value = text;
    this.#draw();
  }

  axis() {
    if (!this.field) return null;
    const { values } = read(this.field, this.#text.value);
    if (!values.length) throw new AxisError(`${this.field.called} has no values yet: list some, as in ${this.field.example || "a, b"}`);
    return { name: this.field.name, values };
  }

  #changed(another) {
    if (another) this.#text.value = "";
    this.#draw();
    this.dispatchEvent(new CustomEvent("change"));
  }

  #draw() {
    const { field } = this;
    this.#text.hidden = this.#told.hidden = this.#about.hidden = !field;
    this.#text.placeholder = field?.example ?? "";
    this.#about.textContent = field?.about ?? "";
    this.#tell();
    this.#chips();
  }

  #tell() {
    const { field } = this;
    this.#text.removeAttribute("aria-invalid");
    this.#told.classList.remove("wrong");
    this.#told.textContent = "";
    if (!field) return;
    try {
      const { values, repeated } = read(field, this.#text.value);
      const said = values.slice(0, SHOWN).map((value) => heading(field.name, value)[1]).join("  ·  ");
      const more = [
        values.length > SHOWN && `and ${values.length - SHOWN} more`,
        repeated && `${repeated} repeated left out`,
      ].filter(Boolean);
      this.#told.textContent = values.length ? [said, ...more].join(", ") : "";
    } catch (error) {
      if (!(error instanceof AxisError)) throw error;
      this.#text.setAttribute("aria-invalid", "true");
      this.#told.classList.add("wrong");
      this.#told.textContent = error.message;
    }
  }

  #texts() {
    try {
      return parts(this.#text.value).filter(Boolean);
    } catch {
      return [];   // a mark is not closed yet, as the line below it says
    }
  }

  #chips() {
    const suggested = this.field?.suggested ?? [];
    const chosen = this.#texts();
    this.#offered.hidden = !suggested.length;
    if (this.#offered.dataset.of !== suggested.join("\n")) {
      this.#offered.dataset.of = suggested.join("\n");
      this.#offered.replaceChildren(...suggested.map((value) =>
        el("button", { type: "button", class: "chip", text: value, "aria-pressed": "false", onclick: () => this.#toggle(value) })));
    }
    suggested.forEach((value, i) => this.#offered.children[i].setAttribute("aria-pressed", String(chosen.includes(value))));
  }

  #toggle(value) {
    const chosen = this.#texts();
    const left = chosen.includes(value) ? chosen.filter((one) => one !== value) : [...chosen, value];
    this.#text.value = left.map(written).join(", ");
    this.#changed(false);
  }
}
