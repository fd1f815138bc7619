// All pictures that match, newest first, as a list of which only some are here: the rest is asked for when it is wanted.
import { api } from "./api.js";
import { pictures } from "./pictures.js";

const PAGE = 100;
const KEPT = 60 * PAGE;

// Events: "reset" (another list), "items" (some came), "moved" {at, by}: those from `at` on are `by` places further, "fresh" (newer
// pictures exist: see `fresh`), "failed" {message}.
class Shelf extends EventTarget {
  items = [];           // holes where nothing was read
  fresh = null;         // {total, upto, items}: what `absorb` would put on top
  asked = { search: "", starred: false };
  ready = false;        // whether anything was answered to what is asked
  #upto = null;
  #loading = new Map(); // by page: {promise, controller, held}
  #looking = null;
  #changes = 0;         // how often pictures were changed: what was read before a change is not compared after it

  constructor() {
    super();
    pictures.addEventListener("change", ({ detail }) => this.#changed(detail));
  }

  get total() { return this.items.length; }
  get known() { return this.items.reduce((sum, item) => sum + (item !== undefined), 0); }
  at(index) { return this.items[index]; }
  find(id) { return this.items.findIndex((item) => item?.id === id); }

  // Another list: by words in prompt, seed and model, and of starred pictures alone.
  async open({ search, starred }) {
    this.asked = { search, starred };
    this.#forget();
    this.#upto = null;
    this.ready = false;
    const asked = this.asked;
    try {
      const page = await this.#get(0, null, null);
      if (asked !== this.asked) return;
      this.#replace(page);
      this.dispatchEvent(new Event("reset"));
    } catch (error) {
      if (asked === this.asked) this.#fail(error);
    }
  }

  // Reads what is not here of the items from `first` to `last`, and stops reading what is far from them.
  ask(first, last) {
    const from = Math.max(0, Math.floor(first / PAGE)), to = Math.floor(Math.min(last, this.total - 1) / PAGE);
    for (const [page, { controller, held }] of this.#loading) {
      if (!held && (page < from - 1 || page > to + 1)) {
        this.#loading.delete(page);
        controller.abort();
      }
    }
    for (let page = from; page <= to; page++) {
      const wanted = this.items.slice(Math.max(first, page * PAGE), Math.min(last + 1, (page + 1) * PAGE));
      if (wanted.includes(undefined)) this.#load(page).catch((error) => this.#fail(error));
    }
  }

  // One item, read if it is not here; undefined outside of the list.
  async item(index) {
    if (index >= 0 && index < this.total && !this.items[index]) await this.#load(Math.floor(index / PAGE), true);
    return this.items[index];
  }

  async range(first, last) {
    const found = [];
    for (let index = first; index <= last; index++) found.push(await this.item(index));
    return found.filter(Boolean);
  }

  // Whether there are newer pictures than those of the list. They stay aside: the list that is looked at does not move by itself.
  look() {
    this.#looking ??= setTimeout(async () => {
      const asked = this.asked, changes = this.#changes;
      try {
        const page = await this.#get(0, null, null);
        if (asked === this.asked && changes === this.#changes && this.ready) this.#compare(page);
      } catch (error) {
        if (asked === this.asked) this.#fail(error);
      } finally {
        this.#looking = null;
        if (changes !== this.#changes) this.look();
      }
    }, 100);
  }

  absorb() {
    if (!this.fresh) return;
    const { items, added } = this.fresh;
    const kept = this.items;
    this.#stop();
    this.#replace(this.fresh);
    if (added === items.length) this.dispatchEvent(new Event("reset"));
    else {
      this.items = items.slice(0, added).concat(kept);
      this.dispatchEvent(new CustomEvent("moved", { detail: { at: 0, by: added } }));
    }
  }

  #compare(page) {
    const added = page.items.findIndex(({ number }) => number <= this.#upto);
    const fresh = added < 0 ? page.items.length : added;
    if (fresh === 0) {
      if (page.total !== this.total) this.#resize(page);
      return;
    }
    this.fresh = { ...page, added: fresh };
    this.dispatchEvent(new Event("fresh"));
  }

  #replace({ total, upto, items }) {
    this.items = Array(total).fill(undefined);
    items.forEach((item, i) => { this.items[i] = item; });
    this.#upto = upto;
    this.fresh = null;
    this.ready = true;
  }

  // The list has become another without telling: what is known of it may stand elsewhere by now.
  #resize(page, at = 0) {
    this.items = Array(page.total).fill(undefined);
    page.items.forEach((item, i) => { this.items[at + i] = item; });
    this.dispatchEvent(new CustomEvent("items"));
  }

  #load(page, held = false) {
    const known = this.#loading.get(page);
    if (known) {
      known.held ||= held;
      return known.promise;
    }
    const controller = new AbortController();
    const read = async () => {
      try {
        const found = await this.#get(page * PAGE, this.#upto, controller.signal);
        if (controller.signal.aborted) return;
        if (found.total !== this.total) this.#resize(found, page * PAGE);
        else {
          found.items.forEach((item, i) => { this.items[page * PAGE + i] = item; });
          this.#evict(page);
          this.dispatchEvent(new Event("items"));
        }
      } catch (error) {
        if (!controller.signal.aborted) throw error;
      } finally {
        if (this.#loading.get(page)?.controller === controller) this.#loading.delete(page);
      }
    };
    const promise = read();
    this.#loading.set(page, { promise, controller, held });
    return promise;
  }

  #get(offset, upto, signal) {
    const query = new URLSearchParams({ offset, limit: PAGE });
    if (this.asked.search) query.set("search", this.asked.search);
    if (this.asked.starred) query.set("starred", "true");
    if (upto !== null) query.set("upto", upto);
    return api.get(`/v1/pictures?${query}`, { signal });
  }

  #evict(page) {
    if (this.known <= KEPT) return;
    const middle = page * PAGE;
    this.items.forEach((_, i) => { if (Math.abs(i - middle) > KEPT / 3) this.items[i] = undefined; });
  }

  #stop() {
    for (const { controller } of this.#loading.values()) controller.abort();
    this.#loading.clear();
  }

  #forget() {
    this.#stop();
    this.fresh = null;
  }

  #fail(error) {
    this.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }

  // What was done to pictures, here or in another tab.
  #changed({ kind, items }) {
    this.#changes++;
    this.#stop();
    for (const item of items) {
      const index = this.find(item.id);
      if (kind === "restored") {
        if (index < 0 && this.#matches(item)) this.#insert(item);
      } else if (index >= 0) {
        if (kind === "starred" && (item.starred || !this.asked.starred)) this.items[index] = item;
        else this.#take(index);
      }
    }
    this.dispatchEvent(new Event("items"));
  }

  // What the words match, only the engine knows: a picture that is put back was in the list, if the list is the same.
  #matches(item) {
    return (!this.asked.starred || item.starred) && item.number <= this.#upto;
  }

  #take(index) {
    this.items.splice(index, 1);
    this.dispatchEvent(new CustomEvent("moved", { detail: { at: index, by: -1 } }));
  }

  #insert(item) {
    const after = this.items.findIndex((other) => other && other.number < item.number);
    const index = after < 0 ? this.total : after;
    // Between two that are not read its place is not known: then neither is that of anything behind it.
    if (this.items[index - 1] === undefined && index > 0) this.items.fill(undefined);
    this.items.splice(index, 0, item);
    this.dispatchEvent(new CustomEvent("moved", { detail: { at: index, by: 1 } }));
  }
}

export const shelf = new Shelf();
