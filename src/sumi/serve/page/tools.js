// The tools beside an easel: what paints, how wide, back and forth, nearer and farther; and their keys.

import { act, choice, slider } from "./controls.js";
import { el } from "./dom.js";
import { key } from "./keys.js";

export const TOOLS = {
  brush: {
    label: "Brush", keys: "b",
    draw: ["M16.5 3.5 9 11", "M9 11c-1.5-.7-4 .3-4.2 2.6C4.7 15 4 16 3 16.5c3.5.8 7-.4 6.9-3.4 0-.9-.3-1.6-.9-2.1z"],
  },
  eraser: { label: "Eraser", keys: "e", draw: ["M8.5 16 3.5 11 11 3.5l5.5 5.5-7 7z", "M6.8 7.7l5.5 5.5", "M8 16h9"] },
  rectangle: { label: "Rectangle", keys: "r", draw: ["M3.5 5h13v10h-13z"] },
  fill: { label: "Fill", keys: "f", draw: ["M4 10l6-6 6 6-6 6z", "M4.2 10h11.6", "M10 4 8 2", "M17 13.5c1 1.5 1 2.8 0 2.8s-1-1.3 0-2.8z"] },
  pick: {
    label: "Pick up", keys: "p",
    draw: ["M11 6l3 3-7.5 7.5H3.5v-3z", "M9.8 4.8l5.4 5.4", "M12.5 7.5 15 5c.8-.8 2-.8 2.5-.2s.4 1.6-.4 2.4L14.5 9.5"],
  },
  move: { label: "Move", keys: "h", draw: ["M10 2.5v15M2.5 10h15", "M8 4.5 10 2.5l2 2M8 15.5l2 2 2-2M4.5 8l-2 2 2 2M15.5 8l2 2-2 2"] },
};
const UNDO = ["M4 8.5h8a4 4 0 0 1 0 8H8", "M7.5 5 4 8.5 7.5 12"], REDO = ["M16 8.5H8a4 4 0 0 0 0 8h4", "M12.5 5 16 8.5 12.5 12"];
const NEARER = ["M10 4v12M4 10h12"], FARTHER = ["M4 10h12"], FIT = ["M3.5 7.5v-4h4M12.5 3.5h4v4M16.5 12.5v4h-4M7.5 16.5h-4v-4"];
const WIDER = 1.25;

const typing = () => document.activeElement?.matches("textarea, input:not([type=range], [type=radio], [type=checkbox])");

/** The bar of an easel. names: of TOOLS; stage: while it is seen, the keys are its; more: further buttons. */
export function toolBar(easel, stage, names, ...more) {
  const tools = choice("Tool", Object.fromEntries(names.map((name) => [name, TOOLS[name]])),
    { value: easel.tool, change: (name) => take(name) });
  let laid = 1; // the longer side of the picture that the brush suits
  const size = slider("Size", { min: 1, max: 64, value: easel.brush, curve: 2, change: (now) => { easel.brush = now; easel.mark(); } });
  const back = act("Undo", UNDO, () => step("undo"), "Ctrl+Z"), forth = act("Redo", REDO, () => step("redo"), "Ctrl+Shift+Z");
  const take = (name) => {
    easel.tool = tools.value = name;
    easel.dataset.tool = name;
    easel.mark();
  };
  const step = (which) => {
    const part = easel.field?.[which]();
    if (!part) return false;
    easel.changed(part);
    easel.settled();
    easel.emit("stroke");
  };
  const steps = () => {
    back.disabled = !easel.field?.past.length;
    forth.disabled = !easel.field?.future.length;
  };
  easel.addEventListener("stroke", steps);

  const when = () => stage.checkVisibility() && !document.querySelector("dialog[open]");
  const bind = (combo, label, run) => key(combo, label, run, { when });
  for (const name of names) bind(TOOLS[name].keys, `painting: ${TOOLS[name].label.toLowerCase()}`, () => take(name));
  const wide = (by) => {
    const now = by > 1 ? Math.max(size.value + 1, Math.round(size.value * by)) : Math.min(size.value - 1, Math.round(size.value * by));
    easel.brush = size.value = Math.min(Math.max(now, 1), size.most());
    easel.mark();
  };
  bind("[", "painting: a smaller brush", () => wide(1 / WIDER));
  bind("]", "painting: a larger brush", () => wide(WIDER));
  bind("Ctrl+z", "painting: undo a stroke", () => typing() ? false : step("undo"));
  bind("Ctrl+Shift+z", "painting: redo it", () => typing() ? false : step("redo"));
  bind("Ctrl+y", null, () => typing() ? false : step("redo"));

  const bar = el("div", { class: "tools", role: "group", "aria-label": "Painting" },
    tools, size, el("div", { class: "row" }, back, forth, ...more),
    el("div", { class: "row" },
      act("Nearer", NEARER, () => easel.zoom(1.5)), act("Farther", FARTHER, () => easel.zoom(1 / 1.5)),
      act("All of it", FIT, () => easel.fit())));
  /** For another picture: a brush that suits its size. */
  bar.laid = () => {
    const before = laid;
    laid = Math.max(easel.width, easel.height);
    size.limit(Math.max(8, Math.round(laid / 2)));
    if (Math.abs(Math.log2(laid / before)) < 1) return steps();
    easel.brush = size.value = Math.max(1, Math.round(laid / 10));
    steps();
  };
  bar.take = take;
  take(easel.tool);
  steps();
  return bar;
}
