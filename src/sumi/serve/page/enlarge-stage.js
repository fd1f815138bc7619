// <enlarge-stage>: a small picture made four times as large, beside what plain smoothing makes of it.

import "./compare.js";
import "./well.js";
import { choice } from "./controls.js";
import { el } from "./dom.js";
import { known } from "./known.js";
import { Stage } from "./mode-stage.js";
import { fitted, nearest, pngOf, uploaded } from "./taken.js";

const TIMES = 4;
const OTHER = { image: null, mask: null, outpaint: null, hires: null, hires_strength: null, hires_steps: null };

export class EnlargeStage extends Stage {
  static mode = "enlarge";
  static lacks = () => !known.takes("low_res");
  static needs = "does not enlarge pictures: choose a model of super-resolution, "
    + "or start from the picture at a larger size, under “from a picture”.";
  #taken = null;
  #size = null; // {width, height} at which the picture is taken
  #small = null; // a canvas: the picture at that size
  #smooth = null; // and four times as large
  #blob = null;
  #id = null;
  #result = null;

  build() {
    this.well = el("picture-well");
    this.well.within = this;
    this.well.about = `A small picture: it is drawn ${TIMES} times as wide and high, with details that it does not have.`;
    this.well.addEventListener("taken", ({ detail }) => this.take(detail));
    this.compare = el("before-after");
    this.told = el("p", { class: "note" });
    this.sizes = el("div", { class: "sizes" });
    this.made = el("div", { class: "made" }, this.sizes, this.compare, this.told);
    this.body.append(this.made, this.well);
    this.#show();
    this.well.refresh();
  }

  async take(taken) {
    this.#taken = taken;
    await this.#sized(this.#offers(taken)[0]);
  }

  // The sizes at which it can be taken: its own, and that which the model was made for; as far as the server draws the result.
  #offers({ width, height }) {
    const multiple = Math.max(1, this.card.multiple / TIMES), area = this.card.width * this.card.height / TIMES ** 2;
    const { side, pixels } = this.limits;
    const fits = (size) => Math.max(size.width, size.height) * TIMES <= side && size.width * size.height * TIMES ** 2 <= pixels;
    const known = nearest(width, height, multiple, area), own = nearest(width, height, multiple);
    return own.width === known.width && own.height === known.height || !fits(own) ? [known] : [own, known];
  }

  async #sized(size) {
    const taken = this.#taken;
    const small = await fitted(taken, size.width, size.height);
    const large = Object.assign(document.createElement("canvas"), { width: TIMES * size.width, height: TIMES * size.height });
    const context = large.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, large.width, large.height);
    const same = taken.width === size.width && taken.height === size.height;
    const blob = same ? taken.blob : await pngOf(small);
    if (taken !== this.#taken) return;
    this.#size = size;
    this.#small = small;
    this.#smooth = large;
    this.#blob = blob;
    this.#id = this.#result = null;
    this.#show();
    this.keep();
  }

  #show() {
    const taken = this.#taken;
    this.made.hidden = !this.#small;
    this.well.compact = Boolean(this.#small);
    if (!this.#small) return;
    const { width, height } = this.#size, offers = this.#offers(taken);
    const told = (size, times = 1) => `${times * size.width} × ${times * size.height}`;
    this.sizes.replaceChildren(choice(
      "Size at which the picture is taken",
      Object.fromEntries(offers.map((size) => [told(size), { label: `${told(size)} → ${told(size, TIMES)}` }])),
      { value: told(this.#size), change: (value) => this.#sized(offers.find((size) => told(size) === value)) },
    ));
    this.sizes.hidden = offers.length < 2;
    const taking = width === taken.width && height === taken.height
      ? `The picture is of ${told(taken)} pixels` : `The picture of ${told(taken)} pixels is taken at ${told(this.#size)}`;
    this.told.textContent = `${taking}; what is made of it is of ${told(this.#size, TIMES)}.`;
    this.#compared(this.#result);
  }

  #compared(after) {
    const { width, height } = this.#smooth;
    this.compare.show({
      before: this.#smooth, after, width, height, names: ["only smoothed", "drawn"],
      alt: ["The small picture, enlarged by smoothing alone", "The picture drawn four times as large"],
    });
  }

  goesBy({ request }) {
    return this.#id !== null && request.low_res === this.#id;
  }

  preview(job, image) { this.#compared(image); }

  follow({ state }) {
    if (state === "failed" || state === "cancelled") this.#show();
  }

  finished(job, picture) {
    this.#result = picture.url;
    this.#show();
    this.keep();
  }

  work() {
    return this.#taken && { taken: this.#taken, size: this.#size, id: this.#id, result: this.#result, blob: this.#blob };
  }

  async restored({ taken, size, id, result, blob }) {
    this.#taken = taken;
    await this.#sized(size);
    this.#id = id;
    this.#blob = blob;
    this.#result = result;
    this.#show();
    this.keep();
  }

  async overrides() {
    await this.check();
    if (!this.#small) throw new Error("There is no picture to enlarge yet: choose one, drop it here, or paste it.");
    this.#id = await uploaded(this.#blob);
    await this.kept();
    const { width, height } = this.#size;
    return { ...OTHER, low_res: this.#id, width: TIMES * width, height: TIMES * height };
  }
}
customElements.define("enlarge-stage", EnlargeStage);
