// <before-after>: two pictures of one place, one over the other with a slider between them, or side by side.
//   .show({before, after, width, height, names: [before, after], alt: [before, after]}): canvases or addresses; after may be null

import { el } from "./dom.js";
import { prefs } from "./state.js";

export class BeforeAfter extends HTMLElement {
  slots = [0, 1].map(() => el("div", { class: "side" }));
  names = [0, 1].map(() => el("figcaption"));
  slider = el("input", {
    type: "range", min: 0, max: 100, step: 0.1, value: 50, "aria-label": "How much of the first picture shows", oninput: () => this.#cut(),
  });
  way = el("button", { type: "button", class: "plain", onclick: () => prefs.set({ sides: prefs.get("sides") ? null : true }) });

  connectedCallback() {
    if (this.firstChild) return;
    const figures = this.slots.map((slot, i) => el("figure", {}, slot, this.names[i]));
    this.append(el("div", { class: "pane" }, ...figures, el("i", { class: "cut", "aria-hidden": "true" }), this.slider), this.way);
    prefs.addEventListener("change", ({ detail }) => { if (detail.has("sides")) this.#ways(); });
    this.#cut();
    this.#ways();
  }

  show({ before, after, width, height, names, alt }) {
    this.style.setProperty("--wide", width);
    this.style.setProperty("--high", height);
    this.classList.toggle("alone", after === null);
    this.classList.toggle("crisp", Math.max(width, height) < 384);
    [before, after].forEach((source, i) => {
      this.names[i].textContent = names[i];
      this.#fill(this.slots[i], source, alt[i]);
    });
    this.#ways();
  }

  // A picture that comes from an address takes the old one's place when it can be shown, so that nothing flickers.
  async #fill(slot, source, alt) {
    if (source === null) return slot.replaceChildren();
    if (typeof source !== "string") {
      source.setAttribute("role", "img");
      source.setAttribute("aria-label", alt);
      slot.asked = source;
      if (slot.firstElementChild !== source) slot.replaceChildren(source);
      return;
    }
    if (slot.asked === source) return;
    slot.asked = source;
    const image = el("img", { src: source, alt, decoding: "async" });
    await image.decode().catch(() => {});
    image.classList.toggle("coming", image.naturalWidth < Number(this.style.getPropertyValue("--wide"))); // of fewer pixels, and soft
    if (slot.asked === source) slot.replaceChildren(image);
  }

  #cut() {
    this.style.setProperty("--cut", `${this.slider.value}%`);
    this.slider.setAttribute("aria-valuetext", `${Math.round(this.slider.value)} %`);
  }

  #ways() {
    const sides = prefs.get("sides") === true;
    this.classList.toggle("sides", sides);
    this.slider.hidden = sides || this.classList.contains("alone");
    this.way.hidden = this.classList.contains("alone");
    this.way.textContent = sides ? "One over the other" : "Side by side";
  }
}
customElements.define("before-after", BeforeAfter);
