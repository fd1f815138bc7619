// Shapes of pictures, of about as many pixels as the model's own: shapes(card) -> [{name, width, height}], the model's own first.
// rectangle({width, height}): a drawing of one.

import { svg } from "./dom.js";

const RATIOS = [["Square", 1], ["Landscape", 3 / 2], ["Portrait", 2 / 3], ["Wide", 16 / 9], ["Tall", 9 / 16]];

export function shapes({ width, height, multiple }) {
  const near = (length) => Math.max(multiple, Math.round(length / multiple) * multiple);
  const found = RATIOS.map(([name, ratio]) => width === height && ratio === 1
    ? { name, width, height }
    : { name, width: near(Math.sqrt(width * height * ratio)), height: near(Math.sqrt(width * height / ratio)) });
  const own = found.find((shape) => shape.width === width && shape.height === height) ?? { name: "The model's own", width, height };
  const same = (one, other) => one.width === other.width && one.height === other.height;
  return [own, ...found.filter((shape, i) => !same(shape, own) && found.findIndex((other) => same(shape, other)) === i)];
}

export function rectangle({ width, height }) {
  const longest = Math.max(width, height), w = 13 * width / longest, h = 13 * height / longest;
  const drawn = svg("rect", { x: 8 - w / 2, y: 8 - h / 2, width: w, height: h, rx: 1 });
  return svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, drawn);
}
