// <image-stage>: a picture from a picture. The more strength, the less of it is left.

import "./compare.js";
import "./well.js";
import { bound, slider } from "./controls.js";
import { el } from "./dom.js";
import { known } from "./known.js";
import { Stage } from "./mode-stage.js";
import { uploaded } from "./taken.js";

const USUAL = 0.75; // the request's own
const WORDS = [
  [0.1, "nearly nothing changes"],
  [0.3, "small details are drawn anew"],
  [0.5, "shapes and colours stay"],
  [0.7, "the layout stays, things may change"],
  [0.9, "a memory of its colours stays"],
  [1, "hardly anything of it stays"],
];
const words = (strength) => WORDS.find(([most]) => strength <= most)[1];

export class ImageStage extends Stage {
  static mode = "image";
  static lacks = () => !known.takes("image");
  static needs = "does not start from pictures: choose another model.";
  #taken = null;
  #id = null; // of the picture, on the server
  #url = null;
  #result = null; // the address of the newest picture that was made from it

  build() {
    this.well = el("picture-well");
    this.well.within = this;
    this.well.about = "A picture to start from: what is made keeps as much of it as you say.";
    this.well.addEventListener("taken", ({ detail }) => this.take(detail));
    this.strength = bound(slider("Strength", { min: 0, max: 1, step: 0.01, value: USUAL, words }), "strength", USUAL);
    this.compare = el("before-after");
    this.next = el("button", { type: "button", class: "button", text: "Start from the result", onclick: () => this.#onward() });
    this.made = el("div", { class: "made" }, this.strength, this.compare, el("div", { class: "row" }, this.next));
    this.body.append(this.made, this.well);
    this.#show();
    this.well.refresh();
  }

  async take(taken) {
    this.#taken = taken;
    this.#id = this.#result = null;
    this.#show();
    this.keep();
    this.#id = await uploaded(taken.blob);
    this.keep();
  }

  #show() {
    const taken = this.#taken;
    this.made.hidden = !taken;
    this.well.compact = Boolean(taken);
    this.next.hidden = !this.#result;
    if (!taken) return;
    if (this.#url?.blob !== taken.blob) {
      if (this.#url) URL.revokeObjectURL(this.#url.address);
      this.#url = { blob: taken.blob, address: URL.createObjectURL(taken.blob) };
    }
    this.#compared(this.#result);
  }

  #compared(after) {
    const { width, height } = this.#taken;
    this.compare.show({
      before: this.#url.address, after, width, height, names: ["start", "made of it"],
      alt: ["The picture to start from", "What was made of it"],
    });
  }

  async #onward() {
    const id = this.#result.split("/").at(-1);
    document.dispatchEvent(new CustomEvent("studio:start-from", { detail: { picture: { id }, mode: "image" } }));
  }

  goesBy({ request }) {
    return this.#id !== null && request.image === this.#id && !request.mask && !request.outpaint;
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
    return { taken: this.#taken, id: this.#id, result: this.#result };
  }

  async restored({ taken, id, result }) {
    this.#taken = taken;
    this.#id = id;
    this.#result = result;
    this.#show();
  }

  async overrides() {
    await this.check();
    if (!this.#taken) throw new Error("There is no picture to start from yet: choose one, drop it here, or paste it.");
    this.#id = await uploaded(this.#taken.blob);
    await this.kept();
    return { image: this.#id };
  }
}
customElements.define("image-stage", ImageStage);
