// Seeds: text of digits, for they may have more than a number holds here. A die draws a new one for each picture; keep takes that of the
// picture shown.

import { button, el, icon } from "./dom.js";
import { settings } from "./state.js";

const MOST = 2n ** 64n - 1n;

// shown() -> the seed of the picture shown, or null.
export function seed({ field, id, set, shown }) {
  const typed = () => {
    const digits = input.value.replace(/\D/g, "");
    return digits === "" ? null : String(BigInt(digits) > MOST ? MOST : BigInt(digits));
  };
  const input = el("input", {
    type: "text", id, inputmode: "numeric", autocomplete: "off", placeholder: "drawn each time",
    oninput: () => set(typed()), onchange: () => { input.value = typed() ?? ""; },
  });
  const die = button("", () => set(null), { class: "plain", "aria-label": "Draw a new seed each time", title: "a new one each time" });
  die.append(icon("M2.5 2.5h11v11h-11z", "M5.5 5.5h.01M10.5 5.5h.01M8 8h.01M5.5 10.5h.01M10.5 10.5h.01"));
  const keep = button("keep", () => set(shown()), { class: "plain", title: "that of the picture shown" });
  const show = (value) => {
    if (document.activeElement !== input || typed() !== value) input.value = value ?? "";
    keep.disabled = shown() === null || shown() === value;
  };
  return { wide: true, parts: [input, die, keep], focus: () => input.focus(), show };
}
