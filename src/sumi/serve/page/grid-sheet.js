// A grid as one PNG: a canvas with its headings, and in the file what it was made of, as `sumi grid` writes it.

import { writeJson } from "./api.js";
import { called } from "./grid-table.js";
import { crc32 } from "./png.js";

const GAP = 4, INK = "#1d1b18", PAPER = "#fffdf9", SOFT = "#8a8378";
const LONGEST = 16_384, MOST = 200e6;   // what a browser draws at most: pixels of a side, and in all

function lines(context, text, width) {
  const found = [];
  for (const word of text.split(/\s+/)) {
    const longer = found.length ? `${found.at(-1)} ${word}` : word;
    if (found.length && context.measureText(longer).width <= width) found[found.length - 1] = longer;
    else found.push(word);
  }
  return found;
}

async function decoded(cell) {
  const reply = await fetch(cell.job.pictures[0].url);
  if (!reply.ok) throw new Error(`a picture of the grid is no longer there (${reply.status}): make it again`);
  return createImageBitmap(await reply.blob());
}

// A Blob of the whole grid, sheet below sheet; cells that are not done stay empty. Throws an Error with one line for people.
export async function sheet(grid, card) {
  const [x, y, z] = grid.axes;
  const [columns, rows, sheets] = grid.axes.map((axis) => axis ? axis.values.length : 1);
  const pictures = new Map();
  for (const cell of grid.cells) if (cell.job?.state === "done") pictures.set(cell, await decoded(cell));
  const side = (name) => Math.max(card[name], ...[...pictures.values()].map((picture) => picture[name]));
  const [width, height] = [side("width"), side("height")];
  const size = Math.max(12, Math.floor(Math.min(width, height) / 12));
  const line = Math.ceil(size * 1.3);
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext("2d");
  const font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  context.font = font;
  const edges = (axis, most) => axis ? axis.values.map((_, i) => lines(context, called(axis, i), most)) : [];
  const [above, beside, titles] = [edges(x, width), edges(y, 2 * width), edges(z, columns * (width + GAP))];
  const widest = (all) => Math.max(0, ...all.flat().map((text) => context.measureText(text).width));
  const tallest = (all) => Math.max(0, ...all.map(({ length }) => length)) * line;
  // Columns as wide as their longest word, rows as high as their heading.
  const across = Math.max(width, Math.ceil(widest(above))) + GAP, down = Math.max(height, tallest(beside)) + GAP;
  const left = y ? Math.ceil(widest(beside)) + 2 * GAP : GAP;
  const top = x ? tallest(above) + GAP : 0, title = z ? tallest(titles) + 2 * GAP : 0;
  const page = title + GAP + top + rows * down;
  const whole = [left + columns * across, sheets * page + (sheets - 1) * 2 * GAP];
  if (Math.max(...whole) > LONGEST || whole[0] * whole[1] > MOST)
    throw new Error(`a sheet of ${whole[0]} x ${whole[1]} pixels is more than a browser draws: use \`sumi grid\`, or make fewer pictures`);
  [canvas.width, canvas.height] = whole;
  context.fillStyle = PAPER;
  context.fillRect(0, 0, ...whole);
  context.font = font;
  context.textBaseline = "middle";
  const write = (texts, at, middle, align) => {
    context.textAlign = align;
    context.fillStyle = INK;
    texts.forEach((text, i) => context.fillText(text, at, middle + (i - (texts.length - 1) / 2) * line));
  };
  for (let k = 0; k < sheets; k++) {
    const begin = k * (page + 2 * GAP), first = begin + title + GAP + top;
    if (z) write(titles[k], left, begin + GAP + title / 2, "left");
    above.forEach((texts, i) => write(texts, left + i * across + (across - GAP) / 2, first - GAP / 2 - texts.length * line / 2, "center"));
    beside.forEach((texts, j) => write(texts, left - GAP, first + j * down + (down - GAP) / 2, "right"));
    for (const [{ place: [i, j, n] }, picture] of pictures) {
      if (n !== k) continue;
      const at = [left + i * across + (across - GAP - picture.width) / 2, first + j * down + (down - GAP - picture.height) / 2];
      context.drawImage(picture, ...at.map(Math.floor));
    }
    context.strokeStyle = SOFT;
    for (const { place: [i, j, n], job } of grid.cells)
      if (n === k && job?.state !== "done")
        context.strokeRect(left + i * across + 0.5, first + j * down + 0.5, across - GAP - 1, down - GAP - 1);
  }
  for (const picture of pictures.values()) picture.close();
  return labelled(await canvas.convertToBlob({ type: "image/png" }), "sumi-grid", writeJson(described(grid)));
}

function described({ base, axes }) {
  const told = Object.fromEntries(axes.flatMap((axis, i) => axis ? [["xyz"[i], { field: axis.name, values: axis.values }]] : []));
  return { request: base.request, ...told };
}

// The PNG with a text in it (PNG, third edition, 11.3.3.4: iTXt), after the header, which is always 33 bytes long.
async function labelled(png, keyword, text) {
  const body = new TextEncoder().encode(`iTXt${keyword}\0\0\0\0\0${text}`);
  const chunk = new DataView(new ArrayBuffer(body.length + 8));
  chunk.setUint32(0, body.length - 4);
  new Uint8Array(chunk.buffer).set(body, 4);
  chunk.setUint32(body.length + 4, crc32(body));
  return new Blob([png.slice(0, 33), chunk, png.slice(33)], { type: "image/png" });
}
