// Small controls that the modes share: a slider with its number and words, a choice of one, a button with a drawing.

import { el, svg } from "./dom.js";
import { settings } from "./state.js";

let made = 0;
const named = () => `control-${++made}`;

/** A labelled slider; .value reads and sets. words(value): what it does, told beside it; change(value): it was moved. */
export function slider(label, { min, max, step = 1, value, words = null, change = () => {}, curve = 1 }) {
  // With a curve, small values have more of the way.
  const to = (at) => min + (max - min) * (at / 1000) ** curve, share = (number) => ((number - min) / (max - min)) ** (1 / curve);
  const rounded = (number) => Number((Math.round(number / step) * step).toFixed(6));
  const id = named();
  const range = el("input", { type: "range", id, min: curve === 1 ? min : 0, max: curve === 1 ? max : 1000, step: curve === 1 ? step : 1 });
  const number = el("input", { type: "number", min, max, step, "aria-label": `${label}, as a number` });
  const told = words && el("output", { for: id });
  const show = (now) => {
    const place = share(Math.min(Math.max(now, min), max));
    range.value = curve === 1 ? now : 1000 * place;
    range.style.setProperty("--done", `${100 * place}%`);
    range.setAttribute("aria-valuetext", words ? `${now}: ${words(now)}` : String(now));
    if (document.activeElement !== number) number.value = now;
    if (told) told.textContent = words(now);
  };
  const set = (now) => { element.now = now; show(now); };
  const element = el("div", { class: "slider" }, el("label", { for: id, text: label }), range, number, told);
  range.addEventListener("input", () => { set(rounded(curve === 1 ? Number(range.value) : to(range.value))); element.moved(element.now); });
  number.addEventListener("input", () => {
    if (!number.validity.valid || number.value === "") return;
    set(Number(number.value));
    element.moved(element.now);
  });
  number.addEventListener("blur", () => show(element.now));
  Object.defineProperty(element, "value", { get: () => element.now, set });
  element.limit = (most) => {
    max = number.max = most;
    if (curve === 1) range.max = most;
  };
  element.most = () => max;
  element.moved = change;
  set(value);
  return element;
}

/** A slider of a setting, whoever sets it; `usual` where it is not set. shown(value): it is another. */
export function bound(control, name, usual, shown = () => {}) {
  const show = () => {
    control.value = settings.get(name) ?? usual;
    shown(control.value);
  };
  control.moved = (now) => settings.set({ [name]: now === usual ? null : now });
  settings.addEventListener("change", ({ detail }) => { if (detail.has(name)) show(); });
  show();
  return control;
}

/** One of several, as buttons in a row: options {value: {label, draw: [paths], keys}}; .value reads and sets. */
export function choice(legend, options, { value, change }) {
  const name = named();
  const inputs = Object.entries(options).map(([key, { label, draw = null, keys = null }]) => {
    const input = el("input", { type: "radio", name, value: key, onchange: () => change(key) });
    const title = keys ? `${label} (${keys})` : label;
    return [input, el("label", { title }, input, draw && drawn(draw), el("span", { class: draw ? "word" : "", text: label }))];
  });
  const element = el("fieldset", { class: "choice" }, el("legend", { class: "unseen", text: legend }), ...inputs.map(([, label]) => label));
  const set = (now) => inputs.forEach(([input]) => { input.checked = input.value === now; });
  Object.defineProperty(element, "value", { get: () => inputs.find(([input]) => input.checked)?.[0].value ?? null, set });
  set(value);
  return element;
}

const drawn = (paths) =>
  svg("svg", { viewBox: "0 0 20 20", class: "drawn", "aria-hidden": "true" }, ...paths.map((d) => svg("path", { d })));

/** A button of a drawing, with its name for who points or listens. */
export function act(label, paths, run, keys = null) {
  const title = keys ? `${label} (${keys})` : label;
  return el("button", { type: "button", class: "act", "aria-label": label, title, onclick: run }, drawn(paths));
}

/** A number in a label. */
export function number(label, { min, max, step = 1, value = 0, change }) {
  const input = el("input", { type: "number", min, max, step, value });
  input.addEventListener("change", () => {
    const given = Number(input.value), now = Math.min(Math.max(Math.round(given / input.step) * input.step, input.min), input.max);
    input.value = Number.isFinite(now) ? now : 0;
    change(Number(input.value));
  });
  const element = el("label", { class: "number" }, el("span", { text: label }), input);
  Object.defineProperty(element, "value", { get: () => Number(input.value), set: (now) => { input.value = now; } });
  element.input = input;
  return element;
}

