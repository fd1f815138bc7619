// <paint-stage>: what is painted over in a picture is made anew, and what is drawn out beyond its edges is added;
// the rest stays, to the bit.

import "./easel.js";
import "./well.js";
import { Field } from "./brush.js";
import { act, bound, choice, slider } from "./controls.js";
import { el, say } from "./dom.js";
import { Edges } from "./edges.js";
import { jobs } from "./jobs.js";
import { known } from "./known.js";
import { Stage } from "./mode-stage.js";
import { grey } from "./png.js";
import { Proposals } from "./proposals.js";
import { settings } from "./state.js";
import { fetched, fitted, nearest, pngOf, uploaded } from "./taken.js";
import { toolBar } from "./tools.js";

const PAINTED = 255;
const VERSIONS = 30;
const NONE = [0, 0, 0, 0];
const OTHER = { low_res: null, level: null, hires: null, hires_strength: null, hires_steps: null, mask_invert: null };
const INVERT = ["M10 3a7 7 0 0 0 0 14z", "M10 3a7 7 0 0 1 0 14"], CLEAR = ["M5 5l10 10M15 5 5 15"];

export class PaintStage extends Stage {
  static mode = "paint";
  static needs = "does not make parts of a picture anew: choose another model.";
  static lacks = () => !known.takes("mask");
  #versions = []; // of the picture: {taken, own}, own: drawn at its own size rather than at that of the model
  #at = -1;
  #sheet = null; // a canvas: the picture as it is drawn
  #blob = null; // of it, for the server
  #asked = null; // {image, mask, outpaint} of what was asked for last, on the server
  #seen = new Set(); // of the pictures that were made of that
  #showing = null; // the address of what lies over the picture
  #address = new Map(); // of each version's Blob, for showing it

  build() {
    this.well = el("picture-well");
    this.well.within = this;
    this.well.about = "A picture to change: paint over what is to be made anew, or draw out its edges.";
    this.well.addEventListener("taken", ({ detail }) => this.take(detail));
    this.easel = el("paint-easel", {
      roomy: true, "aria-label": "Picture: paint over what is to be made anew. Arrow keys move a cross, space paints.",
    });
    this.easel.edges = true;
    this.easel.addEventListener("stroke", () => this.#painted());
    this.proposals = new Proposals({
      look: (proposal) => this.#look(proposal), keep: (proposal) => this.#accept(proposal), again: () => this.#again(),
    });
    const words = (now) => now === 1 ? "nothing of what was there is used" : "what was there shines through";
    this.strength = bound(slider("Strength", { min: 0, max: 1, step: 0.01, value: 1, words }), "strength", 1);
    this.grow = bound(slider("Grow", { min: -32, max: 32, value: 0 }), "mask_grow", 0, (now) => { this.easel.grow = now; });
    this.soft = bound(slider("Soft edge", { min: 0, max: 32, step: 0.5, value: 0, curve: 2 }), "mask_blur", 0,
      (now) => { this.easel.soft = now; });
    this.said = el("p", { class: "note", role: "status" });
    this.sizes = el("div", { class: "sizes" });
    this.history = el("ol", { class: "versions", "aria-label": "Versions of the picture" });
    this.made = el("div", { class: "made" });
    this.body.append(this.made, this.well);
    this.edges = new Edges(this.easel, { change: () => { this.proposals.aside(); this.#told(); this.keep(); } });
    this.bar = toolBar(this.easel, this, ["brush", "eraser", "rectangle", "fill", "move"],
      act("Exchange what is painted and what is not", INVERT, () => this.#all((field) => field.invert())),
      act("Clear", CLEAR, () => this.#all((field) => field.clear())));
    this.made.append(this.bar, this.easel, this.proposals.bar, this.said, this.sizes,
      el("div", { class: "settings" }, this.grow, this.soft, this.strength), this.edges.fields, this.history);
    this.made.hidden = true;
    this.well.refresh();
  }

  get #version() { return this.#versions[this.#at] ?? null; }

  // made: it comes from the gallery, and some model has drawn it at the size that it is of; mask, outpaint: as they were for that.
  async take(taken, { made = false, mask = null, outpaint = null } = {}) {
    this.#versions = [{ taken, own: made }];
    await this.#go(0, { field: mask && await this.#masked(mask), margins: outpaint });
  }

  async #masked(mask) {
    const { width, height } = mask, { data } = (await fitted(mask, width, height)).getContext("2d").getImageData(0, 0, width, height);
    const field = new Field(width, height), inverted = settings.get("mask_invert") === true;
    field.bytes.forEach((_, at) => { field.bytes[at] = (data[4 * at] > 127) !== inverted ? PAINTED : 0; });
    return field.keep();
  }

  #sizesOf({ width, height }) {
    const { card, limits } = this, own = nearest(width, height, card.multiple);
    const fits = own.width <= limits.side && own.height <= limits.side && own.width * own.height <= limits.pixels;
    const usual = nearest(width, height, card.multiple, card.width * card.height);
    return { usual, own: fits ? own : usual };
  }

  // Shows a version, with nothing painted over it, unless that was kept.
  async #go(at, kept = null) {
    const version = this.#versions[at], { taken } = version, sizes = this.#sizesOf(taken);
    const { width, height } = version.own ? sizes.own : sizes.usual;
    const sheet = await fitted(taken, width, height);
    const blob = taken.width === width && taken.height === height ? taken.blob : await pngOf(sheet);
    if (this.#versions[at] !== version) return;
    this.#at = at;
    this.#sheet = sheet;
    this.#blob = blob;
    this.#asked = kept?.asked ?? null;
    this.#seen = kept?.seen ?? new Set();
    const fits = kept?.field && kept.field.width === width && kept.field.height === height;
    const field = fits ? Field.kept(kept.field) : new Field(width, height);
    this.made.hidden = false;
    this.well.compact = true;
    this.easel.lay({ width, height, picture: sheet, field, colours: this.#colours() });
    this.bar.laid();
    const { side, pixels } = this.limits;
    this.edges.limit({ multiple: this.card.multiple, side, pixels });
    this.edges.set(kept?.margins ?? NONE);
    this.proposals.set(kept?.proposals ?? [], kept?.proposal ?? 0);
    this.#told();
    this.#listed();
    this.keep();
  }

  #colours() {
    const seal = [0xae, 0x32, 0x18], wash = 0x82;
    return Uint32Array.from({ length: 256 }, (_, level) => ((wash * level / 255) << 24 | seal[2] << 16 | seal[1] << 8 | seal[0]) >>> 0);
  }

  #all(act) {
    const { easel } = this;
    easel.changed(act(easel.field));
    const other = easel.field.commit();
    easel.settled();
    if (other) easel.emit("stroke");
  }

  #painted() {
    this.proposals.aside();
    this.#told();
    this.keep();
  }

  #told() {
    const { field, width, height } = this.easel;
    if (!field) return;
    const painted = field.counts()[PAINTED], share = 100 * painted / (width * height), more = this.edges.margins.some(Boolean);
    const parts = [
      painted && `${share < 1 ? "under 1" : Math.round(share)} % of the picture is painted and will be made anew`,
      more && "what lies beyond its edges will be drawn",
    ];
    const said = parts.filter(Boolean).join("; ");
    this.said.textContent = said
      ? `${said[0].toUpperCase()}${said.slice(1)}. All else stays as it is.`
      : "Paint over what is to be made anew, or pull at an edge to draw more.";
  }

  #listed() {
    const version = this.#version, { usual, own } = this.#sizesOf(version.taken);
    const name = ({ width, height }) => `${width} × ${height}`;
    this.sizes.hidden = name(usual) === name(own);
    if (!this.sizes.hidden) {
      this.sizes.replaceChildren(choice("Size at which the picture is taken", {
        usual: { label: `${name(usual)}, which the model knows` }, own: { label: `${name(own)}, the picture’s own` },
      }, { value: version.own ? "own" : "usual", change: (value) => { version.own = value === "own"; this.#go(this.#at); } }));
    }
    this.history.hidden = this.#versions.length < 2;
    this.history.replaceChildren(...this.#versions.map(({ taken }, i) => el("li", {}, el("button", {
      type: "button", "aria-label": i ? `Version ${i + 1}` : "As it was", "aria-current": i === this.#at ? "step" : null,
      onclick: () => this.#go(i),
    }, el("img", { src: this.#shown(taken.blob), alt: "" }), i ? String(i + 1) : "as it was"))));
  }

  #shown(blob) {
    if (!this.#address.has(blob)) this.#address.set(blob, URL.createObjectURL(blob));
    return this.#address.get(blob);
  }

  // Something over the picture and its margins: what is being made, or was.
  async #over(url, within = false) {
    this.#showing = url;
    if (!url) {
      this.easel.over = null;
      this.easel.veil = 1;
      return;
    }
    const image = new Image();
    image.src = url;
    try {
      await image.decode();
    } catch {
      return say("this picture is not there any more: make it again", { kind: "error" });
    }
    if (this.#showing !== url) return;
    const [left, top, right, bottom] = this.edges.margins, { width, height } = this.easel;
    this.easel.over = { image, left: -left, top: -top, width: left + width + right, height: top + height + bottom, within };
    this.easel.veil = 0;
  }

  #look(proposal) {
    this.#over(proposal?.url ?? null);
    this.keep();
  }

  async #accept({ id, url }) {
    try {
      const taken = await fetched(url, `picture ${id}`);
      const versions = [...this.#versions.slice(0, this.#at + 1), { taken, own: true }];
      this.#versions = versions.slice(-VERSIONS);
      await this.#go(this.#versions.length - 1);
      this.easel.focus({ preventScroll: true });
    } catch ({ message }) {
      say(message, { kind: "error" });
    }
  }

  async #again() {
    try {
      await jobs.submit({ ...await this.overrides(), seed: null });
    } catch ({ message }) {
      say(message, { kind: "error" });
    }
  }

  goesBy({ request }) {
    const asked = this.#asked;
    return asked !== null && request.image === asked.image && (request.mask ?? null) === asked.mask
      && String(request.outpaint ?? NONE) === String(asked.outpaint ?? NONE);
  }

  preview(job, image) {
    this.#over(image, true);
  }

  follow({ state }) {
    if (state === "failed" || state === "cancelled") this.#look(this.proposals.looking ? this.proposals.list[this.proposals.at] : null);
  }

  finished(job, { id, url }) {
    if (this.#seen.has(id)) return;
    this.#seen.add(id);
    this.proposals.add({ id, url });
  }

  work() {
    if (!this.#version) return null;
    const { easel, edges, proposals } = this;
    return {
      versions: this.#versions, at: this.#at, field: easel.field.keep(), margins: edges.margins, asked: this.#asked,
      proposals: proposals.list, proposal: proposals.at, seen: this.#seen,
    };
  }

  async restored({ versions, at, ...kept }) {
    this.#versions = versions;
    await this.#go(at, kept);
  }

  async overrides() {
    await this.check();
    if (!this.#version) throw new Error("There is no picture to change yet: choose one, drop it here, or paste it.");
    const { field, width, height } = this.easel, margins = this.edges.margins, [left, top, right, bottom] = margins;
    const more = margins.some(Boolean), painted = field.bytes.includes(PAINTED);
    if (!more && !painted) throw new Error("Nothing is painted yet: paint over what is to be made anew, or draw out an edge.");
    if (!more && !field.bytes.includes(0))
      throw new Error("All of the picture is painted: leave something of it, or make one from words alone.");
    const [image, mask] = await Promise.all([
      uploaded(this.#blob), painted ? grey(field.bytes, width, height).then(uploaded) : null,
    ]);
    const outpaint = more ? margins : null;
    if (JSON.stringify(this.#asked) !== JSON.stringify({ image, mask, outpaint })) {
      this.proposals.set([]);
      this.#seen = new Set();
    }
    this.#asked = { image, mask, outpaint };
    await this.kept();
    return { ...OTHER, image, mask, outpaint, width: left + width + right, height: top + height + bottom };
  }
}
customElements.define("paint-stage", PaintStage);
