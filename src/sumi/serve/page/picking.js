// The pictures that are picked, to do something with all of them. Event "change".
import { say } from "./dom.js";
import { pictures } from "./pictures.js";
import { shelf } from "./shelf.js";

const MOST = 500;

class Picked extends EventTarget {
  #items = new Map();
  #anchor = null;   // the picture from which a range goes

  constructor() {
    super();
    pictures.addEventListener("change", ({ detail }) => this.#changed(detail));
  }

  get size() { return this.#items.size; }
  get items() { return [...this.#items.values()]; }
  has(item) { return this.#items.has(item?.id); }

  toggle(item) {
    if (!this.#items.delete(item.id)) {
      if (this.#items.size >= MOST) return this.#full();
      this.#items.set(item.id, item);
    }
    this.#anchor = item.id;
    this.#tell();
  }

  // From the one picked last, or from `origin`, to `index`: read first what of it was never seen.
  async range(index, origin) {
    const anchor = this.#anchor === null ? -1 : shelf.find(this.#anchor);
    const from = anchor < 0 ? origin : anchor;
    const [first, last] = [Math.min(from, index), Math.max(from, index)];
    if (last - first >= MOST) return this.#full();
    const found = await shelf.range(first, last);
    this.#anchor = shelf.at(from)?.id ?? null;
    this.#items = new Map(found.map((item) => [item.id, item]));
    this.#tell();
  }

  #changed({ kind, items }) {
    for (const item of items) {
      if (!this.has(item)) continue;
      if (kind === "starred") this.#items.set(item.id, item);
      else if (kind === "removed") this.#items.delete(item.id);
    }
    this.#tell();
  }

  clear() {
    this.#items.clear();
    this.#anchor = null;
    this.#tell();
  }

  #full() {
    say(`At most ${MOST} pictures can be picked at a time`, { kind: "error" });
  }

  #tell() { this.dispatchEvent(new Event("change")); }
}

export const picked = new Picked();
