// <paint-easel>: a picture and what is painted over it, on a canvas that zooms.
// It knows brushes, pointers and keys, but not what is painted for.
//   .lay({width, height, picture, field, colours}): what is on it; picture: anything a canvas draws, or null;
//     colours: [256] of RGBA, 32 bits
//   .tool "brush" | "eraser" | "rectangle" | "fill" | "pick" | "move"; .value what a stroke paints;
//     .brush its width in pixels of the picture
//   .edges: whether what is painted has a marching edge; .grow, .soft: how it is shown grown and blurred, as the server will take it
//   .changed(part), .settled(): after the field was changed from outside; .describe(x, y): what is read out of a place
//   .over {image, left, top, width, height, within} | null: drawn over the picture, under what is painted;
//     within: only where it is painted, and beyond the edges; .veil: how much of what is painted shows, 0 to 1; .labels: names on it
//   .extend([left, top, right, bottom], refit): room beyond the picture's edges
//   events: "stroke" (it is ended and something changed), "pick" (detail: the value there), "point" (detail {x, y} | null), "view"

import { el } from "./dom.js";
import { Hand } from "./hand.js";
import { hatch, march, name } from "./marks.js";
import { View } from "./view.js";
import { Wash } from "./wash.js";

const RIM = 6; // pixels of the page
const MARCH = 120; // milliseconds for each step of the edge
const INKS = ["ink", "paper", "sheet", "line", "seal"];
const calm = matchMedia("(prefers-reduced-motion: reduce)"), night = matchMedia("(prefers-color-scheme: dark)");

export class Easel extends HTMLElement {
  tool = "brush";
  value = 255;
  brush = 8;
  field = null;
  width = 0;
  height = 0;
  view = new View();
  base = el("canvas", { "aria-hidden": "true" });
  top = el("canvas", { "aria-hidden": "true" });
  heard = el("span", { class: "unseen", "aria-live": "polite" });
  describe = (x, y) => `${x}, ${y}${this.field.at(x, y) === this.field.ground ? "" : ", painted"}`;
  hand = new Hand(this);
  #wash = new Wash();
  #picture = null;
  #over = null;
  #veil = 1;
  #labels = [];
  #margins = [0, 0, 0, 0];
  #probes = INKS.map((ink) => el("i", { hidden: true, style: { color: `var(--${ink})` } }));
  #sizes = new ResizeObserver(() => this.#resized());
  #themes = new MutationObserver(() => this.draw());
  #redraw = () => this.draw();
  #drawing = 0;
  #marching = 0;
  #march = 0;
  #stale = false; // whether more has to be drawn than what lies above

  connectedCallback() {
    if (!this.base.parentElement) {
      this.tabIndex = 0;
      this.setAttribute("role", "application");
      this.prepend(this.base, this.top, this.heard, ...this.#probes);
    }
    this.#sizes.observe(this);
    this.#themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    night.addEventListener("change", this.#redraw);
    this.#marching = setInterval(() => this.#step(), MARCH);
  }

  disconnectedCallback() {
    this.#sizes.disconnect();
    this.#themes.disconnect();
    night.removeEventListener("change", this.#redraw);
    clearInterval(this.#marching);
  }

  lay({ width, height, picture = null, field, colours }) {
    const other = this.width !== width || this.height !== height;
    Object.assign(this, { width, height, field });
    this.#picture = picture;
    this.#wash.lay(field, colours);
    if (other) {
      this.hand.centre();
      this.fit();
    }
    this.draw();
  }

  get picture() { return this.#picture; }
  set edges(edged) { this.#wash.edged = edged; this.settled(); }
  set grow(grow) { this.#wash.grow = grow; this.settled(); }
  set soft(soft) { this.#wash.soft = soft; this.settled(); }
  set over(over) { this.#over = over; this.draw(); }
  set veil(veil) { this.#veil = veil; this.draw(); }
  set labels(labels) { this.#labels = labels; this.mark(); }

  extend(margins, refit = true) {
    this.#margins = margins;
    if (!this.field) return;
    if (refit) this.view.refit(this.#room());
    this.#viewed();
  }

  /** Device pixels for one of the page. */
  get ratio() { return this.base.width / (this.clientWidth || 1); }

  // The colours of the page, as a canvas takes them.
  #look() {
    const look = { ratio: this.ratio, font: getComputedStyle(this).fontFamily };
    INKS.forEach((ink, i) => { look[ink] = getComputedStyle(this.#probes[i]).color; });
    return look;
  }

  get #outer() {
    const [left, top, right, bottom] = this.#margins;
    return [-left, -top, this.width + right, this.height + bottom];
  }

  #room() {
    const [left, top, right, bottom] = this.#outer, { width, height } = this.base;
    const rim = (this.hasAttribute("roomy") ? 6 * RIM : RIM) * this.ratio;
    return { width, height, left, top, right, bottom, rim: Math.min(rim, width / 6, height / 6) };
  }

  fit() {
    if (!this.field) return;
    this.view.fit(this.#room());
    this.#viewed();
  }

  zoom(by, at) {
    if (!this.field) return;
    this.view.zoom(by, at);
    this.#viewed();
  }

  move(x, y) {
    this.view.move(x, y);
    this.#viewed();
  }

  #viewed() {
    this.draw();
    this.dispatchEvent(new CustomEvent("view"));
  }

  #resized() {
    const [width, height] = [this.clientWidth, this.clientHeight].map((side) => Math.max(1, Math.round(side * devicePixelRatio)));
    if (this.base.width === width && this.base.height === height) return;
    for (const canvas of [this.base, this.top]) Object.assign(canvas, { width, height });
    if (!this.field) return;
    this.view.refit(this.#room());
    this.#viewed();
    this.#draw(); // at once: a canvas of a new size is empty
  }

  /** Some of the field is another. */
  changed(part) {
    this.#wash.changed(part);
    this.draw();
  }

  /** Nothing of it will be another before long: time for what is not worked out with each movement. */
  settled() {
    if (!this.field) return;
    this.#wash.settled();
    this.draw();
  }

  draw() {
    this.#stale = true;
    this.mark();
  }

  /** Only what lies above: the edge, the brush, the cross. */
  mark() {
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #step() {
    if (!this.#wash.edge || calm.matches || document.hidden || !this.checkVisibility()) return;
    this.#march = (this.#march + 1) % 8;
    this.mark();
  }

  #draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    if (!this.field) return;
    const look = this.#look();
    if (this.#stale) this.#drawBase(look);
    this.#stale = false;
    this.#drawTop(look);
  }

  #drawBase(look) {
    const { base, view, width, height } = this, { scale } = view, context = base.getContext("2d");
    const [left, top, right, bottom] = this.#outer, inner = [...view.from(0, 0), ...view.from(width, height)];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, base.width, base.height);
    context.setTransform(scale, 0, 0, scale, view.x, view.y);
    context.imageSmoothingEnabled = scale < 2;
    context.imageSmoothingQuality = scale < 1 ? "medium" : "low";
    context.fillStyle = look.sheet;
    context.fillRect(left, top, right - left, bottom - top);
    hatch(context, [...view.from(left, top), ...view.from(right, bottom)], this.#picture && inner, look);
    if (this.#picture) context.drawImage(this.#picture, 0, 0, width, height);
    if (this.#over) {
      const { image, left: x, top: y, width: w, height: h, within = false } = this.#over;
      context.imageSmoothingEnabled ||= image.naturalWidth < w; // what is coming has fewer pixels, and is soft
      context.drawImage(within ? this.#wash.within(this.#over) : image, x, y, w, h);
    }
    if (!this.#veil) return;
    context.imageSmoothingEnabled = scale < 1;
    context.globalAlpha = this.#veil;
    context.drawImage(this.#wash.canvas(this.hand.busy), 0, 0);
    context.globalAlpha = 1;
  }

  #drawTop(look) {
    const context = this.top.getContext("2d");
    context.clearRect(0, 0, this.top.width, this.top.height);
    if (this.#wash.edge && this.#veil) march(context, this.#wash.edge, this.view, this.#march, look);
    if (this.#veil > 0.25) name(context, this.#labels, this.view, look);
    this.hand.draw(context, look);
  }

  emit(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
customElements.define("paint-easel", Easel);
