// What is painted: a byte for each pixel, a mask's level (0 or 255) or the number of a class, and the strokes that made it so.
// Nothing here knows of a canvas, a pointer or a key. Places are in pixels from the upper left corner; x + 0.5 is the middle of pixel x.

const STROKES = 200;
const NEARLY = 1e-9;

/** The middle of a brush that is so many pixels wide: of a pixel, or between two, so that it is the same on all sides. */
export function snapped(at, size) {
  return size % 2 ? Math.floor(at) + 0.5 : Math.round(at);
}

/** Bytes of a rectangle as runs: value, length, value, length, ... */
export function packed(bytes, width, { left, top, right, bottom }) {
  const runs = [];
  let value = -1, length = 0;
  for (let y = top; y < bottom; y++) {
    for (let at = y * width + left, end = y * width + right; at < end; at++) {
      if (bytes[at] === value) {
        length++;
        continue;
      }
      if (length) runs.push(value, length);
      value = bytes[at];
      length = 1;
    }
  }
  if (length) runs.push(value, length);
  return Uint32Array.from(runs);
}

/** The inverse of `packed`, into bytes. */
export function unpack(runs, bytes, width, { left, top, right, bottom }) {
  let at = 0, rest = runs[1];
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right;) {
      const length = Math.min(rest, right - x), start = y * width + x;
      bytes.fill(runs[at], start, start + length);
      x += length;
      rest -= length;
      if (!rest) rest = runs[(at += 2) + 1];
    }
  }
}

export class Field {
  #before = null; // the bytes as they were when the stroke began
  #touched = null; // what of them it may have changed

  constructor(width, height, ground = 0) {
    Object.assign(this, { width, height, ground, bytes: new Uint8Array(width * height).fill(ground), past: [], future: [] });
  }

  get whole() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  at(x, y) {
    return this.bytes[y * this.width + x];
  }

  inside(x, y) {
    return x >= 0 && y >= 0 && x < this.width && y < this.height;
  }

  // A row's pixels whose middles lie from one place to another.
  #row(y, from, to, value) {
    const first = Math.max(0, Math.ceil(from - 0.5 - NEARLY)), last = Math.min(this.width - 1, Math.floor(to - 0.5 + NEARLY));
    if (first <= last) this.bytes.fill(value, y * this.width + first, y * this.width + last + 1);
  }

  #touch(left, top, right, bottom) {
    this.#before ??= this.bytes.slice();
    const old = this.#touched ?? { left: this.width, top: this.height, right: 0, bottom: 0 };
    const part = {
      left: Math.max(0, Math.min(this.width, Math.floor(left))), top: Math.max(0, Math.min(this.height, Math.floor(top))),
      right: Math.max(0, Math.min(this.width, Math.ceil(right))), bottom: Math.max(0, Math.min(this.height, Math.ceil(bottom))),
    };
    this.#touched = {
      left: Math.min(old.left, part.left), top: Math.min(old.top, part.top),
      right: Math.max(old.right, part.right), bottom: Math.max(old.bottom, part.bottom),
    };
    return part;
  }

  /** Draws from one place to another, each {x, y, size} with its own width of the brush. Gives the rectangle that may have changed. */
  line(from, to, value) {
    const [a, b] = [from, to].map(({ x, y, size }) => ({ x: snapped(x, size), y: snapped(y, size), reach: size / 2 }));
    const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
    const [across, down] = [(a.y - b.y) / length, (b.x - a.x) / length];
    const corners = [[a, 1], [b, 1], [b, -1], [a, -1]].map(([p, side]) => [p.x + side * across * p.reach, p.y + side * down * p.reach]);
    const part = this.#touch(
      Math.min(a.x - a.reach, b.x - b.reach), Math.min(a.y - a.reach, b.y - b.reach),
      Math.max(a.x + a.reach, b.x + b.reach), Math.max(a.y + a.reach, b.y + b.reach),
    );
    for (let y = part.top; y < part.bottom; y++) {
      const middle = y + 0.5;
      let low = Infinity, high = -Infinity;
      for (const { x, y: at, reach } of [a, b]) {
        const half = reach ** 2 - (middle - at) ** 2;
        if (half < 0) continue;
        low = Math.min(low, x - Math.sqrt(half));
        high = Math.max(high, x + Math.sqrt(half));
      }
      corners.forEach(([x, at], i) => {
        const [nextX, nextAt] = corners[(i + 1) % 4];
        if (Math.min(at, nextAt) > middle || Math.max(at, nextAt) < middle || at === nextAt) return;
        const cut = x + (nextX - x) * (middle - at) / (nextAt - at);
        low = Math.min(low, cut);
        high = Math.max(high, cut);
      });
      this.#row(y, low, high, value);
    }
    return part;
  }

  /** Paints the rectangle whose corners are two pixels, in any order. */
  rectangle(from, to, value) {
    const [left, right] = [from.x, to.x].map(Math.floor).sort((a, b) => a - b);
    const [top, bottom] = [from.y, to.y].map(Math.floor).sort((a, b) => a - b);
    const part = this.#touch(left, top, right + 1, bottom + 1);
    for (let y = part.top; y < part.bottom; y++) this.#row(y, left, right + 1, value);
    return part;
  }

  /** Paints all that hangs together with a pixel, over its sides, and is of its value. */
  fill(x, y, value) {
    const { bytes, width, height } = this, start = Math.floor(y) * width + Math.floor(x), old = bytes[start];
    this.#touch(0, 0, width, height);
    const open = old === value ? [] : [start];
    while (open.length) {
      const at = open.pop();
      if (bytes[at] !== old) continue;
      const row = at - at % width;
      let left = at, right = at + 1;
      while (left > row && bytes[left - 1] === old) left--;
      while (right < row + width && bytes[right] === old) right++;
      bytes.fill(value, left, right);
      for (const next of [left - width, left + width]) {
        if (next < 0 || next >= width * height) continue;
        for (let i = next; i < next + right - left; i++) if (bytes[i] === old && (i === next || bytes[i - 1] !== old)) open.push(i);
      }
    }
    return this.whole;
  }

  /** Paints all of it. */
  clear(value = this.ground) {
    this.#touch(0, 0, this.width, this.height);
    this.bytes.fill(value);
    return this.whole;
  }

  /** Exchanges what is painted and what is not. */
  invert() {
    this.#touch(0, 0, this.width, this.height);
    for (let at = 0; at < this.bytes.length; at++) this.bytes[at] = 255 - this.bytes[at];
    return this.whole;
  }

  /** Ends a stroke: from here on it is undone as one. Gives whether anything is other than before. */
  commit() {
    const before = this.#before, part = this.#touched;
    this.#before = this.#touched = null;
    if (!before || before.every((byte, at) => byte === this.bytes[at])) return false;
    this.past.push({ part, before: packed(before, this.width, part), after: packed(this.bytes, this.width, part) });
    if (this.past.length > STROKES) this.past.shift();
    this.future = [];
    return true;
  }

  /** Takes back the stroke that is not ended. Gives what of the bytes may have changed. */
  revert() {
    const part = this.#touched;
    if (part) this.bytes.set(this.#before);
    this.#before = this.#touched = null;
    return part;
  }

  undo() {
    return this.#step(this.past, this.future, "before");
  }

  redo() {
    return this.#step(this.future, this.past, "after");
  }

  #step(from, onto, which) {
    this.revert();
    const stroke = from.pop();
    if (!stroke) return null;
    unpack(stroke[which], this.bytes, this.width, stroke.part);
    onto.push(stroke);
    return stroke.part;
  }

  /** How many pixels are of each value, [256]. */
  counts() {
    const counts = new Uint32Array(256);
    for (const byte of this.bytes) counts[byte]++;
    return counts;
  }

  /** The same at another size, each pixel as the nearest; without its strokes. */
  resized(width, height) {
    const other = new Field(width, height, this.ground);
    for (let y = 0; y < height; y++) {
      const row = Math.floor((y + 0.5) * this.height / height) * this.width;
      for (let x = 0; x < width; x++) other.bytes[y * width + x] = this.bytes[row + Math.floor((x + 0.5) * this.width / width)];
    }
    return other;
  }

  /** What is kept over a reload, without a stroke that is not ended; `Field.kept` makes it a field again. */
  keep() {
    const { width, height, ground, past, future } = this;
    return { width, height, ground, past, future, runs: packed(this.#before ?? this.bytes, width, this.whole) };
  }

  static kept({ width, height, ground, past, future, runs }) {
    const field = Object.assign(new Field(width, height, ground), { past, future });
    unpack(runs, field.bytes, width, field.whole);
    return field;
  }
}

// Where a row of levels is painted: [from, to) of each run.
function runs(levels, width, y) {
  const found = [];
  for (let x = 0, row = y * width; x < width; x++) {
    if (levels[row + x] < 128) continue;
    const from = x;
    while (x < width && levels[row + x] >= 128) x++;
    found.push([from, x]);
  }
  return found;
}

/**
 * The mask, larger all round by a disc of that radius; smaller, but not at the picture's edges, if it is negative.
 * As the server does it.
 */
export function grown(levels, width, height, radius) {
  if (!radius) return levels;
  const turned = (source) => source.map((level) => 255 - level);
  if (radius < 0) return turned(grown(turned(levels), width, height, -radius));
  const result = new Uint8Array(levels.length);
  for (let y = 0; y < height; y++) {
    const painted = runs(levels, width, y);
    if (!painted.length) continue;
    for (let to = Math.max(0, y - radius); to <= Math.min(height - 1, y + radius); to++) {
      const half = Math.floor(Math.sqrt(radius ** 2 - (to - y) ** 2));
      for (const [left, right] of painted)
        result.fill(255, to * width + Math.max(0, left - half), to * width + Math.min(width, right + half));
    }
  }
  return result;
}

/** The border of what is painted, as lines [x, y, x, y] along the sides of pixels; the picture's own edges are no border. */
export function border(levels, width, height) {
  const lines = [];
  let above = [];
  for (let y = 0; y < height; y++) {
    const here = runs(levels, width, y);
    for (const [left, right] of here) {
      if (left > 0) lines.push([left, y, left, y + 1]);
      if (right < width) lines.push([right, y, right, y + 1]);
    }
    if (y) {
      // Where one of the two rows is painted and the other is not: the ends of both, in order, by twos.
      const ends = [...here.flat(), ...above.flat()].sort((a, b) => a - b);
      for (let i = 0; i < ends.length; i += 2) if (ends[i] < ends[i + 1]) lines.push([ends[i], y, ends[i + 1], y]);
    }
    above = here;
  }
  return lines;
}
