// Width and height in one line, and which of the two is which exchanged.

import { button, el, icon } from "./dom.js";
import { framed } from "./explained.js";
import { known } from "./known.js";
import { settings } from "./state.js";
import { about } from "./why.js";

export function size() {
  const read = (name, text) => {
    const { low, high } = known.field(name), value = text.trim() === "" ? null : Math.min(Math.max(Math.round(Number(text)), low), high);
    settings.set({ [name]: value === known.card()?.[name] ? null : value });
  };
  const field = (name, label) => el("input", {
    type: "number", id: `field-${name}`, min: 1, step: 1, inputmode: "numeric", "aria-label": label,
    oninput: ({ target }) => read(name, target.value), onchange: ({ target }) => draw(name, target),
  });
  const draw = (name, input) => { input.value = settings.get(name) ?? ""; };
  const width = field("width", "Width"), height = field("height", "Height");
  const now = (name) => settings.get(name) ?? known.card()?.[name] ?? null;
  const exchange = () => {
    const [w, h] = [now("height"), now("width")], own = known.card();
    settings.set({ width: w === own.width ? null : w, height: h === own.height ? null : h });
  };
  const swap = button("", exchange, { class: "plain", "aria-label": "Exchange width and height", title: "exchange them" });
  swap.append(icon("M2.5 5.5h11M10.5 2.5l3 3-3 3M13.5 10.5h-11M5.5 7.5l-3 3 3 3"));
  const frame = framed({
    name: "width", id: "field-size", title: "Size", why: about.width.why, doc: `width and height ${known.field("width").doc}`,
    labelled: false, wide: true, reset: () => settings.set({ width: null, height: null }),
    parts: [el("div", { class: "size", role: "group", "aria-label": "Size" }, width, swap, height)],
  });
  const show = () => {
    frame.mark(settings.get("width") !== null || settings.get("height") !== null);
    for (const [name, input] of [["width", width], ["height", height]]) {
      input.placeholder = known.card()?.[name] ?? "";
      if (document.activeElement !== input) draw(name, input);
    }
  };
  return { element: frame.element, show, tell: frame.tell, name: "width" };
}
