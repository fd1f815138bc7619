// What is painted, as it is seen: a field's bytes in their colours, grown and blurred as the server will take them, and their edge.
//   .lay(field, colours [256] of RGBA, 32 bits); .changed(part): some of its bytes are others; .settled(): a stroke has ended
//   .canvas(busy) -> what to draw over the picture, a pixel for a pixel; .edge -> Path2D, or null where there is to be none
//   .within(over) -> a canvas of what lies over the picture, only where something is made anew

import { border, grown } from "./brush.js";

const QUICK = 1 << 20; // pixels of which all is worked out while one paints

const united = (a, b) => ({
  left: Math.min(a.left, b.left), top: Math.min(a.top, b.top), right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom),
});

export class Wash {
  grow = 0;
  soft = 0;
  edged = false;
  edge = null;
  #field = null;
  #colours = null;
  #canvas = document.createElement("canvas");
  #levels = null; // what the field comes to when it is grown
  #stale = null; // what of it is not yet in its colours
  #blurred = null;
  #hole = null; // what is painted, opaque

  lay(field, colours) {
    const { width, height } = field;
    this.#field = field;
    this.#colours = colours;
    if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
    this.changed(field.whole);
    this.settled();
  }

  changed(part) {
    if (part) this.#stale = this.#stale ? united(this.#stale, part) : part;
  }

  settled() {
    this.#levels = this.#blurred = this.#hole = this.edge = null;
    if (this.grow) this.#stale = this.#field.whole;
    if (!this.edged) return;
    this.edge = new Path2D();
    for (const [x, y, toX, toY] of border(this.#grown(), this.#field.width, this.#field.height)) {
      this.edge.moveTo(x, y);
      this.edge.lineTo(toX, toY);
    }
  }

  canvas(busy) {
    this.#coloured(busy);
    if (!this.soft || busy) return this.#canvas;
    if (!this.#blurred) {
      this.#blurred = new OffscreenCanvas(this.#field.width, this.#field.height);
      const context = this.#blurred.getContext("2d");
      context.filter = `blur(${this.soft}px)`;
      context.drawImage(this.#canvas, 0, 0);
    }
    return this.#blurred;
  }

  within({ image, left, top, width, height }) {
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
    context.drawImage(this.#opaque(), -left, -top);
    const [from, above] = [-left, -top], [to, below] = [from + this.#field.width, above + this.#field.height];
    for (const [x, y, toX, toY] of [[0, 0, width, above], [0, below, width, height], [0, above, from, below], [to, above, width, below]]) {
      context.fillRect(x, y, toX - x, toY - y);
    }
    context.globalCompositeOperation = "source-in";
    context.drawImage(image, 0, 0, width, height);
    return canvas;
  }

  #grown() {
    const { bytes, width, height } = this.#field;
    return this.#levels ??= grown(bytes, width, height, this.grow);
  }

  #coloured(busy) {
    if (!this.#stale) return;
    const { width, height, whole, bytes } = this.#field;
    // Of a large picture only what the stroke itself covers, until it has ended.
    const all = this.grow !== 0 && !(busy && width * height > QUICK);
    if (all && busy) this.#levels = null;
    const levels = all ? this.#grown() : bytes, { left, top, right, bottom } = all ? whole : this.#stale;
    this.#stale = null;
    if (left >= right || top >= bottom) return;
    const image = new ImageData(right - left, bottom - top), pixels = new Uint32Array(image.data.buffer);
    for (let y = top, to = 0; y < bottom; y++) {
      for (let at = y * width + left, end = y * width + right; at < end; at++) pixels[to++] = this.#colours[levels[at]];
    }
    this.#canvas.getContext("2d").putImageData(image, left, top);
  }

  #opaque() {
    if (this.#hole) return this.#hole;
    const { width, height } = this.#field;
    const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    this.#grown().forEach((level, at) => { pixels[at] = level << 24; });
    this.#hole = new OffscreenCanvas(width, height);
    this.#hole.getContext("2d").putImageData(image, 0, 0);
    return this.#hole;
  }
}
