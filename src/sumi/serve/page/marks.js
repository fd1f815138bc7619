// What is drawn on an easel beside the picture: hatching where nothing is yet, the marching edge of what is painted, and names on it.

const SPACE = 10, SIZE = 12; // pixels of the page: between two strokes of a hatching; of letters
// On the colours of classes, which are as light at night.
const INK = "#1d1b18", HALO = "#fffdf9";

/** Strokes across, in all of a rectangle of the canvas but another one: [left, top, right, bottom] each, or null for none. */
export function hatch(context, outer, inner, { line, ratio }) {
  const [left, top, right, bottom] = outer;
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.beginPath();
  for (const [x, y, toX, toY] of inner ? [outer, inner] : [outer]) context.rect(x, y, toX - x, toY - y);
  context.clip("evenodd");
  context.strokeStyle = line;
  context.lineWidth = ratio;
  context.beginPath();
  const rise = bottom - top, first = left - rise, space = SPACE * ratio;
  for (let x = first + Math.max(0, Math.floor(-left / space)) * space; x < Math.min(right, context.canvas.width); x += space) {
    context.moveTo(x, bottom);
    context.lineTo(x + rise, top);
  }
  context.stroke();
  context.restore();
}

/** The edge of what is painted, of dashes that stand so many pixels farther on. */
export function march(context, edge, { scale, x, y }, shift, { sheet, seal, ratio }) {
  const path = new Path2D();
  path.addPath(edge, new DOMMatrix([scale, 0, 0, scale, x, y]));
  const stripes = context.createPattern(striped(sheet, seal), "repeat");
  stripes.setTransform(new DOMMatrix([ratio, 0, 0, ratio, ratio * shift, 0]));
  context.strokeStyle = stripes;
  context.lineWidth = 1.5 * ratio;
  context.stroke(path);
}

function striped(ground, stripe) {
  const canvas = new OffscreenCanvas(8, 8), context = canvas.getContext("2d");
  context.fillStyle = ground;
  context.fillRect(0, 0, 8, 8);
  context.strokeStyle = stripe;
  context.lineWidth = 2.9;
  for (const x of [-8, 0, 8]) {
    context.beginPath();
    context.moveTo(x - 2, 10);
    context.lineTo(x + 10, -2);
    context.stroke();
  }
  return canvas;
}

/** Names where there is room for them. */
export function name(context, labels, view, { font, ratio }) {
  const size = SIZE * ratio;
  Object.assign(context, {
    font: `600 ${size}px ${font}`, textAlign: "center", textBaseline: "middle",
    lineJoin: "round", lineWidth: 3 * ratio, strokeStyle: HALO, fillStyle: INK,
  });
  for (const { text, x, y, reach } of labels) {
    if (reach * view.scale < 0.7 * size) continue;
    const place = view.from(x, y);
    context.strokeText(text, ...place);
    context.fillText(text, ...place);
  }
}
