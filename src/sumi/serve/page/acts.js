// What can be done with a picture that is done: acts({picture, request, model}) -> buttons.

import { button, el, say } from "./dom.js";
import { jobs } from "./jobs.js";
import { known } from "./known.js";

const tell = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));
const tried = (run) => async () => {
  try {
    await run();
  } catch (error) {
    say(error.message, { kind: "error" });
  }
};

export function acts({ picture, request, model }) {
  const one = { ...request, first: picture.first, count: 1, seed: picture.seed };
  const from = (mode) => () => tell("studio:start-from", { picture, mode });
  const deeds = [
    ["Again", "once more with the same settings and seed: the same picture, to the bit", tried(() => jobs.again(one, model))],
    ["Vary", "a little way off: variation 0.3, with a new seed for it", tried(() => jobs.vary(one, model))],
    ["Use these settings", "put its words and settings in place of the present ones", () => tell("studio:use", { request: one, model })],
    known.takes("image") && ["Image to image", "make another one that starts from it", from("image")],
    known.takes("mask") && ["Inpaint", "paint over what shall be made anew", from("paint")],
    known.takes("low_res") && ["Enlarge", "make it four times as large", from("enlarge")],
    ["See", "how it came: every step, and where its words looked", () => tell("studio:see", picture)],
  ];
  const download = `sumi-${picture.seed}-${picture.first}.png`, title = "the PNG, which tells how it was made";
  return [...deeds.filter(Boolean).map(([text, said, run]) => button(text, run, { title: said })),
    el("a", { class: "button", href: picture.url, download, title, text: "Download" })];
}
