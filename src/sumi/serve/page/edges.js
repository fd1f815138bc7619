// Handles at the four edges of an easel, and fields beside it, that draw the picture out: in steps that the model can draw.
//   new Edges(easel, {change(margins)}): .handles lie on the easel, .fields are the numbers;
//     .limit({multiple, side, pixels}); .set(margins)

import { number } from "./controls.js";
import { el } from "./dom.js";

const SIDES = ["left", "top", "right", "bottom"];
const OUT = { left: "ArrowLeft", top: "ArrowUp", right: "ArrowRight", bottom: "ArrowDown" };
const BACK = { left: "ArrowRight", top: "ArrowDown", right: "ArrowLeft", bottom: "ArrowUp" };

export class Edges {
  #easel;
  #change;
  #margins = [0, 0, 0, 0];
  #most = { multiple: 8, side: 1024, pixels: 1024 ** 2 };
  #drag = null;

  constructor(easel, { change }) {
    this.#easel = easel;
    this.#change = change;
    this.handles = SIDES.map((side, i) => el("button", {
      type: "button", class: `edge ${side}`, role: "slider", "data-own": true, "aria-label": `Draw more on the ${side}`, "aria-valuemin": 0,
      "aria-orientation": i % 2 ? "vertical" : "horizontal",
      onpointerdown: (event) => this.#grip(event, i), onpointermove: (event) => this.#pull(event), onpointerup: () => this.#drop(),
      onpointercancel: () => this.#drop(), onkeydown: (event) => this.#key(event, i),
    }, el("i")));
    this.numbers = SIDES.map((side, i) => number(side, { min: 0, max: 4096, change: (now) => this.#to(i, now) }));
    this.total = el("output", { class: "total" });
    this.fields = el("fieldset", { class: "edges" }, el("legend", { text: "Draw more beyond the edges" }), ...this.numbers, this.total);
    easel.append(...this.handles);
    easel.addEventListener("view", () => this.#place());
  }

  get margins() { return this.#margins; }

  limit(most) {
    this.#most = most;
    this.numbers.forEach(({ input }) => { input.step = most.multiple; });
  }

  set(margins, { refit = true } = {}) {
    this.#margins = margins;
    margins.forEach((margin, i) => {
      this.numbers[i].value = margin;
      this.handles[i].setAttribute("aria-valuenow", margin);
      this.handles[i].setAttribute("aria-valuemax", this.#room(i));
      this.handles[i].setAttribute("aria-valuetext", `${margin} pixels`);
    });
    const [left, top, right, bottom] = margins, { width, height } = this.#easel;
    this.total.textContent = margins.some(Boolean) ? `${left + width + right} × ${top + height + bottom} pixels in all` : "";
    this.#easel.extend(margins, refit);
    this.#place();
  }

  // How far an edge may be drawn out while the others are where they are.
  #room(i) {
    const { multiple, side, pixels } = this.#most, [left, top, right, bottom] = this.#margins.map((margin, j) => j === i ? 0 : margin);
    const width = left + this.#easel.width + right, height = top + this.#easel.height + bottom;
    const [along, across] = i % 2 ? [height, width] : [width, height];
    return Math.max(0, Math.floor((Math.min(side, pixels / across) - along) / multiple) * multiple);
  }

  #to(i, margin, how) {
    const { multiple } = this.#most;
    const now = Math.min(Math.max(Math.round(margin / multiple) * multiple, 0), this.#room(i));
    const margins = this.#margins.with(i, now);
    const other = now !== this.#margins[i];
    this.set(margins, how);
    if (other) this.#change(margins);
  }

  #grip(event, i) {
    if (event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    const handle = this.handles[i];
    handle.focus({ preventScroll: true });
    handle.setPointerCapture(event.pointerId);
    const at = i % 2 ? event.clientY : event.clientX;
    this.#drag = { i, at, from: this.#margins[i], scale: this.#easel.view.scale / this.#easel.ratio };
  }

  #pull({ clientX, clientY }) {
    if (!this.#drag) return;
    const { i, at, from, scale } = this.#drag, moved = ((i % 2 ? clientY : clientX) - at) / scale;
    this.#to(i, from + (i < 2 ? -moved : moved), { refit: false });
  }

  #drop() {
    if (!this.#drag) return;
    this.#drag = null;
    this.set(this.#margins);
  }

  #key(event, i) {
    const { multiple } = this.#most, side = SIDES[i], now = this.#margins[i];
    const to = {
      [OUT[side]]: now + multiple, [BACK[side]]: now - multiple,
      PageUp: now + 4 * multiple, PageDown: now - 4 * multiple,
      Home: 0, End: this.#room(i),
    }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.#to(i, to);
  }

  #place() {
    const easel = this.#easel, { view, width, height, ratio } = easel, [left, top, right, bottom] = this.#margins;
    const [x, y] = view.from(-left, -top).map((at) => at / ratio);
    const [toX, toY] = view.from(width + right, height + bottom).map((at) => at / ratio);
    const within = (at, most) => Math.min(Math.max(at, 14), most - 14);
    const places = [[x, (y + toY) / 2], [(x + toX) / 2, y], [toX, (y + toY) / 2], [(x + toX) / 2, toY]];
    places.forEach(([across, down], i) => Object.assign(this.handles[i].style, {
      left: `${within(across, easel.clientWidth)}px`, top: `${within(down, easel.clientHeight)}px`,
    }));
  }
}
