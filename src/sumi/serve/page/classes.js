// The classes of a map: their colours, and <class-palette>, from which one is chosen.
//   colours(count) -> Uint32Array [256] of RGBA for a canvas; css(number) -> the same for CSS
//   .lay(names): what there is; .recent: an element with those used last, for which keys 1 to 9 stand; .value reads and sets;
//     event "choose" (detail: the number)

import { el } from "./dom.js";
import { key } from "./keys.js";

export const ANY = 255;
const RECENT = 9;
const GOLDEN = 137.508; // degrees: however many there are, neighbours are far apart
const LIGHTNESS = [0.76, 0.66, 0.85, 0.71];
const GROUND = [203, 196, 182]; // of class 0, which is what lies behind the others

// Oklch to sRGB. Source: B. Ottosson, A perceptual color space for image processing (2020).
function rgb(lightness, chroma, hue) {
  const a = chroma * Math.cos(hue * Math.PI / 180), b = chroma * Math.sin(hue * Math.PI / 180);
  const [l, m, s] = [[0.3963377774, 0.2158037573], [-0.1055613458, -0.0638541728], [-0.0894841775, -1.2914855480]]
    .map(([ofA, ofB]) => (lightness + ofA * a + ofB * b) ** 3);
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
  ];
  return linear.map((light) => {
    const held = Math.min(Math.max(light, 0), 1);
    return Math.round(255 * (held <= 0.0031308 ? 12.92 * held : 1.055 * held ** (1 / 2.4) - 0.055));
  });
}

const colour = (number) => number === 0 ? GROUND : rgb(LIGHTNESS[number % LIGHTNESS.length], 0.125, 29 + number * GOLDEN);
export const css = (number) => `rgb(${colour(number).join(" ")})`;

export function colours(count) {
  return Uint32Array.from({ length: 256 }, (_, number) => {
    if (number === ANY || number >= count) return 0;
    const [red, green, blue] = colour(number);
    return (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
  });
}

export class ClassPalette extends HTMLElement {
  #names = [];
  #value = ANY;
  #recent = []; // numbers, in the order of their keys
  #used = []; // the same, those used last at the end
  labels = [];
  search = el("input", { type: "search", placeholder: "Search", "aria-label": "Search the classes", oninput: () => this.#found() });
  list = el("div", { class: "classes", role: "radiogroup", "aria-label": "Classes" });
  recent = el("div", { class: "recent", role: "group", "aria-label": "Used last" });
  none = el("p", { class: "note", text: "No class is called so.", hidden: true });

  connectedCallback() {
    if (this.firstChild) return;
    this.append(this.search, this.list, this.none);
    this.search.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      const sought = this.#sought, seen = this.labels.filter((label) => !label.hidden);
      if (!seen.length) return;
      const best = seen.find(({ dataset }) => dataset.name === sought)
        ?? seen.find(({ dataset }) => dataset.name.startsWith(sought))
        ?? seen[0];
      this.#choose(Number(best.firstElementChild.value));
    });
    const when = () => this.checkVisibility() && !document.querySelector("dialog[open]");
    for (let at = 0; at < RECENT; at++) {
      const run = () => at < this.#recent.length ? this.#choose(this.#recent[at]) : false;
      key(String(at + 1), at ? null : "painting a map: 1 to 9, the classes used last", run, { when });
    }
  }

  name(number) { return number === ANY ? "any" : this.#names[number] ?? String(number); }

  lay(names) {
    if (String(names) === String(this.#names)) return;
    this.#names = [...names];
    this.labels = [ANY, ...names.keys()].map((number) => el("label", { dataset: { name: this.name(number).toLowerCase() } },
      el("input", { type: "radio", name: "map-class", value: number, onchange: () => this.#choose(number) }),
      this.#swatch(number), el("span", { text: this.name(number) })));
    this.list.replaceChildren(...this.labels);
    this.used = this.#used.filter((number) => number === ANY || number < names.length);
  }

  get value() { return this.#value; }
  set value(number) {
    this.#value = number;
    this.labels.forEach(({ firstElementChild: input }) => { input.checked = Number(input.value) === number; });
    this.#use(number);
  }

  get used() { return this.#used; }
  set used(numbers) {
    this.#used = [...numbers];
    this.#recent = [...numbers];
    this.#tell();
  }

  #swatch(number) {
    const swatch = el("i", { class: number === ANY ? "swatch any" : "swatch" });
    if (number !== ANY) swatch.style.background = css(number);
    return swatch;
  }

  #choose(number) {
    this.value = number;
    this.dispatchEvent(new CustomEvent("choose", { detail: number }));
  }

  // A class keeps its key while it is used; a new one takes that of the one that was not used for longest.
  #use(number) {
    this.#used = [...this.#used.filter((other) => other !== number), number];
    if (!this.#recent.includes(number)) {
      if (this.#recent.length < RECENT) this.#recent.push(number);
      else this.#recent[this.#recent.indexOf(this.#used.shift())] = number;
    }
    this.#tell();
  }

  #tell() {
    this.recent.replaceChildren(...this.#recent.map((number, at) => el("button", {
      type: "button", "aria-pressed": String(number === this.#value), title: `${this.name(number)} (${at + 1})`,
      onclick: () => this.#choose(number),
    }, this.#swatch(number), el("span", { text: this.name(number) }), el("kbd", { "aria-hidden": "true", text: at + 1 }))));
  }

  get #sought() { return this.search.value.trim().toLowerCase(); }

  #found() {
    const sought = this.#sought;
    this.labels.forEach((label) => { label.hidden = !label.dataset.name.includes(sought); });
    this.none.hidden = this.labels.some((label) => !label.hidden);
  }
}
customElements.define("class-palette", ClassPalette);
