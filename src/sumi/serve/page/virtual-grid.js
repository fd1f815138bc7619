// A grid of square cells of which only those exist that can be seen, and a few rows around them: rows go round, whatever the length.
//   new VirtualGrid(box, {label, make() -> cell, fill(cell, index, hurried), seen(first, last, hurried)}): `box` scrolls; rows, cells and
//     their places are made and named here, what is in a cell by `fill`. hurried: it scrolls so fast that pictures would only flash by.
//   .show({count, size}): lays it out anew; .draw(): fills what is seen again; .reveal(index): scrolls no further than needed;
//   .lead(index): puts its row at the upper edge
//   .pin: the index of a cell that stays, seen or not (it has the focus), or null
import { el } from "./dom.js";

export const GAP = 4;
const AROUND = 2;          // rows above and below what is seen
const TALLEST = 16e6;      // browsers cut elements off at some 17 or 33 million pixels: beyond this, cells become smaller
const SETTLED = 90;        // milliseconds without scrolling after which it is no longer hurried

export class VirtualGrid {
  count = 0;
  columns = 1;
  side = 0;
  pin = null;
  #rows = new Map();
  #free = [];
  #top = 0;
  #size = 110;
  #frame = 0;
  #settling = 0;
  #hurried = false;

  constructor(box, { label, make, fill, seen }) {
    Object.assign(this, { box, make, fill, seen });
    this.body = el("div", { class: "rows", role: "rowgroup" });
    this.grid = el("div", { class: "grid", role: "grid", "aria-label": label, "aria-multiselectable": "true" }, this.body);
    box.append(this.grid);
    box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(box);
  }

  get pitch() { return this.side + GAP; }
  get last() { return Math.ceil(this.count / this.columns) - 1; }

  show({ count = this.count, size = this.#size } = {}) {
    const held = this.#held();
    this.count = count;
    this.#size = size;
    this.#measure();
    if (held) this.box.scrollTop = Math.floor(held.index / this.columns) * this.pitch + held.over;
    this.draw();
  }

  // The cells that are there, by index.
  cell(index) {
    return this.#rows.get(Math.floor(index / this.columns))?.children[index % this.columns] ?? null;
  }

  index(cell) {
    return cell.parentElement.row * this.columns + [...cell.parentElement.children].indexOf(cell);
  }

  // First and last index of what is wholly or mostly in sight.
  sight() {
    const first = Math.round(this.box.scrollTop / this.pitch) * this.columns;
    const rows = Math.max(1, Math.round(this.box.clientHeight / this.pitch));
    return [Math.min(first, Math.max(0, this.count - 1)), Math.min(first + rows * this.columns, this.count) - 1];
  }

  reveal(index) {
    const top = Math.floor(index / this.columns) * this.pitch, height = this.box.clientHeight;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + this.pitch > this.box.scrollTop + height) this.box.scrollTop = top + this.pitch - height;
    this.#lay();
  }

  lead(index) {
    this.box.scrollTop = Math.floor(index / this.columns) * this.pitch;
    this.#lay();
  }

  draw() {
    for (const [row, element] of this.#rows) this.#fill(element, row);
    this.#lay();
  }

  #resized() {
    if (this.box.clientWidth) this.show();
  }

  // What stands at the upper edge, so that it does so after a change of width too.
  #held() {
    if (!this.side || this.box.scrollTop < this.pitch) return null;
    const row = Math.floor(this.box.scrollTop / this.pitch);
    return { index: row * this.columns, over: this.box.scrollTop - row * this.pitch };
  }

  #measure() {
    const width = this.box.clientWidth - 2 * GAP;
    const fitting = Math.max(2, Math.floor((width + GAP) / (this.#size + GAP)), Math.ceil(Math.sqrt(this.count * width / TALLEST)));
    const side = Math.max(0, Math.floor((width - (fitting - 1) * GAP) / fitting));   // 0: it is not shown
    if (side !== this.side || fitting !== this.columns) {
      this.columns = fitting;
      this.side = side;
      this.grid.style.setProperty("--columns", fitting);
      this.grid.style.setProperty("--side", `${side}px`);
      for (const element of this.#rows.values()) element.remove();
      this.#rows.clear();
      this.#free = [];
    }
    this.grid.setAttribute("aria-rowcount", this.last + 1);
    this.grid.setAttribute("aria-colcount", fitting);
    this.body.style.height = `${(this.last + 1) * this.pitch}px`;
  }

  #scrolled() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      const top = this.box.scrollTop;
      this.#hurried = Math.abs(top - this.#top) > this.box.clientHeight / 2;
      this.#top = top;
      clearTimeout(this.#settling);
      if (this.#hurried) this.#settling = setTimeout(() => { this.#hurried = false; this.draw(); }, SETTLED);
      this.#lay();
    });
  }

  #lay() {
    if (!this.side || !this.count) {
      for (const element of this.#rows.values()) element.remove();
      this.#rows.clear();
      return;
    }
    const top = this.box.scrollTop, pitch = this.pitch;
    const first = Math.max(0, Math.floor(top / pitch) - AROUND);
    const last = Math.min(this.last, Math.floor((top + this.box.clientHeight) / pitch) + AROUND);
    const pinned = this.pin === null || this.pin >= this.count ? null : Math.floor(this.pin / this.columns);
    for (const [row, element] of this.#rows) {
      if ((row >= first && row <= last) || row === pinned) continue;
      this.#rows.delete(row);
      this.#free.push(element);
    }
    // In the order of their numbers, for those who have them read; what has the focus stays where it is, for it would lose it. Those
    // that are free are used from the last on, so that a leap, which frees all, moves none of them in the document.
    this.#free.sort((one, other) => one.row - other.row);
    let next = null;
    if (pinned < first && pinned !== null) this.#rows.get(pinned) ?? this.#place(pinned, this.body.firstElementChild);
    if (pinned > last) next = this.#rows.get(pinned) ?? this.#place(pinned, null);
    for (let row = last; row >= first; row--) next = this.#rows.get(row) ?? this.#place(row, next);
    for (const element of this.#free) element.remove();
    this.seen(Math.max(0, first * this.columns), Math.min(this.count, (last + 1) * this.columns) - 1, this.#hurried);
  }

  #place(row, next) {
    const element = this.#free.pop() ?? el("div", { class: "row", role: "row" }, ...Array.from({ length: this.columns }, (_, i) => {
      const cell = this.make();
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-colindex", i + 1);
      return cell;
    }));
    this.#rows.set(row, element);
    element.row = row;
    element.style.transform = `translateY(${row * this.pitch}px)`;
    element.setAttribute("aria-rowindex", row + 1);
    this.#fill(element, row);
    if (element.parentNode !== this.body || element.nextSibling !== next) this.body.insertBefore(element, next);
    return element;
  }

  #fill(element, row) {
    for (let i = 0; i < this.columns; i++) {
      const cell = element.children[i], index = row * this.columns + i;
      const none = index >= this.count;
      if (cell.hidden !== none) cell.hidden = none;
      if (!none) this.fill(cell, index, this.#hurried);
    }
  }
}
