// What the picture starts from: the tabs under the words, and the part of the page that each shows.
//   modes (EventTarget): .name(); .go(name); .stage() -> the element of the present one, or null for words alone; event "change"

import { el } from "./dom.js";
import { key } from "./keys.js";
import { known } from "./known.js";
import { prefs } from "./state.js";

// Named, and by which field of a request a model must be able to serve it.
const MODES = [["make", "Words", null], ["image", "Image", "image"], ["paint", "Paint", "mask"], ["map", "Map", "map"],
  ["enlarge", "Enlarge", "low_res"], ["grid", "Grid", null]];

class Modes extends EventTarget {
  #name = prefs.get("mode") ?? "make";

  name() { return this.#offered(this.#name) ? this.#name : "make"; }
  stage() { return document.querySelector(`.mode[data-mode="${this.name()}"]`)?.firstElementChild ?? null; }

  go(name) {
    this.#name = name;
    prefs.set({ mode: name === "make" ? null : name });
    this.#show();
  }

  start(bar) {
    this.tabs = MODES.map(([name, label]) => el("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-controls": name === "make" ? "words" : `mode-${name}`, text: label,
      dataset: { name }, onclick: () => this.go(name),
    }));
    bar.append(...this.tabs);
    bar.addEventListener("keydown", (event) => this.#arrows(event));
    for (const section of document.querySelectorAll(".mode")) {
      section.id = `mode-${section.dataset.mode}`;
      section.setAttribute("role", "tabpanel");
      section.setAttribute("aria-labelledby", `tab-${section.dataset.mode}`);
    }
    known.addEventListener("change", () => this.#show());
    MODES.forEach(([name], i) => {
      key(`Alt+${i + 1}`, i ? null : `the tabs, to Alt ${MODES.length}`, () => this.#offered(name) ? this.go(name) : false);
    });
    this.#show();
  }

  #offered(name) {
    const mode = MODES.find(([other]) => other === name);
    return Boolean(mode) && (mode[2] === null || !known.card() || known.takes(mode[2]));
  }

  #show() {
    const name = this.name();
    for (const tab of this.tabs) {
      const chosen = tab.dataset.name === name;
      tab.hidden = !this.#offered(tab.dataset.name);
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    for (const section of document.querySelectorAll(".mode")) section.hidden = section.dataset.mode !== name;
    document.documentElement.dataset.mode = name;
    this.dispatchEvent(new Event("change"));
  }

  #arrows(event) {
    const seen = this.tabs.filter((tab) => !tab.hidden), at = seen.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: seen.length - 1 }[event.key];
    if (next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const tab = seen.at(next % seen.length);
    tab.focus();
    tab.click();
  }
}

export const modes = new Modes();
