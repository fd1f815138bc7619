// What may stand on an axis: the fields of a request that vary, words of the prompt, sizes and models;
// and what the model at hand takes of them.

import { MODEL, REPLACE, SIZE } from "./axes.js";
import { about } from "./why.js";

const NOT_VARIED = new Set(["count", "digests", "width", "height", "image", "mask", "map", "depth", "low_res", "like"]);
const OFTEN = ["seed", "steps", "guidance", "sampler", "spacing", "strength", "label", "clip_skip", "eta"];
const ELSEWHERE = { guidance: "CFG scale", strength: "denoising", spacing: "schedule type" };   // as A1111 calls them
const NOT_FOR_ALL = new Set(["outpaint", "level", "image_guidance", "hires", "label"]);
const WORDLESS = new Set(["prompt", "negative", "emphasis", "clip_skip", REPLACE]);
const EXAMPLES = {
  [REPLACE]: "red, blue, green", [SIZE]: "64x64, 96x64", seed: "1-4", steps: "5-20 (+5)", guidance: "1-9 [5]", strength: "0.2-1 [5]",
  prompt: "a cat | a dog, asleep", negative: "dark | blurred, dark", clip_skip: "1-3", eta: "0, 0.5, 1", int: "1-4", float: "0-1 [5]",
  str: "one | two", sigmas: "14,3,1,0 | 14,5,2,0", outpaint: "8,0,8,0 | 0,8,0,8", guidance_interval: "0,5 | 1,10", tuple: "1,2 | 3,4",
  options: "order=2 | order=3",
};

function called(name) {
  const title = about[name]?.title ?? name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
  return ELSEWHERE[name] ? `${title} (${ELSEWHERE[name]})` : title;
}

// What a model is, by its name; null: the one that comes with sumi.
export const cardOf = ({ models }, name) => (models.find(({ id }) => id === name) ?? models.find((one) => one.default) ?? models[0]).card;

// [{name, called, about, group, type, low, high, choices, suggested, example, count}]; choices are all there are, suggested some of them.
export function axisFields(known) {
  const card = known.card();
  const suggested = {
    sampler: known.samplers.map(({ name }) => name), spacing: known.spacings.map(({ name }) => name), label: card.labels,
  };
  const fields = known.fields.filter(({ name }) => !NOT_VARIED.has(name)).map((field) => ({
    ...field, called: called(field.name), about: field.doc.replace(/(: see `[^`]*`)? \(default:[^)]*\)$/, ""),
    group: OFTEN.includes(field.name) ? "" : field.group,
    suggested: field.type === "bool" ? ["true", "false"] : suggested[field.name] ?? field.choices,
    example: EXAMPLES[field.name] ?? EXAMPLES[field.type] ?? "",
  }));
  const own = [
    {
      name: REPLACE, called: "Words of the prompt (S/R)", type: "str", example: EXAMPLES[REPLACE],
      about: "the first is looked for in the prompt; each, itself included, takes its place",
    },
    { name: SIZE, called: "Size", type: "size", example: EXAMPLES[SIZE], about: "width x height, in pixels" },
    ...known.models.length < 2 ? [] : [{
      name: MODEL, called: "Model", type: "str", choices: known.models.map(({ id }) => id), suggested: known.models.map(({ id }) => id),
      about: "which model makes it", example: "",
    }],
  ].map((field) => ({ group: "", choices: [], suggested: [], ...field }));
  const order = [REPLACE, ...OFTEN.slice(0, 5), SIZE, ...OFTEN.slice(5), MODEL];
  const place = ({ name }) => order.includes(name) ? order.indexOf(name) : order.length;
  return [...own, ...fields]
    .filter(({ name }) => (card.prompt || !WORDLESS.has(name)) && (card.takes.includes(name) || !NOT_FOR_ALL.has(name)))
    .sort((a, b) => place(a) - place(b));
}
