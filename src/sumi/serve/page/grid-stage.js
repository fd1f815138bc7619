// <grid-stage>: one request with one, two or three of its settings varied; a job for each picture,
// and a table that fills while they are made.

import { MODEL } from "./axes.js";
import { el, say } from "./dom.js";
import { cardOf } from "./grid-fields.js";
import { GridForm, many } from "./grid-form.js";
import { Grid, remember, remembered } from "./grid-run.js";
import { sheet } from "./grid-sheet.js";
import { called, GridTable } from "./grid-table.js";
import { ENDED, jobs } from "./jobs.js";
import { key } from "./keys.js";
import { known } from "./known.js";
import { prefs } from "./state.js";

const SIDES = { least: 48, most: 384, usual: 240 }, BESIDE = 100;   // pixels: of a picture in the table, and of what stands beside a row

class GridStage extends HTMLElement {
  #form = null; #grid = null; #table = null; #due = null; #busy = false;
  #made; #status; #tabs; #place; #facts; #why; #actions; #earlier; #side;

  connectedCallback() {
    if (this.#form) return;
    this.#build();
    prefs.addEventListener("change", ({ detail }) => detail.has("grids") && this.#list());
    known.addEventListener("change", () => this.#begin());
    document.addEventListener("studio:left", ({ detail }) => this.#table?.go(detail.id));   // what was looked at last, elsewhere
    this.#keys();
    this.#begin();
  }

  #begin() {
    if (!known.card()) return;
    this.#form.offer();
    this.#list();
    if (!this.#grid) this.#show(remembered()[0]);
  }

  // What the studio's own Make button and Ctrl+Enter do while this is in front.
  async make() {
    await this.#try(async () => {
      const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
      const grid = await this.#show({ id, at: Date.now(), ...await this.#form.asked() });
      remember(grid);
      await grid.make();
    });
  }

  // The way of a grid of cells, as the ARIA Authoring Practices have it.
  #keys() {
    const when = () => Boolean(this.#table?.element.contains(document.activeElement));
    const moves = [
      ["ArrowLeft", -1, 0], ["ArrowRight", 1, 0], ["ArrowUp", 0, -1], ["ArrowDown", 0, 1],
      ["Home", -Infinity, 0], ["End", Infinity, 0],
    ];
    const told = { ArrowLeft: "the cell beside it", ArrowUp: "the cell above or below", Home: "the ends of the row" };
    for (const [combo, across, down] of moves)
      key(combo, told[combo] ? `in a grid: ${told[combo]}` : null, () => this.#table.move(across, down), { when });
    key("PageUp", "in a grid: the sheet before", () => this.#turn(this.#table.sheet - 1), { when });
    key("PageDown", "in a grid: the sheet after", () => this.#turn(this.#table.sheet + 1), { when });
  }

  #build() {
    this.#form = new GridForm(() => this.make());
    const button = (text, run) => el("button", { type: "button", class: "button", text, onclick: run });
    this.#actions = {
      stop: button("Stop", () => this.#try(() => this.#grid.stop())),
      rest: button("Make the rest", () => this.#try(() => this.#grid.make())),
      save: button("Download the sheet", () => this.#try(() => this.#download())),
      take: button("Change it", () => this.#form.take(this.#grid)),
    };
    this.#status = el("p", { class: "state", role: "status" });
    this.#earlier = el("select", {
      id: "grid-earlier", onchange: () => this.#show(remembered().find(({ id }) => id === this.#earlier.value)),
    });
    this.#side = el("input", {
      id: "grid-side", type: "range", min: SIDES.least, max: SIDES.most, step: 16,
      oninput: () => this.#sized(), onchange: () => prefs.set({ gridSide: Number(this.#side.value) }),
    });
    this.#tabs = el("div", { class: "sheets", role: "tablist", "aria-label": "sheets", onkeydown: (event) => this.#turnBy(event) });
    this.#place = el("div", { class: "place", id: "grid-sheet" });
    this.#facts = el("p", { class: "facts" });
    this.#why = el("ul", { class: "wrongs", hidden: true });
    this.#made = el("section", { class: "made", "aria-label": "The grid", hidden: true },
      el("div", { class: "head" }, this.#status, el("div", { class: "actions" }, Object.values(this.#actions))),
      this.#facts, this.#why, this.#tabs, this.#place,
      el("div", { class: "foot" },
        el("span", {}, el("label", { for: "grid-side", text: "size" }), " ", this.#side),
        el("span", {}, el("label", { for: "grid-earlier", text: "grids" }), " ", this.#earlier)));
    this.replaceChildren(this.#form.element, this.#made);
  }

  async #try(run) {
    try {
      return await run();
    } catch (error) {
      say(error.message, { kind: "error" });
    }
  }

  async #show(told) {
    if (!told) return;
    this.#grid?.close();
    const grid = this.#grid = new Grid(told);
    const [, , z] = grid.axes;
    this.#table = new GridTable(grid, {
      card: cardOf(known, grid.base.model),
      open: (cell) => this.#open(cell), again: (cell) => this.#try(() => grid.again(cell)), turn: (sheet) => this.#turn(sheet),
    });
    this.#tabs.hidden = !z;
    this.#tabs.replaceChildren(...(z?.values ?? []).map((_, i) => el("button", {
      type: "button", role: "tab", id: `grid-tab-${i}`, "aria-controls": "grid-sheet", onclick: () => this.#turn(i),
    }, called(z, i), el("span", { class: "soft" }))));
    for (const name of ["role", "aria-labelledby"]) this.#place.removeAttribute(name);
    if (z) this.#place.setAttribute("role", "tabpanel");
    this.#place.replaceChildren(this.#table.element);
    this.#facts.replaceChildren(...this.#described());
    for (const kind of ["cell", "busy"]) grid.addEventListener(kind, () => this.#soon());
    this.#made.hidden = false;
    this.#fit();
    this.#turn(0);
    this.#list();
    this.#tell();
    await this.#try(() => grid.load());
    return grid;
  }

  #described() {
    const { request, model } = this.#grid.base;
    const varied = new Set(this.#grid.axes.filter(Boolean).map(({ name }) => name));
    const told = ["seed", "steps", "guidance", "sampler", "spacing"].filter((name) => request[name] != null && !varied.has(name));
    const facts = told.map((name) => `${name} ${request[name]}`);
    if (model && !varied.has(MODEL)) facts.push(model);
    return [el("q", { text: request.prompt || "no words" }), ` ${["", ...facts].join(" · ")}`];
  }

  #turn(sheet) {
    if (sheet < 0 || sheet >= Math.max(1, this.#tabs.children.length)) return;
    this.#table.draw(sheet);
    [...this.#tabs.children].forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === sheet));
      tab.tabIndex = i === sheet ? 0 : -1;
    });
    if (this.#tabs.children.length) this.#place.setAttribute("aria-labelledby", `grid-tab-${sheet}`);
  }

  #turnBy(event) {
    const last = this.#tabs.children.length - 1, now = this.#table.sheet;
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.#turn(to);
    this.#tabs.children[this.#table.sheet].focus();
  }

  // Many cells that change at once are told once.
  #soon() {
    this.#due ??= setTimeout(() => {
      this.#due = null;
      this.#tell();
    }, 20);
  }

  #tell() {
    const grid = this.#grid, total = grid.cells.length, done = grid.count("done"), failed = grid.count("failed");
    const live = grid.live(), busy = grid.asking || live.length > 0;
    if (this.#busy && !busy) this.#form.measure();
    this.#busy = busy;
    const left = busy ? this.#form.time(grid.cells.filter(({ job }) => !job || !ENDED.includes(job.state))) : null;
    const refused = grid.cells.filter(({ error }) => error).length;
    const parts = [`${done} of ${many(total)}`, failed + refused && `${failed + refused} failed`, left && `${left} left`];
    const text = parts.filter(Boolean).join(", ");
    if (this.#status.textContent !== text) this.#status.textContent = text;
    const wrongs = grid.cells.map(({ job, error }) => error ?? (job?.state === "failed" ? job.error.message : null));
    const why = [...new Set(wrongs)].filter(Boolean);
    this.#why.hidden = !why.length;
    this.#why.replaceChildren(...why.slice(0, 3).map((message) => el("li", { text: message })));
    this.#made.style.setProperty("--done", `${100 * done / total}%`);
    const missing = grid.missing().length;
    this.#actions.stop.hidden = !busy;
    this.#actions.rest.hidden = busy || !missing;
    this.#actions.rest.textContent = `Make ${missing === total ? "all" : "the other"} ${missing}`;
    this.#actions.save.disabled = !done;
    const rows = total / this.#tabs.children.length;
    [...this.#tabs.children].forEach((tab, i) => {
      const made = grid.cells.slice(i * rows, (i + 1) * rows).filter(({ job }) => job?.state === "done").length;
      tab.querySelector(".soft").textContent = made < rows ? ` · ${made} of ${rows}` : "";
    });
  }

  #list() {
    const when = (at) => new Date(at).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
    const what = (axes) => axes.filter(Boolean).map(({ name }) => name).join(" × ");
    this.#earlier.replaceChildren(...remembered().map(({ id, at, base, axes }) =>
      el("option", { value: id, text: `${when(at)}, ${what(axes)}, ${base.request.prompt || "no words"}`.slice(0, 80) })));
    if (this.#grid) this.#earlier.value = this.#grid.id;
  }

  // The arrows of what opens go from cell to cell.
  #open(cell) {
    const among = this.#grid.cells.filter(({ job }) => job?.state === "done").map(({ job }) => job.pictures[0]);
    document.dispatchEvent(new CustomEvent("studio:show", { detail: { ...cell.job.pictures[0], among } }));
  }

  // As large as all columns have room for, unless someone chose a size.
  #fit() {
    const columns = this.#grid.axes[0]?.values.length ?? 1;
    const room = (this.#place.clientWidth || 2 * SIDES.usual) - (this.#grid.axes[1] ? BESIDE : 0);
    this.#side.value = prefs.get("gridSide") ?? Math.max(SIDES.least, Math.min(SIDES.usual, Math.floor(room / columns / 16) * 16 - 16));
    this.#sized();
  }

  #sized() {
    const { least, most } = SIDES;
    this.#side.style.setProperty("--done", `${100 * (this.#side.value - least) / (most - least)}%`);
    if (this.#table) this.#table.side = this.#side.value;
  }

  async #download() {
    const blob = await sheet(this.#grid, cardOf(known, this.#grid.base.model));
    const url = URL.createObjectURL(blob);
    el("a", { href: url, download: `grid-${this.#grid.id}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

customElements.define("grid-stage", GridStage);
