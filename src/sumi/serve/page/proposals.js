// What was made for a place in a picture, one after another, until one is kept or all are discarded.
//   new Proposals({look(proposal | null), keep(proposal), again()}): .bar; .list;
//     .add(proposal), .set(list, at), .aside(): back to what is painted
//   A proposal is {id, url} of a picture.

import { el } from "./dom.js";

export class Proposals {
  list = [];
  at = 0;
  #looking = false;
  #does;

  constructor(does) {
    this.#does = does;
    const button = (text, run, kind = "button") => el("button", { type: "button", class: kind, text, onclick: run });
    this.count = el("span", { class: "count", role: "status" });
    const turn = (label, text, by) => el("button", {
      type: "button", class: "button", "aria-label": label, text, onclick: () => this.#go(this.at + by),
    });
    this.before = turn("The proposal before", "‹", -1);
    this.after = turn("The next proposal", "›", 1);
    this.keep = button("Accept", () => this.#does.keep(this.list[this.at]), "primary");
    this.drop = button("Discard", () => this.#discard());
    this.again = button("Try again", () => this.#does.again());
    this.look = button("", () => this.#look(!this.#looking));
    this.bar = el("div", { class: "proposals", role: "group", "aria-label": "What was made" },
      this.before, this.count, this.after, this.keep, this.drop, this.again, this.look);
    this.#tell();
  }

  get looking() { return this.#looking; }

  add(proposal) {
    if (this.list.some(({ id }) => id === proposal.id)) return;
    this.list.push(proposal);
    this.at = this.list.length - 1;
    this.#look(true);
  }

  set(list, at = 0, looking = list.length > 0) {
    this.list = list;
    this.at = Math.min(at, Math.max(0, list.length - 1));
    this.#look(looking && list.length > 0);
  }

  /** Lets what is painted be seen; the proposals stay. */
  aside() {
    if (this.#looking) this.#look(false);
  }

  #go(at) {
    this.at = (at + this.list.length) % this.list.length;
    this.#look(true);
  }

  #discard() {
    const list = this.list.toSpliced(this.at, 1);
    this.set(list, Math.min(this.at, list.length - 1));
  }

  #look(looking) {
    this.#looking = looking;
    this.#tell();
    this.#does.look(looking ? this.list[this.at] : null);
  }

  #tell() {
    const { length } = this.list;
    this.bar.hidden = !length;
    this.before.hidden = this.after.hidden = length < 2;
    this.keep.disabled = this.drop.disabled = !this.#looking;
    this.look.textContent = this.#looking ? "Show what is painted" : "Show what was made";
    this.count.textContent = length < 2 ? "Made" : `${this.at + 1} of ${length}`;
  }
}
