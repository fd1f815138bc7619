// <parameter-list>: the settings of a request, by group, as the server tells of them. Only what differs from the default is ever sent.

import { control } from "./field-control.js";
import { el, say } from "./dom.js";
import { known } from "./known.js";
import { modes } from "./modes.js";
import { options } from "./option-fields.js";
import { size } from "./size-field.js";
import { prefs, settings } from "./state.js";

// Always in reach, in this order; all the rest under the headings that the server gives.
const FIRST = ["steps", "guidance", "sampler", "seed", "width"];
// Those that have their own place on the page.
const ELSEWHERE = ["prompt", "negative", "image", "mask", "map", "low_res", "outpaint", "digests", "count", "height"];
const GIVEN = { image: ["image"], paint: ["image", "mask", "outpaint"], enlarge: ["low_res"], map: ["map"] };

class ParameterList extends HTMLElement {
  #controls = [];
  #drawn = "";

  connectedCallback() {
    this.reset = el("button", { type: "button", class: "plain", text: "Reset all", onclick: () => this.#reset() });
    this.groups = el("div");
    this.append(el("header", {}, el("h2", { text: "Settings" }), this.reset), this.groups);
    for (const source of [known, settings, modes]) source.addEventListener("change", () => this.#show());
    document.addEventListener("studio:shows", ({ detail }) => { this.seed = detail?.seed ?? null; this.#show(); });
    document.addEventListener("studio:wrong", ({ detail }) => this.#wrong(detail));
    this.#show();
  }

  #build() {
    const fields = known.fields.filter(({ name }) => !ELSEWHERE.includes(name));
    const made = new Map(fields.map((field) => [field.name, this.#control(field)]));
    this.#controls = [...made.values()];
    const taken = (names) => names.flatMap((name) => made.get(name)?.element ?? []);
    const groups = Map.groupBy(fields.filter(({ name }) => !FIRST.includes(name)), ({ group }) => group);
    this.groups.replaceChildren(
      el("div", { class: "fields" }, ...taken(FIRST)),
      ...[...groups].map(([group, inside]) => this.#group(group, taken(inside.map(({ name }) => name)))));
  }

  #group(group, fields) {
    const title = group.replace(/ \(.*/, ""), name = `group ${title}`;
    return el("details", { open: Boolean(prefs.get(name)), ontoggle: ({ target }) => prefs.set({ [name]: target.open || null }) },
      el("summary", {}, title.charAt(0).toUpperCase() + title.slice(1), el("b")), el("div", { class: "fields" }, ...fields));
  }

  #control(field) {
    const { name } = field;
    const usual = () => String(known.card()?.[name] ?? field.default ?? /\(default: ([\d.]+)/.exec(field.doc)?.[1] ?? "");
    const labels = () => known.card().labels.map((label) => ({ name: label }));
    const lists = { sampler: () => known.samplers, spacing: () => known.spacings, label: known.card()?.labels.length ? labels : null };
    if (name === "options") return options(field);
    if (name === "width") return size();
    return control(field, usual, { choices: lists[name] ?? null, shown: () => this.seed ?? null });
  }

  #reset() {
    const before = settings.all();
    settings.set(Object.fromEntries(this.#set().map((name) => [name, null])));
    say("All settings are the defaults again", { action: { label: "Undo", run: () => settings.replace(before) } });
  }

  #set() { return Object.keys(settings.all()).filter((name) => !["prompt", "negative", "model"].includes(name)); }

  // A field that would mean nothing now is not shown; one that stands in the way is, whatever it is.
  #seen(name) {
    if (settings.get(name) !== null && name !== "eta" && known.applies(name, this.#given)) return true;
    const card = known.card(), sampler = known.samplers.find((one) => one.name === (settings.get("sampler") ?? card?.sampler));
    if (["label", "depth", "like"].includes(name)) return known.takes(name);
    if (name === "eta") return settings.get("eta") !== null || sampler?.eta === true;
    if (["emphasis", "clip_skip"].includes(name) && card && !card.prompt) return false;
    return known.applies(name, this.#given);
  }

  #given = (name) => settings.get(name) !== null || (GIVEN[modes.name()] ?? []).includes(name);

  #show() {
    const card = known.card();
    const drawn = JSON.stringify([known.fields.map(({ name }) => name), card?.labels]);
    if (this.#drawn !== drawn && card) {
      this.#drawn = drawn;
      this.#build();
    }
    for (const { element, show, name } of this.#controls) {
      element.hidden = !this.#seen(name);
      if (!element.hidden) show();
    }
    for (const details of this.groups.querySelectorAll("details")) {
      const fields = [...details.querySelectorAll(".fields > .field")].filter(({ hidden }) => !hidden);
      const changed = fields.filter(({ classList }) => classList.contains("changed")).length;
      details.hidden = !fields.length;
      details.querySelector("summary b").textContent = changed ? `${changed} set` : "";
    }
    this.reset.disabled = !this.#set().length;
  }

  #wrong(problem) {
    for (const one of this.#controls) {
      if (one.name !== (problem?.param === "height" ? "width" : problem?.param)) continue;
      one.tell(problem.message);
      const details = one.element.closest("details");
      if (details) details.open = true;
    }
  }
}
customElements.define("parameter-list", ParameterList);