// <paint-easel>: a picture and what is painted over it, on a canvas that zooms. It knows brushes, pointers and keys, but not what is painted for.
//   .lay({width, height, picture, field, colours}): what is on it; picture: anything a canvas draws, or null; colours: [256] of RGBA, 32 bits
//   .tool "brush" | "eraser" | "rectangle" | "fill" | "pick" | "move"; .value what a stroke paints; .brush its width in pixels of the picture
//   .edges: whether what is painted has a marching edge; .grow, .soft: how it is shown grown and blurred, as the server will take it
//   .labels: names on what is painted; .over {image, left, top, width, height} | null: drawn over the picture, under what is painted; .veil: how much of what is painted shows, 0 to 1
//   .extend([left, top, right, bottom], refit): room beyond the picture's edges
//   events: "stroke" (it is ended and something changed), "pick" (detail: the value there), "point" (detail {x, y} | null), "view"

import { border, grown } from "./brush.js";
import { el } from "./dom.js";
import { Hand } from "./hand.js";
import { View } from "./view.js";

const RIM = 6; // pixels of the page
const MARCH = 120; // milliseconds for each step of the edge
const QUICK = 1 << 20; // pixels of which all is worked out while one paints
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Easel extends HTMLElement {
  tool = "brush";
  value = 255;
  brush = 8;
  edges = false;
  view = new View();
  field = null;
  #picture = null;
  #colours = new Uint32Array(256);
  #over = null;
  #labels = [];
  #veil = 1;
  #margins = [0, 0, 0, 0];
  #grow = 0;
  #soft = 0;
  #paint = document.createElement("canvas"); // the field in its colours, a pixel for a pixel
  #softened = null; // the same blurred
  #border = null;
  #levels = null; // what the field comes to when it is grown
  #stale = null; // what of it is not yet in its colours
  #drawing = 0;
  #marching = 0;
  #march = 0;
  #shown = { base: true, top: true };
  base = el("canvas", { "aria-hidden": "true" });
  top = el("canvas", { "aria-hidden": "true" });
  told = el("span", { class: "unseen", "aria-live": "polite" });
  hand = new Hand(this);
  #inks = ["ink", "paper", "sheet", "line", "seal"].map((name) => [name, el("i", { hidden: true, style: { color: `var(--${name})` } })]);

  connectedCallback() {
    if (!this.base.parentElement) {
      this.tabIndex = 0;
      this.setAttribute("role", "application");
      this.prepend(this.base, this.top, this.told, ...this.#inks.map(([, probe]) => probe));
    }
    this.sizes = new ResizeObserver(() => this.#resized());
    this.sizes.observe(this);
    this.#marching = setInterval(() => this.#step(), MARCH);
  }

  disconnectedCallback() {
    this.sizes.disconnect();
    clearInterval(this.#marching);
  }

  lay({ width, height, picture = null, field, colours }) {
    const other = !this.field || this.width !== width || this.height !== height;
    Object.assign(this, { width, height, field });
    this.#picture = picture;
    this.#colours = colours;
    if (other) {
      Object.assign(this.#paint, { width, height });
      this.hand.centre();
      this.fit();
    }
    this.changed(field.whole);
    this.settled();
  }

  get picture() { return this.#picture; }
  set picture(picture) { this.#picture = picture; this.draw(); }
  /** Names on what is painted: {text, x, y, reach}, reach: pixels that are free around the place. */
  set labels(labels) { this.#labels = labels; this.mark(); }
  get over() { return this.#over; }
  set over(over) { this.#over = over; this.draw(); }
  set veil(veil) { this.#veil = veil; this.draw(); }
  get margins() { return this.#margins; }
  /** refit: whether all of it is to be seen again, or each pixel stays where it is. */
  extend(margins, refit = true) {
    this.#margins = margins;
    if (!this.field) return;
    if (refit) this.view.refit(this.#room());
    this.#viewed();
  }
  set grow(grow) { this.#grow = grow; this.settled(); }
  set soft(soft) { this.#soft = soft; this.settled(); }

  /** Device pixels for one of the page. */
  get ratio() { return this.base.width / (this.clientWidth || 1); }

  // The colours of the page, as a canvas takes them.
  #look() {
    return Object.fromEntries(this.#inks.map(([name, probe]) => [name, getComputedStyle(probe).color]));
  }

  #room() {
    const [left, top, right, bottom] = this.#margins;
    const rim = (left + top + right + bottom || this.hasAttribute("roomy") ? 6 * RIM : RIM) * this.ratio;
    const { width, height } = this.base;
    return { width, height, left: -left, top: -top, right: this.width + right, bottom: this.height + bottom, rim: Math.min(rim, width / 6) };
  }

  fit() {
    if (!this.field) return;
    this.view.fit(this.#room());
    this.#viewed();
  }

  zoom(by, at) {
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
    if (!part) return;
    const old = this.#stale ?? part;
    this.#stale = {
      left: Math.min(old.left, part.left), top: Math.min(old.top, part.top), right: Math.max(old.right, part.right), bottom: Math.max(old.bottom, part.bottom),
    };
    if (this.#grow && this.width * this.height <= QUICK) this.#levels = null;
    this.draw();
  }

  /** Nothing of it will be another before long: time for what is not worked out with each movement. */
  settled() {
    if (!this.field) return;
    this.#levels = this.#softened = null;
    if (this.#grow || this.#soft) this.#stale = this.field.whole;
    this.#border = null;
    if (this.edges) {
      const path = new Path2D();
      for (const [x, y, toX, toY] of border(this.#grownLevels(), this.width, this.height)) {
        path.moveTo(x, y);
        path.lineTo(toX, toY);
      }
      this.#border = path;
    }
    this.draw();
  }

  #grownLevels() {
    if (!this.#grow) return this.field.bytes;
    return this.#levels ??= grown(this.field.bytes, this.width, this.height, this.#grow);
  }

  // The field's bytes, in their colours, onto a canvas of their own.
  #coloured() {
    if (!this.#stale) return;
    const whole = this.#grow && !this.#levels;
    const levels = this.#grownLevels(), { left, top, right, bottom } = whole ? this.field.whole : this.#stale;
    this.#stale = null;
    if (left >= right || top >= bottom) return;
    const image = new ImageData(right - left, bottom - top), pixels = new Uint32Array(image.data.buffer);
    for (let y = top, to = 0; y < bottom; y++)
      for (let at = y * this.width + left, end = y * this.width + right; at < end; at++) pixels[to++] = this.#colours[levels[at]];
    this.#paint.getContext("2d").putImageData(image, left, top);
  }

  #blurred() {
    if (this.#softened) return this.#softened;
    const canvas = Object.assign(document.createElement("canvas"), { width: this.width, height: this.height });
    const context = canvas.getContext("2d");
    context.filter = `blur(${this.#soft}px)`;
    context.drawImage(this.#paint, 0, 0);
    return this.#softened = canvas;
  }

  draw() {
    this.#shown.base = true;
    this.mark();
  }

  /** Only what lies above: the edge, the brush, the cross. */
  mark() {
    this.#shown.top = true;
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #step() {
    if (!this.#border || calm.matches || document.hidden || !this.checkVisibility()) return;
    this.#march = (this.#march + 1) % 8;
    this.mark();
  }

  #draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    if (!this.field) return;
    if (this.#shown.base) this.#drawBase();
    this.#drawTop();
    this.#shown = { base: false, top: false };
  }

  #drawBase() {
    const { base, view, width, height } = this, context = base.getContext("2d"), [left, top, right, bottom] = this.#margins;
    const { scale } = view;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, base.width, base.height);
    context.setTransform(scale, 0, 0, scale, view.x, view.y);
    context.imageSmoothingEnabled = scale < 2;
    context.imageSmoothingQuality = scale < 1 ? "medium" : "low";
    const look = this.#look();
    context.fillStyle = look.sheet;
    context.fillRect(-left, -top, width + left + right, height + top + bottom);
    if (left + top + right + bottom) this.#hatch(context, look);
    if (this.#picture) context.drawImage(this.#picture, 0, 0, width, height);
    else this.#hatch(context, look, true);
    if (this.#over) context.drawImage(this.#over.image, this.#over.left, this.#over.top, this.#over.width, this.#over.height);
    if (this.#veil) {
      this.#coloured();
      context.imageSmoothingEnabled = scale < 1;
      context.globalAlpha = this.#veil;
      const soft = this.#soft && !this.hand.busy;
      context.drawImage(soft ? this.#blurred() : this.#paint, 0, 0);
      context.globalAlpha = 1;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  // Where nothing is yet: strokes across, as on a plan.
  #hatch(context, look, whole = false) {
    const { width, height } = this, [left, top, right, bottom] = this.#margins, space = 10 * this.ratio;
    context.save();
    context.beginPath();
    context.rect(-left, -top, width + left + right, height + top + bottom);
    if (!whole) context.rect(0, 0, width, height);
    context.clip("evenodd");
    const [[fromX, fromY], [toX, toY]] = [this.view.from(-left, -top), this.view.from(width + right, height + bottom)];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.strokeStyle = look.line;
    context.lineWidth = this.ratio;
    context.beginPath();
    for (let x = Math.max(fromX, 0) - (toY - fromY); x < Math.min(toX, this.base.width); x += space) {
      context.moveTo(x, toY);
      context.lineTo(x + toY - fromY, fromY);
    }
    context.stroke();
    context.restore();
  }

  #drawTop() {
    const { top, view, ratio } = this, context = top.getContext("2d"), look = this.#look();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, top.width, top.height);
    if (this.#border && this.#veil) {
      const path = new Path2D();
      path.addPath(this.#border, new DOMMatrix([view.scale, 0, 0, view.scale, view.x, view.y]));
      const stripes = context.createPattern(this.#stripes(look), "repeat");
      stripes.setTransform(new DOMMatrix([ratio, 0, 0, ratio, ratio * this.#march, 0]));
      context.strokeStyle = stripes;
      context.lineWidth = 1.5 * ratio;
      context.stroke(path);
    }
    if (this.#veil > 0.25) this.#named(context);
    this.hand.draw(context, { ...look, ratio });
  }

  #named(context) {
    const { view, ratio } = this, size = 12 * ratio;
    context.font = `600 ${size}px ${getComputedStyle(this).fontFamily}`;
    Object.assign(context, { textAlign: "center", textBaseline: "middle", lineJoin: "round", lineWidth: 3 * ratio });
    context.strokeStyle = "#fffdf9";
    context.fillStyle = "#1d1b18"; // on the colours of classes, which are as light at night
    for (const { text, x, y, reach } of this.#labels) {
      if (reach * view.scale < 0.7 * size) continue;
      const place = view.from(x, y);
      context.strokeText(text, ...place);
      context.fillText(text, ...place);
    }
  }

  #stripes(look) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 8, height: 8 }), context = canvas.getContext("2d");
    context.fillStyle = look.sheet;
    context.fillRect(0, 0, 8, 8);
    context.strokeStyle = look.seal;
    context.lineWidth = 2.9;
    for (const x of [-8, 0, 8]) {
      context.beginPath();
      context.moveTo(x - 2, 10);
      context.lineTo(x + 10, -2);
      context.stroke();
    }
    return canvas;
  }

  emit(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
customElements.define("paint-easel", Easel);
