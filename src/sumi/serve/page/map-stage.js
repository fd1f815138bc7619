// <map-stage>: a map of what is where, painted with the model's classes, and the picture of it, made again with every stroke.

import "./easel.js";
import { Field } from "./brush.js";
import { ANY, colours } from "./classes.js";
import { act, slider } from "./controls.js";
import { el, say } from "./dom.js";
import { Drafts, GROUP } from "./drafts.js";
import { known } from "./known.js";
import { Stage } from "./mode-stage.js";
import { modes } from "./modes.js";
import { grey } from "./png.js";
import { regions } from "./regions.js";
import { settings } from "./state.js";
import { among, uploaded } from "./taken.js";
import { toolBar } from "./tools.js";

const CLEAR = ["M5 5l10 10M15 5 5 15"], TRAY = "M3.5 12.5v4h13v-4";
const OPEN = ["M10 13V4M6.5 7.5 10 4l3.5 3.5", TRAY], SAVE = ["M10 4v9M6.5 9.5 10 13l3.5-3.5", TRAY];
const NAMED = 512 ** 2; // pixels of a map of which names are shown
const DRAFT = 8;
const DRAWN = ["prompt", "negative", "seed", "guidance", "label", "model", "sampler", "spacing"]; // settings that show in a draft

export class MapStage extends Stage {
  static mode = "map";
  static lacks = () => !known.takes("map");
  static needs = "takes no maps: choose another model to say what is where.";
  #seed = null; // that drafts have in common, so that the picture stays calm
  #id = null; // of the map that was asked for last, on the server
  #shown = null; // the address of the picture
  #own = null; // of the picture that was made in full, kept over a reload

  build() {
    this.easel = el("paint-easel", { "aria-label": "Map: paint what is where. Arrow keys move a cross, space paints." });
    this.easel.describe = (x, y) => `${x}, ${y}: ${this.palette.name(this.easel.field.at(x, y))}`;
    this.palette = el("class-palette");
    this.file = el("input", { type: "file", accept: "image/png", hidden: true, onchange: () => this.#opened() });
    this.picture = el("img", { alt: "The picture of this map", hidden: true });
    this.waits = el("p", { class: "waits", text: "Paint, and the picture appears here." });
    this.said = el("span", { role: "status" });
    this.here = el("span", { class: "here" });
    this.live = el("input", { type: "checkbox", role: "switch", checked: true, onchange: () => { this.#redraw(); this.keep(); } });
    this.steps = slider("Steps of a draft", { min: 1, max: 20, value: DRAFT, change: () => { this.#redraw(); this.keep(); } });
    this.veil = slider("Map shows", { min: 0, max: 1, step: 0.01, value: 1, change: (now) => { this.easel.veil = now; this.keep(); } });
    this.anew = el("button", { type: "button", class: "plain", text: "Another seed", onclick: () => this.#reseed() });
    this.drafts = new Drafts({
      request: () => this.#draft(), show: (address, steps) => this.#show(address, steps),
      tell: (words) => { this.said.textContent = words; },
    });
    this.bar = toolBar(this.easel, this, ["brush", "eraser", "rectangle", "fill", "pick", "move"],
      act("Clear", CLEAR, () => this.#clear()), act("Open a map", OPEN, () => this.file.click()),
      act("Save the map", SAVE, () => this.#save()));
    this.body.append(this.bar, this.palette.recent, el("div", { class: "pair" },
      el("figure", {}, this.easel, el("figcaption", {}, this.here)), this.palette,
      el("figure", {}, el("div", { class: "pane" }, this.waits, this.picture), el("figcaption", {}, this.said, this.anew))),
    el("div", { class: "settings" },
      el("label", { class: "switch" }, this.live, el("span", { text: "Draw while I paint" })), this.steps, this.veil),
    this.file);
    this.palette.addEventListener("choose", ({ detail }) => this.#choose(detail));
    this.easel.addEventListener("pick", ({ detail }) => { this.palette.value = detail; this.#choose(detail); });
    this.easel.addEventListener("stroke", () => { this.#named(); this.#redraw(); this.keep(); });
    this.easel.addEventListener("point", ({ detail }) => this.#point(detail));
    settings.addEventListener("change", ({ detail }) => {
      if (detail.has("width") || detail.has("height")) this.#sized();
      if (DRAWN.some((name) => detail.has(name)) && this.checkVisibility() && this.easel.field) this.#redraw();
    });
    modes.addEventListener("change", () => {
      if (this.checkVisibility() && this.easel.field && this.#own === null) this.#redraw();
    });
    this.addEventListener("dragover", (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
    this.addEventListener("drop", (event) => {
      const file = among(event.dataTransfer);
      if (!file) return;
      event.preventDefault();
      this.#read(file, file.name);
    });
  }

  take() {} // nothing starts a map from a picture

  carded() {
    if (!this.constructor.lacks()) {
      this.palette.lay(this.card.map_classes);
      this.#sized();
    }
  }

  get #size() {
    const { card } = this;
    return { width: settings.get("width") ?? card.width, height: settings.get("height") ?? card.height };
  }

  // Also in place of a seed that is set: it is asked for one.
  #reseed() {
    this.#seed = this.#drawn();
    if (settings.get("seed") !== null) settings.set({ seed: this.#seed });
    else this.#redraw();
    this.keep();
  }

  #drawn() { return String(crypto.getRandomValues(new Uint32Array(1))[0]); }

  #sized() {
    if (!this.card || this.constructor.lacks()) return;
    const { width, height } = this.#size, old = this.easel.field;
    if (old?.width === width && old?.height === height) return;
    this.#lay(old ? old.resized(width, height) : new Field(width, height, ANY));
    if (old) this.#redraw();
  }

  #lay(field) {
    const other = field.width !== this.easel.width || field.height !== this.easel.height;
    this.easel.lay({ width: field.width, height: field.height, field, colours: colours(this.card.map_classes.length) });
    if (other) this.bar.laid();
    this.easel.style.setProperty("--ratio", field.width / field.height);
    this.picture.parentElement.style.setProperty("--ratio", field.width / field.height);
    if (this.palette.used.length === 0) {
      this.palette.used = [ANY, 0];
      this.palette.value = Math.min(1, this.card.map_classes.length - 1);
    }
    this.easel.value = this.palette.value;
    this.#named();
  }

  #choose(number) {
    this.easel.value = number;
    if (["pick", "eraser", "move"].includes(this.easel.tool)) this.bar.take("brush");
    this.keep();
  }

  #named() {
    const { field, width, height } = this.easel;
    this.easel.labels = width * height > NAMED ? [] : regions(field.bytes, width, height, 4).filter(({ value }) => value !== ANY)
      .map((region) => ({ ...region, text: this.palette.name(region.value) }));
  }

  #point(place) {
    this.here.textContent = place ? this.easel.describe(place.x, place.y) : "";
  }

  #clear() {
    const { easel } = this;
    easel.changed(easel.field.clear());
    const other = easel.field.commit();
    easel.settled();
    if (other) easel.emit("stroke");
  }

  get #empty() { return this.easel.field.bytes.every((value) => value === ANY); }

  #redraw() {
    if (!this.live.checked || this.#empty) {
      this.drafts.stop();
      if (this.#empty) this.#show(null);
    } else {
      this.#own = null;
      this.drafts.changed();
    }
  }

  async #uploaded() {
    const { field, width, height } = this.easel;
    return this.#id = await uploaded(await grey(field.bytes, width, height));
  }

  // What is said of the map, to drafts and to what is made in full.
  async #asked() {
    const { width, height } = this.#size;
    this.#seed ??= this.#drawn();
    return { map: await this.#uploaded(), width, height, seed: settings.get("seed") ?? this.#seed };
  }

  async #draft() {
    if (this.#empty) return null;
    return { ...await this.#asked(), steps: this.steps.value, count: null, hires: null, hires_strength: null, hires_steps: null };
  }

  async #show(address, steps = null) {
    this.#shown = address;
    this.waits.hidden = Boolean(address);
    if (!address) {
      this.picture.hidden = true;
      this.easel.over = null;
      this.said.textContent = "";
      return;
    }
    const image = new Image();
    image.src = address;
    try {
      await image.decode();
    } catch {
      return;
    }
    if (this.#shown !== address) return;
    this.picture.src = address;
    this.picture.classList.toggle("crisp", image.naturalWidth >= this.easel.width && Math.max(this.easel.width, this.easel.height) < 384);
    this.picture.hidden = false;
    const { width, height } = this.easel;
    this.easel.over = { image, left: 0, top: 0, width, height };
    if (steps) this.said.textContent = `a draft of ${steps} ${steps === 1 ? "step" : "steps"}: Make draws it in full`;
  }

  goesBy({ request, group }) { return group !== GROUP && this.#id !== null && request.map === this.#id; }

  preview(job, image) { this.#show(image); }

  finished(job, { url }) {
    this.#own = url;
    this.#show(url);
    this.said.textContent = "made in full, and in the gallery";
    this.keep();
  }

  async take({ blob, name }) {
    await this.check();
    await this.#read(blob, name);
  }

  // A map out of a file: grey levels are the numbers of classes.
  async #read(blob, name) {
    try {
      const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
      const { width, height } = bitmap;
      const context = new OffscreenCanvas(width, height).getContext("2d");
      context.drawImage(bitmap, 0, 0);
      const { data } = context.getImageData(0, 0, width, height), map = new Field(width, height, ANY), count = this.card.map_classes.length;
      for (let at = 0; at < map.bytes.length; at++) {
        const [red, green, blue, alpha] = data.subarray(4 * at, 4 * at + 4);
        const plain = red === green && red === blue && alpha === 255;
        if (!plain) throw new Error(`${name} is in colour or transparent: a map is grey, its levels numbers of classes`);
        if (red >= count && red !== ANY) throw new Error(`${name} says ${red}, which is no class: there are ${count}, from 0`);
        map.bytes[at] = red;
      }
      const { field } = this.easel, { bytes } = map.resized(field.width, field.height);
      field.clear();
      field.bytes.set(bytes);
      field.commit();
      this.easel.changed(field.whole);
      this.easel.settled();
      this.easel.emit("stroke");
    } catch (error) {
      say(error instanceof DOMException ? `${name} cannot be read as a picture` : error.message, { kind: "error" });
    }
  }

  #opened() {
    const [file] = this.file.files;
    this.file.value = "";
    if (file) this.#read(file, file.name);
  }

  async #save() {
    const { field, width, height } = this.easel, link = el("a", { download: "map.png" });
    link.href = URL.createObjectURL(await grey(field.bytes, width, height));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  work() {
    const { easel, palette } = this;
    return easel.field && {
      field: easel.field.keep(), used: palette.used, value: palette.value,
      live: this.live.checked, steps: this.steps.value, veil: this.veil.value,
      seed: this.#seed, id: this.#id, own: this.#own,
    };
  }

  async restored({ field, used, value, live, steps, veil, seed, id, own }) {
    this.#seed = seed;
    this.#id = id;
    this.#own = own;
    this.live.checked = live;
    this.steps.value = steps;
    this.veil.value = veil;
    if (this.constructor.lacks()) return;
    const kept = Field.kept(field), { width, height } = this.#size;
    this.palette.used = used;
    this.palette.value = value;
    this.#lay(kept.width === width && kept.height === height ? kept : kept.resized(width, height));
    this.bar.laid();
    this.easel.veil = veil;
    if (own) await this.#show(own);
    else if (this.checkVisibility()) this.#redraw();
  }

  async overrides() {
    await this.check();
    if (this.#empty) throw new Error("Nothing is on the map yet: choose a class and paint it where it is to be.");
    this.drafts.stop();
    const asked = await this.#asked();
    await this.kept();
    return asked;
  }
}
customElements.define("map-stage", MapStage);
