// What a grid is asked for with: its axes, where it starts from, and how many pictures that is.
//   new GridForm(ask): .element; ask() is called when it is sent. .offer() once it is known what there is
//   .asked() -> {base, axes} for a Grid, or throws an Error; .take({base, axes}): those of a grid again
//   .measure() looks how long pictures took of late; .time(cells) -> "about 9 seconds", or null while nothing is known

import { api } from "./api.js";
import { AxisEditor } from "./axis-editor.js";
import { cells, listed } from "./axes.js";
import { el } from "./dom.js";
import { cost, duration, pace } from "./estimate.js";
import { axisFields, cardOf } from "./grid-fields.js";
import { known } from "./known.js";
import { prefs, settings } from "./state.js";

const AXES = [["x", "from left to right"], ["y", "from top to bottom"], ["z", "sheet by sheet"]];
// Where a grid may start: [as it is called, the fields that the stage of that mode fills].
const BASES = {
  words: ["the words alone", []], image: ["the picture under Image", ["image"]], paint: ["what is painted under Paint", ["image", "mask"]],
  map: ["the map under Map", ["map"]], enlarge: ["the picture under Enlarge", ["low_res"]],
};
const set = (request) => Object.fromEntries(Object.entries(request).filter(([, value]) => value !== null && value !== undefined));
const seed = () => crypto.getRandomValues(new Uint32Array(1))[0];
export const many = (n) => `${n.toLocaleString("en")} picture${n === 1 ? "" : "s"}`;

export class GridForm {
  #editors; #base; #make; #plan;
  #pace = null;

  constructor(ask) {
    this.#editors = AXES.map(([letter, title]) => new AxisEditor(letter, title));
    for (const editor of this.#editors) editor.addEventListener("change", () => this.#keep());
    this.#base = el("select", { id: "grid-base", onchange: () => this.#keep() });
    this.#plan = el("p", { class: "plan", role: "status" });
    this.#make = el("button", { type: "submit", class: "primary", text: "Make the grid", title: "Ctrl+Enter", disabled: true });
    this.element = el("form", { onsubmit: (event) => { event.preventDefault(); ask(); } },
      el("div", { class: "axes" }, this.#editors.map(({ element }) => element)),
      el("div", { class: "begin" },
        el("span", {}, el("label", { for: "grid-base", text: "starting from" }), " ", this.#base),
        el("button", { type: "button", class: "plain", text: "Swap X and Y", onclick: () => this.#swap() })),
      el("div", { class: "go" }, this.#make, this.#plan));
    settings.addEventListener("change", () => known.card() && this.#replan());
  }

  offer() {
    const fields = axisFields(known);
    const kept = prefs.get("gridAxes") ?? [{ name: "steps", text: "" }];
    this.#editors.forEach((editor, i) => {
      editor.offer(fields);
      editor.set(kept[i] ?? {});
    });
    const bases = Object.entries(BASES).filter(([, [, given]]) => given.every((name) => known.takes(name)));
    this.#base.replaceChildren(...bases.map(([name, [text]]) => el("option", { value: name, text })));
    const base = prefs.get("gridBase");
    this.#base.value = bases.some(([name]) => name === base) ? base : "words";
    this.#replan();
    this.measure();
  }

  async asked() {
    const axes = this.#axes();
    if (!axes.some(Boolean)) throw new Error("A grid varies something: choose a setting and list its values");
    const mode = this.#base.value;
    const given = mode === "words" ? {} : await document.querySelector(`${mode}-stage`).overrides();
    const base = this.#fitting(this.#shared(given), axes);
    base.request.seed ??= seed();
    return { base: { ...base, varied: seed() }, axes };
  }

  take({ base, axes }) {
    settings.use({ ...base.request, model: base.model });
    this.#editors.forEach((editor, i) => editor.set(axes[i] ? { name: axes[i].name, text: listed(axes[i].values) } : {}));
    this.#keep();
    this.element.scrollIntoView({ block: "nearest" });
    this.#editors[0].element.querySelector("select").focus();
  }

  time(wanted) {
    if (!this.#pace) return null;
    const total = wanted.reduce((sum, { request, model }) => sum + cost(request, cardOf(known, model)), 0);
    return `about ${duration(total * this.#pace)}`;
  }

  // By the pictures that were made last.
  async measure() {
    try {
      const { jobs: done } = await api.get("/v1/jobs?state=done&limit=50");
      this.#pace = pace(done, known.card());
    } catch {
      return;   // no more than an estimate is missing
    }
    this.#replan();
  }

  #keep() {
    prefs.set({ gridAxes: this.#editors.map((editor) => editor.get()), gridBase: this.#base.value });
    this.#replan();
  }

  #swap() {
    const [x, y] = this.#editors.map((editor) => editor.get());
    this.#editors[0].set(y);
    this.#editors[1].set(x);
    this.#keep();
  }

  #axes() { return this.#editors.map((editor) => editor.axis()); }

  // What all pictures share: the settings, and what the mode that it starts from adds to them.
  #shared(given) {
    const { model = null, count, ...request } = { ...settings.all(), ...given };
    return { model, request: set(request), varied: null };
  }

  // Settings that mean nothing here are left out, as elsewhere; but nobody varies such a thing on purpose.
  #fitting(base, axes) {
    const names = axes.flatMap((axis) => axis ? [axis.name] : []);
    const given = (name) => names.includes(name) || base.request[name] !== undefined && base.request[name] !== false;
    const idle = names.find((name) => !known.applies(name, given));
    if (idle)
      throw new Error(`${idle.replaceAll("_", " ")} changes nothing here: choose another mode to start from, or set what it belongs to`);
    return { ...base, request: Object.fromEntries(Object.entries(base.request).filter(([name]) => known.applies(name, given))) };
  }

  #replan() {
    let text = "Choose what varies, and list its values.", ready = false;
    try {
      const axes = this.#axes();
      if (axes.some(Boolean)) {
        const pictures = Object.fromEntries(BASES[this.#base.value][1].map((name) => [name, "given"]));   // which ones, is asked in the end
        text = this.#foretold(axes, cells(this.#fitting(this.#shared(pictures), axes), axes));
        ready = true;
      }
    } catch (error) {
      text = error.message;
    }
    this.#make.disabled = !ready;
    this.#plan.textContent = text;
  }

  #foretold(axes, wanted) {
    const [x, y, z] = axes.map((axis) => axis?.values.length ?? 1);
    const shape = wanted.length === 1 ? "" : `, ${x} across${y > 1 ? ` and ${y} down` : ""}${z > 1 ? `, on ${z} sheets` : ""}`;
    return `${many(wanted.length)}${shape}: ${this.time(wanted) ?? "how long it takes is known once a picture was made"}.`;
  }
}
