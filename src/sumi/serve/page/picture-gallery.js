// <picture-gallery>: all pictures that were ever made, newest first.
import { el, icon } from "./dom.js";
import { jobs } from "./jobs.js";
import { key } from "./keys.js";
import { picked } from "./picking.js";
import { download, remove, STAR, star } from "./pictures.js";
import { shelf } from "./shelf.js";
import { prefs } from "./state.js";
import { VirtualGrid } from "./virtual-grid.js";
import "./drop-picture.js";

const SIZES = { min: 72, max: 256, usual: 84 };
const TYPED = 200;    // milliseconds after the last letter until it is searched
const HELD = 450;     // milliseconds of a finger on a picture until it is picked
const show = (detail) => document.dispatchEvent(new CustomEvent("studio:show", { detail }));

class PictureGallery extends HTMLElement {
  #active = 0;         // the cell that has the focus, or would get it
  #holding = null;     // the timer of a finger that rests on a picture
  #held = false;       // whether it did so for long enough
  #last = null;        // what the line below tells of
  #back = 0;           // which picture was at the upper edge before the page was loaded again

  connectedCallback() {
    if (this.grid) return;
    const kept = JSON.parse(sessionStorage.getItem("sumi.gallery") ?? "{}");
    this.search = el("input", {
      type: "search", "aria-label": "Search words, seed or model", placeholder: "Search", enterkeyhint: "search", value: kept.search ?? "",
      oninput: () => this.#typed(), onkeydown: (event) => this.#fromSearch(event),
    });
    this.starred = el("button", {
      type: "button", class: "star-filter", "aria-pressed": Boolean(kept.starred), "aria-label": "Starred only", title: "starred only",
      onclick: () => this.#filter(),
    }, icon(STAR));
    this.size = el("input", { type: "range", "aria-label": "Size of the pictures", min: SIZES.min, max: SIZES.max, step: 4,
      value: prefs.get("gallerySize") ?? SIZES.usual, oninput: () => this.#sized(),
      onchange: () => prefs.set({ gallerySize: Number(this.size.value) }) });
    this.count = el("p", { class: "count", role: "status" });
    this.fresh = el("button", { type: "button", class: "fresh", hidden: true, onclick: () => this.#up() });
    this.bar = el("div", { class: "picked-bar", role: "toolbar", "aria-label": "What to do with those picked", hidden: true });
    this.box = el("div", { class: "box" });
    this.nothing = el("p", { class: "nothing", hidden: true });
    this.line = el("p", { class: "line", "aria-hidden": "true" });
    this.append(
      el("header", {}, el("h2", { text: "Pictures" }), this.count, el("drop-picture")),
      el("div", { class: "search" }, this.search, this.starred, this.size),
      el("div", { class: "view" }, this.fresh, this.box, this.nothing),
      this.bar, this.line);
    this.grid = new VirtualGrid(this.box, { label: "Pictures, newest first", make: () => this.#make(), fill: (...of) => this.#fill(...of),
      seen: (first, last, hurried) => { if (!hurried) shelf.ask(first, last); } });
    this.#sized();
    this.#listen();
    this.#open();
    this.#back = kept.first ?? 0;
  }

  #listen() {
    const body = this.grid.grid;
    body.addEventListener("click", (event) => this.#clicked(event));
    body.addEventListener("keydown", (event) => this.#moved(event));
    body.addEventListener("focusin", ({ target }) => this.#focused(target.closest(".thumb")));
    body.addEventListener("focusout", () => { this.grid.pin = null; });
    body.addEventListener("pointerover", ({ target }) => this.#tell(target.closest(".thumb")?.item));
    body.addEventListener("pointerdown", (event) => this.#pressed(event));
    for (const name of ["pointerup", "pointercancel"]) body.addEventListener(name, () => clearTimeout(this.#holding));
    body.addEventListener("contextmenu", (event) => { if (event.pointerType === "touch") event.preventDefault(); });
    this.box.addEventListener("scroll", () => { if (shelf.fresh && this.box.scrollTop === 0) shelf.absorb(); }, { passive: true });

    shelf.addEventListener("reset", () => { this.#active = 0; this.box.scrollTop = 0; this.#relist(); });
    shelf.addEventListener("items", () => this.#relist());
    shelf.addEventListener("moved", ({ detail }) => this.#shift(detail));
    shelf.addEventListener("fresh", () => this.#arrived());
    shelf.addEventListener("failed", ({ detail }) => { this.count.textContent = detail.message; });
    picked.addEventListener("change", () => { this.#choose(); this.grid.draw(); });
    jobs.addEventListener("picture", ({ detail: { job } }) => { if (job.shelf !== false) shelf.look(); });
    jobs.addEventListener("online", ({ detail }) => { if (detail) this.#again(); });
    prefs.addEventListener("change", ({ detail }) => {
      if (!detail.has("gallerySize")) return;
      this.size.value = prefs.get("gallerySize") ?? SIZES.usual;
      this.#sized();
    });
    addEventListener("pagehide", () => { if (shelf.ready) this.#keep({ ...shelf.asked, first: this.grid.sight()[0] }); });
    document.addEventListener("studio:shown", ({ detail }) => this.#seen(detail));
    // The focus is where it was before: it goes on to what was looked at last.
    document.addEventListener("studio:left", ({ detail }) => {
      const index = shelf.find(detail.id);
      if (index >= 0 && body.contains(document.activeElement)) this.#go(index);
    });

    const here = () => body.contains(document.activeElement) && this.#item();
    const chosen = () => picked.size ? picked.items : [this.#item()];
    key("/", "search the pictures", () => this.search.focus());
    key("Enter", "in the gallery: open the picture", () => show(this.#item()), { when: here });
    key(" ", "in the gallery: pick the picture", () => picked.toggle(this.#item()), { when: here });
    key("s", "star the picture", () => { star(chosen(), !chosen().every(({ starred }) => starred)); }, { when: here });
    key("Delete", "remove the picture", () => { remove(chosen()); }, { when: here });
    const choosing = () => picked.size > 0 && !document.querySelector("dialog[open]") && this.contains(document.activeElement);
    key("Escape", null, () => picked.clear(), { when: choosing });
  }

  // What is looked for.
  #typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.#open(), TYPED);
  }

  #filter() {
    this.starred.setAttribute("aria-pressed", this.starred.getAttribute("aria-pressed") !== "true");
    this.#open();
  }

  #open() {
    clearTimeout(this.typing);
    this.#back = 0;
    const asked = { search: this.search.value.trim(), starred: this.starred.getAttribute("aria-pressed") === "true" };
    this.#keep(asked);
    shelf.open(asked);
  }

  #keep(kept) { sessionStorage.setItem("sumi.gallery", JSON.stringify(kept)); }

  #again() {
    if (!shelf.ready) return this.#open();
    shelf.look();
    this.grid.draw();
  }

  #fromSearch(event) {
    if (event.key === "ArrowDown" && shelf.total) {
      event.preventDefault();
      this.#go(this.grid.sight()[0]);
    } else if (event.key === "Enter") this.#open();
  }

  // What there is.
  #relist() {
    this.#active = Math.max(0, Math.min(this.#active, shelf.total - 1));
    const { search, starred } = shelf.asked, filtered = search || starred;
    this.box.hidden = shelf.total === 0;
    this.nothing.hidden = shelf.total > 0;
    const unseen = el("span", { class: "unseen", text: shelf.total === 1 ? " picture" : " pictures" });
    this.count.replaceChildren(...shelf.total ? [shelf.total.toLocaleString("en"), unseen, filtered ? " found" : ""] : []);
    this.nothing.textContent = search ? `Nothing is found for “${search}”${starred ? " among the starred" : ""}.`
      : starred ? "No picture is starred yet: s, or the star on a picture, does it." : "Pictures come here as they are made.";
    this.fresh.hidden = !shelf.fresh;
    const inside = this.grid.grid.contains(document.activeElement);
    this.grid.show({ count: shelf.total });
    if (inside) this.#focus();
    if (this.#back && this.grid.side && shelf.total) {
      this.grid.lead(Math.min(this.#back, shelf.total - 1));
      this.#back = 0;
    }
  }

  #shift({ at, by }) {
    const focused = this.grid.grid.contains(document.activeElement);
    if (at < this.#active || (by > 0 && at === this.#active && focused)) this.#active += by;
    this.#relist();
  }

  #arrived() {
    if (this.box.scrollTop < this.grid.pitch / 2) return shelf.absorb();
    this.fresh.hidden = false;
    const more = Math.max(shelf.fresh.total - shelf.total, 1);
    this.fresh.replaceChildren(icon("M8 13V3M3.5 7.5L8 3l4.5 4.5"), `${more.toLocaleString("en")} new`);
  }

  #up() {
    this.box.scrollTop = 0;
    shelf.absorb();
    this.#go(0);
  }

  // A cell, and what is in it.
  #make() {
    const picture = el("img", { alt: "", draggable: "false", decoding: "async" });
    const cell = el("div", { class: "thumb", tabindex: -1 }, picture, el("span", { class: "tick" }), el("span", { class: "star" }));
    picture.addEventListener("load", () => cell.classList.add("here"));
    picture.addEventListener("error", () => cell.classList.add("missing"));
    return cell;
  }

  #fill(cell, index, hurried) {
    const item = shelf.at(index), tab = index === this.#active ? 0 : -1, chosen = String(picked.has(item));
    if (cell.tabIndex !== tab) cell.tabIndex = tab;
    if (cell.getAttribute("aria-selected") !== chosen) cell.setAttribute("aria-selected", chosen);
    if (cell.item !== item || (!item && !hurried)) {
      cell.item = item;
      cell.classList.toggle("starred", Boolean(item?.starred));
      cell.setAttribute("aria-label", item ? `${item.prompt || "without words"}, seed ${item.seed}${item.starred ? ", starred" : ""}`
        : `picture ${index + 1} of ${shelf.total}, being read`);
    }
    const wanted = item && (!hurried || cell.shown === item.thumbnail) ? item.thumbnail : null;
    if (cell.shown === wanted) return;
    const picture = cell.firstElementChild;
    cell.shown = wanted;
    cell.classList.remove("here", "missing");
    if (wanted === null) return picture.removeAttribute("src");
    picture.src = wanted;
    picture.classList.toggle("crisp", this.grid.side >= 2 * item.width);
  }

  #item() { return shelf.at(this.#active); }

  #tell(item) {
    if (!item || item === this.#last) return;
    this.#last = item;
    this.line.textContent = item.prompt || "without words";
  }

  // The focus.
  #focused(cell) {
    this.#active = this.grid.pin = this.grid.index(cell);
    for (const other of this.grid.grid.querySelectorAll('[tabindex="0"]')) if (other !== cell) other.tabIndex = -1;
    cell.tabIndex = 0;
    this.#tell(cell.item);
  }

  #focus() {
    this.grid.pin = this.#active;
    this.grid.draw();
    this.grid.cell(this.#active)?.focus({ preventScroll: true });
  }

  #go(index) {
    this.#active = Math.max(0, Math.min(index, shelf.total - 1));
    this.grid.reveal(this.#active);
    this.#focus();
  }

  async #moved(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { columns } = this.grid, [first, last] = this.grid.sight(), far = Math.max(last + 1 - first, columns), at = this.#active;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: shelf.total - 1,
      PageUp: at - far, PageDown: at + far }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    // Up from the first row and down from the last: nowhere.
    if ((event.key === "ArrowUp" && to < 0) || (event.key === "ArrowDown" && Math.floor(to / columns) > this.grid.last)) return;
    this.#go(to);
    if (event.shiftKey) await picked.range(this.#active, at);
  }

  #seen({ id }) {
    const index = shelf.find(id);
    if (index < 0) return;
    this.#active = index;
    if (this.grid.side) this.grid.reveal(index);
    this.grid.draw();
  }

  // By pointer.
  #clicked(event) {
    const cell = event.target.closest(".thumb");
    if (!cell?.item || this.#held) return;
    this.#active = this.grid.index(cell);
    if (event.target.closest(".star")) star([cell.item], !cell.item.starred);
    else if (event.shiftKey) picked.range(this.#active, this.#active);
    else if (event.ctrlKey || event.metaKey || event.target.closest(".tick") || picked.size) picked.toggle(cell.item);
    else show(cell.item);
  }

  #pressed(event) {
    const cell = event.target.closest(".thumb");
    clearTimeout(this.#holding);
    this.#held = false;
    if (event.pointerType !== "touch" || !cell?.item) return;
    const { item } = cell;
    this.#holding = setTimeout(() => { this.#held = true; picked.toggle(item); }, HELD);
  }

  #choose() {
    const n = picked.size;
    if ((this.bar.hidden = n === 0)) return;
    const button = (label, run, more = {}) => el("button", { type: "button", class: "plain", text: label, onclick: run, ...more });
    const all = picked.items.every(({ starred }) => starred);
    const focused = this.bar.contains(document.activeElement) ? document.activeElement.textContent : null;
    this.bar.replaceChildren(
      el("span", { class: "many", text: `${n} picked` }),
      button("×", () => picked.clear(), { class: "plain away", title: "let go of them (Esc)", "aria-label": "Let go of them" }),
      el("span", { class: "acts" },
        button(all ? "Unstar" : "Star", () => star(picked.items, !all)),
        n === 2 && button("Compare", () => show({ ...picked.items[0], against: picked.items[1] })),
        button("Download", () => download(picked.items)),
        button("Remove", () => remove(picked.items))));
    const buttons = [...this.bar.querySelectorAll("button")];
    if (focused) (buttons.find(({ textContent }) => textContent === focused) ?? buttons[0]).focus();
  }

  #sized() {
    this.size.style.setProperty("--done", `${100 * (this.size.value - SIZES.min) / (SIZES.max - SIZES.min)}%`);
    this.grid.show({ size: Number(this.size.value) });
  }
}

customElements.define("picture-gallery", PictureGallery);
