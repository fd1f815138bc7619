// <picture-view>: one picture, as large as fits, and how it was made. "studio:show" opens it, with {id},
// {id, among: [{id}]} to turn over some alone, or {id, against: {id}} to compare two. It tells "studio:shown" {id}, and "studio:left" {id}.
import { api } from "./api.js";
import { el, icon, say } from "./dom.js";
import { copier, differences, settingsOf, size, when, words } from "./facts.js";
import { jobs } from "./jobs.js";
import { key } from "./keys.js";
import { known } from "./known.js";
import { address, download, pictures, remove, STAR, star } from "./pictures.js";
import { shelf } from "./shelf.js";
import { settings } from "./state.js";
import { Zoom } from "./zoom.js";

const SIGNS = {
  back: "M10 3L5 8l5 5", on: "M6 3l5 5-5 5", close: "M3.5 3.5l9 9M12.5 3.5l-9 9", save: "M8 2v8M4.5 6.8L8 10.3l3.5-3.5M2.5 13.5h11",
  bin: "M3 4.5h10M6.5 4V2.5h3V4M4.5 4.5l.6 9h5.8l.6-9", nearer: "M8 3.5v9M3.5 8h9", farther: "M3.5 8h9",
};
const STARTS = [["Image to image", "image", "image"], ["Inpaint", "paint", "mask"], ["Enlarge", "enlarge", "low_res"]];
const MOVE = 60;
const tell = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));
const button = (label, run, more = {}, ...inside) =>
  el("button", { type: "button", class: "button", onclick: run, ...more }, ...inside.length ? inside : [label]);
const sign = (name, label, run, more = {}) =>
  button(label, run, { class: "sign", "aria-label": label, title: label, ...more }, icon(SIGNS[name] ?? name));

async function loaded(id) {
  const picture = el("img", { alt: "", draggable: "false", src: address({ id }) });
  const [info] = await Promise.all([api.get(address({ id }, "/info")), picture.decode().catch(() => {})]);
  picture.alt = info.prompt || "a picture without words";
  return { info, picture };
}

class PictureView extends HTMLElement {
  #info = null;        // of what is shown
  #before = null;      // of the one shown before
  #against = null;     // of the one it is compared with
  #among = null;       // the pictures it is one of, if not all
  #index = 0;          // which of them
  #asked = 0;

  connectedCallback() {
    if (this.dialog) return;
    this.stage = el("div", { class: "stage" });
    this.split = el("input", {
      type: "range", min: 0, max: 100, step: "any", "aria-label": "How much of each picture is shown", oninput: () => this.#parted(),
    });
    this.parting = el("div", { class: "parting", hidden: true }, el("span", { class: "of" }), this.split, el("span", { class: "of" }));
    this.port = el("div", { class: "port", tabindex: 0, role: "group", "aria-label": "The picture" }, this.stage);
    this.place = el("p", { class: "place", role: "status" });
    this.percent = button("", () => this.#fitOrActual(), { class: "plain percent", title: "as large as fits, or pixel by pixel" });
    this.starring = sign(STAR, "Star", () => this.#star(), { "aria-pressed": "false" });
    this.comparing = button("Compare", () => this.#compare(), { class: "plain comparing", "aria-pressed": "false" });
    this.about = el("section", { class: "how", "aria-label": "How it was made", tabindex: 0 });
    this.back = sign("back", "Newer picture", () => this.#turn(-1));
    this.on = sign("on", "Older picture", () => this.#turn(1));
    this.dialog = el("dialog", { "aria-label": "A picture", onclose: () => this.#closed() },
      el("header", {},
        el("div", { class: "turning" }, this.back, this.on, this.place),
        el("div", { class: "zooming" },
          sign("farther", "Farther", () => this.zoom.by(Math.SQRT1_2)), this.percent,
          sign("nearer", "Nearer", () => this.zoom.by(Math.SQRT2)), this.comparing),
        el("div", { class: "keeping" },
          this.starring, sign("save", "Download", () => download([this.#info])), sign("bin", "Remove", () => this.#remove()),
          sign("close", "Close", () => this.dialog.close()))),
      el("div", { class: "showing" }, this.port, this.parting), this.about);
    this.append(this.dialog);
    this.zoom = new Zoom(this.port, this.stage, { changed: () => this.#zoomed(), turned: (by) => { if (!this.#against) this.#turn(by); } });
    for (const name of ["pointerdown", "pointermove"]) this.port.addEventListener(name, (event) => this.#pulled(event));
    document.addEventListener("studio:show", ({ detail }) => this.show(detail));
    pictures.addEventListener("change", ({ detail }) => this.#changed(detail));
    for (const name of ["items", "moved", "reset"]) shelf.addEventListener(name, () => this.#placed());
    this.#keys();
  }

  #keys() {
    const when = () => this.dialog.open && document.activeElement !== this.split;
    const keys = [
      ["ArrowLeft", "newer picture", () => this.#turn(-1)], ["ArrowRight", "older picture", () => this.#turn(1)],
      ["s", "star the picture", () => this.#star()], ["Delete", "remove the picture", () => this.#remove()],
      ["+", "nearer", () => this.zoom.by(Math.SQRT2)], ["-", "farther", () => this.zoom.by(Math.SQRT1_2)],
      ["0", "as large as fits", () => this.zoom.fit()], ["1", "pixel by pixel", () => this.zoom.actual()],
      ["c", "compare with the picture seen before", () => this.#compare()],
      ["d", "download the picture", () => { download([this.#info]); }],
      ["a", "make the picture again", () => this.#again()], ["v", "vary the picture", () => this.#vary()],
      ["u", "use the settings of the picture", () => this.#use()],
      ["Shift+ArrowLeft", null, () => this.zoom.move(MOVE, 0)], ["Shift+ArrowRight", null, () => this.zoom.move(-MOVE, 0)],
      ["Shift+ArrowUp", null, () => this.zoom.move(0, MOVE)], ["Shift+ArrowDown", null, () => this.zoom.move(0, -MOVE)],
    ];
    for (const [combo, label, run] of keys) key(combo, label && `picture: ${label}`, () => { if (this.#info) run(); }, { when });
  }

  async show({ id, against = null, among = null }) {
    const asked = ++this.#asked;
    this.#among = among;
    if (!this.dialog.open) this.#open();
    this.dialog.classList.add("waiting");
    try {
      const [one, other] = await Promise.all([loaded(id), against && loaded(against.id)]);
      if (asked !== this.#asked || !this.dialog.open) return;
      if (this.#info && this.#info.id !== id) this.#before = this.#info;
      this.#info = one.info;
      this.#show(one, other);
      this.#placed();
      tell("studio:shown", { id });
      this.#describe();
    } catch (error) {
      if (asked !== this.#asked) return;
      say(error.message, { kind: "error" });
      if (!this.#info) this.dialog.close();
    } finally {
      if (asked === this.#asked) this.dialog.classList.remove("waiting");
    }
  }

  #open() {
    this.#info = null;
    this.stage.replaceChildren();
    this.about.replaceChildren();
    this.dialog.showModal();
    this.port.focus();
    // A dialog lies over everything else, and what lies under it cannot be pressed: messages and their buttons come along.
    this.dialog.append(document.getElementById("said"));
  }

  #closed() {
    if (this.dialog.open) return;   // browsers tell late: it was opened again meanwhile
    this.#asked++;
    document.body.append(document.getElementById("said"));
    this.stage.replaceChildren();
    if (!this.#info) return;
    tell("studio:left", { id: this.#info.id });
    this.#before = this.#info;
    this.#info = null;
  }

  #show(one, other) {
    this.#against = other?.info ?? null;
    this.stage.replaceChildren(one.picture, ...other ? [other.picture] : []);
    if (other) other.picture.classList.add("other");
    this.stage.classList.toggle("two", Boolean(other));
    this.port.classList.toggle("two", Boolean(other));
    this.parting.hidden = !other;
    if (other) {
      const [left, right] = this.parting.querySelectorAll(".of");
      [left.textContent, right.textContent] = differences(other.info.request, one.info.request);
      this.split.value = 50;
      this.#parted();
    }
    this.#pressed();
    this.zoom.of(one.info.width, one.info.height);
  }

  #pressed() {
    this.starring.setAttribute("aria-pressed", this.#info.starred);
    this.comparing.setAttribute("aria-pressed", Boolean(this.#against));
    this.comparing.disabled = !this.#against && !this.#before;
    this.comparing.title = this.comparing.disabled ? "look at another picture first" : "with the picture seen before";
  }

  #zoomed() {
    this.percent.textContent = `${this.zoom.percent} %`;
    this.percent.setAttribute("aria-label", `At ${this.zoom.percent} %: to ${this.zoom.fitted ? "pixel by pixel" : "as large as fits"}`);
  }

  #fitOrActual() {
    if (this.zoom.fitted) this.zoom.actual();
    else this.zoom.fit();
  }

  // Where there is nothing to move about, the pointer takes the line along.
  #pulled({ buttons, clientX }) {
    if (!this.#against || !buttons || this.zoom.near) return;
    const { left, width } = this.stage.getBoundingClientRect();
    this.split.value = 100 * (clientX - left) / width;
    this.#parted();
  }

  #parted() {
    this.stage.style.setProperty("--at", `${this.split.value}%`);
    this.split.setAttribute("aria-valuetext", `${Math.round(this.split.value)} % of the picture seen before`);
  }

  // Where it stands: among all, or among those that whoever opened it gave.
  #length() { return this.#among?.length ?? shelf.total; }
  #item(index) { return this.#among ? this.#among[index] : shelf.item(index); }
  #find(id) { return this.#among ? this.#among.findIndex((other) => other.id === id) : shelf.find(id); }

  #placed() {
    if (!this.#info) return;
    const index = this.#find(this.#info.id);
    if (index >= 0) this.#index = index;
    this.place.textContent = index < 0 ? "" : `${(index + 1).toLocaleString("en")} of ${this.#length().toLocaleString("en")}`;
    this.back.disabled = index <= 0;
    this.on.disabled = index < 0 || index >= this.#length() - 1;
  }

  async #turn(by) {
    const index = this.#info ? this.#find(this.#info.id) : -1;
    const next = index + by < 0 || index < 0 ? null : await this.#item(index + by);
    if (next) await this.show({ ...next, among: this.#among });
  }

  async #compare() {
    if (this.#against) await this.show({ id: this.#info.id, among: this.#among });
    else if (this.#before) await this.show({ id: this.#info.id, among: this.#among, against: this.#before });
  }

  async #star() { await star([this.#info], !this.#info.starred); }
  async #remove() { await remove([this.#info]); }

  #changed({ kind, items }) {
    if (!this.dialog.open || !this.#info) return;
    if (this.#before && kind === "removed" && items.some(({ id }) => id === this.#before.id)) this.#before = null;
    const mine = items.find(({ id }) => id === this.#info.id);
    if (kind === "starred" && mine) {
      this.#info = { ...this.#info, starred: mine.starred };
      this.#pressed();
    } else if (kind === "removed" && mine) this.#leave();
    else if (kind === "restored" && items.length === 1) this.show(items[0]);
  }

  // What is shown was removed: to the one that took its place.
  async #leave() {
    const gone = this.#info.id;
    this.#among = this.#among?.filter(({ id }) => id !== gone) ?? null;
    this.#info = null;
    const last = this.#length() - 1;
    const next = last < 0 ? null : await this.#item(Math.min(Math.max(this.#index, 0), last));
    if (next) await this.show({ ...next, among: this.#among });
    else this.dialog.close();
  }

  #describe() {
    const { request, model, parameters, at, seed } = this.#info, { prompt, negative } = request;
    const rows = [["seed", [seed, copier(seed, "the seed")]], ["size", size(this.#info)], ["model", model ?? "sumi"], ["made", when(at)]];
    const only = (what, taken) => button(`only the ${what}`, () => {
      settings.set(taken);
      say(`From the picture: the ${what}`);
    }, { class: "plain" });
    const start = (mode) => () => this.#away(() => tell("studio:start-from", { picture: this.#info, mode }));
    this.about.replaceChildren(
      ...words(request).filter(Boolean),
      el("div", { class: "actions", role: "group", "aria-label": "Make" },
        button("Again", () => this.#again(), { class: "primary", title: "the same settings and seed (a)" }),
        button("Vary", () => this.#vary(), { title: "a little way off (v)" }),
        button("Use these settings", () => this.#use(), { title: "all of them (u)" })),
      el("p", { class: "or" }, "or take",
        only("words", { prompt: prompt || null, negative: negative || null }), only("seed", { seed })),
      el("div", { class: "actions", role: "group", "aria-label": "Go on from it" },
        ...STARTS.filter(([, , field]) => known.takes(field)).map(([label, mode]) => button(label, start(mode))),
        button("See how it came about", () => this.#away(() => tell("studio:see", this.#info)))),
      settingsOf(request, rows),
      el("details", {},
        el("summary", { text: "As text, for other programs" }),
        el("pre", { text: parameters, tabindex: 0 }), copier(parameters, "the text")));
    this.about.scrollTop = 0;
  }

  #away(run) {
    run();
    this.dialog.close();
  }

  async #ask(asked, told) {
    try {
      await asked;
      say(told);
    } catch (error) {
      say(error.message, { kind: "error" });
    }
  }

  #again() { this.#away(() => this.#ask(jobs.again(this.#info.request, this.#info.model), "It is made again")); }
  #vary() { this.#away(() => this.#ask(jobs.vary(this.#info.request, this.#info.model), "A variation is made")); }
  #use() { this.#away(() => tell("studio:use", { request: this.#info.request, model: this.#info.model })); }
}

customElements.define("picture-view", PictureView);
