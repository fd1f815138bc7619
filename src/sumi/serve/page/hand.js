// What moves over an easel: a mouse, a pen with its pressure, fingers (one paints, two zoom and move), and a cross that arrow keys move.

const FAR = 8; // pixels that an arrow moves with Shift
const STROKES = ["brush", "eraser", "rectangle"];

export class Hand {
  cross = null; // the pixel that the keys stand on, once they were used
  #easel;
  #pointer = null; // where the mouse or the pen is, on the sheet
  #stroke = null; // {id, from, last, value}
  #fingers = new Map();
  #pinch = null;
  #moving = null;
  #corner = null; // of a rectangle that the keys began
  #down = false; // the key that paints is held, or was pressed to stay

  constructor(easel) {
    this.#easel = easel;
    const on = (kind, listen, options) => easel.addEventListener(kind, listen, options);
    on("pointerdown", (event) => this.#pressed(event));
    on("pointermove", (event) => this.#moved(event));
    for (const kind of ["pointerup", "pointercancel"]) on(kind, (event) => this.#lifted(event));
    on("pointerleave", () => this.#point(null));
    on("contextmenu", (event) => event.preventDefault());
    on("wheel", (event) => this.#wheel(event), { passive: false });
    on("keydown", (event) => this.#key(event));
    on("keyup", ({ key }) => { if (key === " ") this.#release(); });
    on("blur", () => { this.#release(); easel.mark(); });
    on("focus", () => easel.mark());
  }

  /** Whether a stroke is under way. */
  get busy() {
    return this.#stroke !== null || this.#down;
  }

  centre() {
    this.cross = this.#corner = null;
  }

  // A place on the sheet, of an event.
  #place({ clientX, clientY }) {
    const { left, top } = this.#easel.base.getBoundingClientRect(), { ratio, view } = this.#easel;
    const [x, y] = view.to((clientX - left) * ratio, (clientY - top) * ratio);
    return { x, y };
  }

  #screen({ clientX, clientY }) {
    const { left, top } = this.#easel.base.getBoundingClientRect(), { ratio } = this.#easel;
    return { x: (clientX - left) * ratio, y: (clientY - top) * ratio };
  }

  #size(event) {
    const share = event.pointerType === "pen" && event.pressure ? event.pressure : 1;
    return Math.max(1, Math.round(this.#easel.brush * share));
  }

  #pressed(event) {
    const easel = this.#easel;
    if (!easel.field || event.target.closest("[data-own]")) return;
    easel.focus({ preventScroll: true });
    this.#abandon();
    this.cross = null;
    if (event.pointerType === "touch") {
      this.#fingers.set(event.pointerId, this.#screen(event));
      if (this.#fingers.size > 1) {
        this.#abandon();
        this.#pinch = this.#spread();
        return;
      }
    }
    const move = event.button === 1 || (event.button === 0 && easel.tool === "move");
    if (!move && event.button !== 0) return;
    event.preventDefault();
    easel.setPointerCapture(event.pointerId);
    if (move) this.#moving = { id: event.pointerId, ...this.#screen(event) };
    else this.#begin({ ...this.#place(event), size: this.#size(event) }, event.pointerId);
  }

  #begin(place, id) {
    const easel = this.#easel, x = Math.floor(place.x), y = Math.floor(place.y);
    if (STROKES.includes(easel.tool)) {
      this.#stroke = { id, from: place, last: place };
      this.#reach(place);
    } else if (easel.field.inside(x, y)) {
      if (easel.tool === "pick") easel.emit("pick", easel.field.at(x, y));
      if (easel.tool === "fill") {
        easel.changed(easel.field.fill(x, y, easel.value));
        this.#ended();
      }
    }
  }

  #reach(place) {
    const easel = this.#easel, { field } = easel, stroke = this.#stroke;
    if (easel.tool === "rectangle") {
      easel.changed(field.revert());
      easel.changed(field.rectangle(stroke.from, place, easel.value));
    } else easel.changed(field.line(stroke.last, place, easel.tool === "eraser" ? field.ground : easel.value));
    stroke.last = place;
  }

  #ended() {
    this.#stroke = null;
    const easel = this.#easel, other = easel.field.commit();
    easel.settled();
    if (other) easel.emit("stroke");
  }

  #abandon() {
    if (!this.#stroke && !this.#corner) return;
    this.#stroke = this.#corner = null;
    this.#down = false;
    this.#easel.changed(this.#easel.field.revert());
    this.#easel.settled();
  }

  #moved(event) {
    const easel = this.#easel;
    if (!easel.field) return;
    if (this.#fingers.has(event.pointerId)) this.#fingers.set(event.pointerId, this.#screen(event));
    if (this.#pinch) return this.#pinched();
    if (this.#moving?.id === event.pointerId) {
      const { x, y } = this.#screen(event);
      easel.move(x - this.#moving.x, y - this.#moving.y);
      Object.assign(this.#moving, { x, y });
      return;
    }
    if (this.#stroke?.id === event.pointerId) {
      const points = event.getCoalescedEvents?.() ?? [];
      for (const point of points.length ? points : [event]) this.#reach({ ...this.#place(point), size: this.#size(point) });
    }
    this.#point(event.pointerType === "touch" ? null : this.#place(event));
  }

  #lifted(event) {
    this.#fingers.delete(event.pointerId);
    if (this.#fingers.size < 2) this.#pinch = null;
    if (this.#moving?.id === event.pointerId) this.#moving = null;
    if (this.#stroke?.id !== event.pointerId) return;
    if (event.type === "pointercancel") this.#abandon();
    else this.#ended();
  }

  #spread() {
    const [a, b] = [...this.#fingers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  }

  #pinched() {
    const now = this.#spread(), { x, y, apart } = this.#pinch;
    this.#easel.move(now.x - x, now.y - y);
    this.#easel.zoom(now.apart / apart, now);
    this.#pinch = now;
  }

  // The wheel scrolls the page, unless one is at work here.
  #wheel(event) {
    const easel = this.#easel;
    if (!easel.field || !(event.ctrlKey || document.activeElement === easel)) return;
    event.preventDefault();
    easel.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002) * (event.deltaMode ? 30 : 1)), this.#screen(event));
  }

  #point(place) {
    const easel = this.#easel;
    this.#pointer = place;
    easel.mark();
    const on = place && easel.field?.inside(Math.floor(place.x), Math.floor(place.y));
    easel.emit("point", on ? { x: Math.floor(place.x), y: Math.floor(place.y) } : null);
  }

  #key(event) {
    const easel = this.#easel, { key } = event;
    if (!easel.field || event.target !== easel || event.ctrlKey || event.altKey || event.metaKey) return;
    const to = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const zoom = { "+": 1.5, "=": 1.5, "-": 1 / 1.5 }[key];
    if (to) this.#walk(to, event.shiftKey ? FAR : 1);
    else if (key === " " && !event.repeat) this.#press();
    else if (key === "Enter") this.#down ? this.#release() : this.#press();
    else if (zoom) easel.zoom(zoom);
    else if (key === "0") easel.fit();
    else if (key === "Escape" && (this.#corner || this.#stroke)) this.#abandon();
    else if (key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
  }

  #walk([x, y], far) {
    const easel = this.#easel, { width, height } = easel;
    const from = this.#here();
    this.cross = { x: Math.min(Math.max(from.x + x * far, 0), width - 1), y: Math.min(Math.max(from.y + y * far, 0), height - 1) };
    if (this.#stroke) this.#reach(this.#tip());
    else if (this.#corner) this.#framed();
    easel.mark();
    this.#tell();
  }

  // What is under the cross, also for who listens.
  #tell() {
    const easel = this.#easel, { x, y } = this.#here();
    easel.heard.textContent = easel.describe(x, y);
    easel.emit("point", { x, y });
  }

  // Where the keys stand: at first in the middle.
  #here() {
    const { width, height } = this.#easel;
    return this.cross ??= { x: Math.floor(width / 2), y: Math.floor(height / 2) };
  }

  #tip() {
    const { x, y } = this.#here();
    return { x: x + 0.5, y: y + 0.5, size: this.#easel.brush };
  }

  #framed() {
    const easel = this.#easel;
    easel.changed(easel.field.revert());
    easel.changed(easel.field.rectangle(this.#corner, this.#here(), easel.value));
  }

  #press() {
    const easel = this.#easel;
    if (easel.tool === "move") return;
    if (easel.tool === "rectangle") {
      if (this.#corner) {
        this.#framed();
        this.#corner = null;
        this.#ended();
      } else {
        this.#corner = { ...this.#here() };
        this.#framed();
      }
    } else {
      this.#begin(this.#tip(), "keys");
      this.#down = this.#stroke !== null;
    }
    this.#tell();
  }

  #release() {
    if (!this.#down) return;
    this.#down = false;
    if (this.#stroke) this.#ended();
    this.#tell();
  }

  /** The brush where it is, and the cross. */
  draw(context, { ink, paper, ratio }) {
    const { view, tool, brush, width, height } = this.#easel, focused = document.activeElement === this.#easel;
    const at = focused && this.cross ? this.#tip() : this.#pointer;
    if (!at) return;
    const twice = (path) => [[paper, 3], [ink, 1]].forEach(([colour, wide]) => {
      context.strokeStyle = colour;
      context.lineWidth = wide * ratio;
      context.stroke(path);
    });
    const [x, y] = view.from(at.x, at.y), path = new Path2D();
    if (focused && this.cross) {
      const [left, top] = view.from(0, 0), [right, bottom] = view.from(width, height), gap = Math.max(view.scale * brush / 2, 4 * ratio);
      const arms = [[left, y, x - gap, y], [x + gap, y, right, y], [x, top, x, y - gap], [x, y + gap, x, bottom]];
      for (const [fromX, fromY, toX, toY] of arms) {
        if (fromX > toX || fromY > toY) continue;
        path.moveTo(fromX, fromY);
        path.lineTo(toX, toY);
      }
    }
    if (tool === "brush" || tool === "eraser") {
      const reach = Math.max(view.scale * brush / 2, 1.5 * ratio);
      path.moveTo(x + reach, y);
      path.arc(x, y, reach, 0, 7);
    } else if (focused && this.cross) path.rect(x - view.scale / 2, y - view.scale / 2, view.scale, view.scale);
    twice(path);
  }
}
