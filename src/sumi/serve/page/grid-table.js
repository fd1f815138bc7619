// The table of a grid, filled while its pictures are made: one sheet of it, the others are behind tabs.
//   new GridTable(grid, {card, open(cell), again(cell)}): .element; .draw(sheet) shows the sheet of that number along z; .side = pixels
//   .move(across, down), .go(id of a picture): where the focus is, if it is in the table

import { heading } from "./axes.js";
import { el } from "./dom.js";

const edge = (axis, number) => axis ? heading(axis.name, axis.values[number]) : ["", ""];
const label = ([name, value]) => [name && el("span", { class: "soft", text: `${name} ` }), value];
export const called = (axis, number) => edge(axis, number).filter(Boolean).join(" ");

export class GridTable {
  element = el("div", { class: "cells" });
  sheet = 0;
  #grid; #how; #buttons = new Map(); #at = [0, 0]; #columns; #rows;

  constructor(grid, how) {
    this.#grid = grid;
    this.#how = how;
    [this.#columns, this.#rows] = grid.axes.map((axis) => axis ? axis.values.length : 1);
    grid.addEventListener("cell", ({ detail }) => this.#fill(detail));
  }

  set side(pixels) { this.element.style.setProperty("--side", `${pixels}px`); }

  cell(x, y, z = this.sheet) { return this.#grid.cells[(z * this.#rows + y) * this.#columns + x]; }

  draw(sheet) {
    const [x, y, z] = this.#grid.axes;
    const focused = this.element.contains(document.activeElement);
    this.sheet = sheet;
    this.#buttons.clear();
    const head = el("thead", { hidden: !x }, el("tr", {}, y && el("td", { class: "corner" }),
      Array.from({ length: this.#columns }, (_, i) => el("th", { scope: "col" }, ...label(edge(x, i)).filter(Boolean)))));
    const rows = Array.from({ length: this.#rows }, (_, j) => el("tr", {},
      y && el("th", { scope: "row" }, ...label(edge(y, j)).filter(Boolean)),
      Array.from({ length: this.#columns }, (_, i) => el("td", {}, this.#button(i, j)))));
    const what = [x, y].filter(Boolean).map(({ name }) => name.replaceAll("_", " ")).join(" by ") || "pictures";
    const title = z ? `${what}, ${called(z, sheet)}` : what;
    this.element.replaceChildren(el("table", { role: "grid", "aria-label": title }, head, el("tbody", {}, rows)));
    for (const cell of this.#buttons.keys()) this.#fill(cell);
    if (focused) this.#focus(this.#at);
  }

  #button(x, y) {
    const cell = this.cell(x, y);
    const button = el("button", {
      type: "button", class: "cell", tabindex: x === this.#at[0] && y === this.#at[1] ? 0 : -1,
      onclick: () => this.#press(cell), onfocus: () => this.#stand([x, y]),
    });
    this.#buttons.set(cell, button);
    return button;
  }

  #press(cell) {
    if (cell.job?.state === "done") this.#how.open(cell);
    else if (cell.error || !cell.job || ["failed", "cancelled"].includes(cell.job.state)) this.#how.again(cell);
  }

  #stand(at) {
    this.#button_at(this.#at)?.setAttribute("tabindex", -1);
    this.#at = at;
    this.#button_at(at)?.setAttribute("tabindex", 0);
  }

  // To the cell of a picture, if someone is in this table.
  go(id) {
    const cell = this.element.contains(document.activeElement) && this.#grid.cells.find(({ job }) => job?.pictures[0]?.id === id);
    if (!cell) return;
    const [x, y, z] = cell.place;
    if (z !== this.sheet) this.#how.turn(z);
    this.#focus([x, y]);
  }

  #button_at([x, y]) { return this.#buttons.get(this.cell(x, y)); }

  #focus(at) {
    this.#stand(at);
    const button = this.#button_at(at);
    button?.focus();
    button?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  // So many cells on, as far as there are any.
  move(across, down) {
    const [x, y] = this.#at;
    const within = (at, count) => Math.min(Math.max(at, 0), count - 1);
    this.#focus([within(x + across, this.#columns), within(y + down, this.#rows)]);
  }

  #fill(cell) {
    const button = this.#buttons.get(cell);
    if (!button) return;
    const { job, error, preview, request, place: [x, y] } = cell;
    const name = [called(this.#grid.axes[0], x), called(this.#grid.axes[1], y)].filter(Boolean).join(", ") || "picture";
    const [state, said, more] = told(job, error);
    const picture = job?.state === "done" ? job.pictures[0] : null;
    const [width, height] = [request.width ?? this.#how.card.width, request.height ?? this.#how.card.height];
    const source = picture ? (Math.max(width, height) > 256 ? picture.thumbnail : picture.url) : preview;
    button.dataset.state = state;
    button.classList.toggle("crisp", Math.max(width, height) < 256);
    button.style.setProperty("--shape", `${width} / ${height}`);
    button.setAttribute("aria-label", `${name}: ${[said, more].filter(Boolean).join("; ")}`);
    button.setAttribute("aria-disabled", String(["queued", "running"].includes(state)));
    let image = button.querySelector("img");
    if (!source) image?.remove();
    else if (!image) button.prepend(image = el("img", { alt: "", draggable: "false", onerror: () => lost(button) }));
    if (source && image.getAttribute("src") !== source) image.src = source;
    button.querySelector(".says")?.remove();
    if (state !== "done") {
      const bar = state === "running" && el("progress", { max: job.steps ?? 1, value: job.step ?? 0, "aria-hidden": "true" });
      button.append(el("span", { class: "says" }, el("span", { text: said }), more && el("b", { text: more }), bar));
    }
  }
}

// Its picture was removed.
function lost(button) {
  button.querySelector("img").remove();
  button.dataset.state = "gone";
  button.append(el("span", { class: "says", text: "no longer there" }));
}

const ordinal = (n) => `${n}${["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] ?? "th"}`;

function told(job, error) {
  if (error) return ["failed", error, "Try again"];
  switch (job?.state) {
    case undefined: return ["open", "not asked for", "Make it"];
    case "queued":
      return ["queued", job.position === null ? "in the queue" : job.position ? `${ordinal(job.position + 1)} in the queue` : "next", ""];
    case "running": return ["running", job.step === null ? "begins" : `step ${job.step} of ${job.steps}`, ""];
    case "failed": return ["failed", job.error.message, "Try again"];
    case "cancelled": return ["cancelled", "stopped", "Make it"];
    default: return ["done", "open", ""];
  }
}
