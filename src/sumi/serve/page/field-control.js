// One setting of a request: its name, what it is and why one would turn it, the control, and the way back to the default.
//   control(field, usual, {choices, shown}) -> {element, show(), tell(message), name}. usual() -> the default as text, or "" if there is
//     none to tell; choices() -> [{name, about}], where the server lists them; shown() -> the seed of the picture shown. show() draws the
//     present value.

import { api } from "./api.js";
import { button, el, say } from "./dom.js";
import { framed } from "./explained.js";
import { seed } from "./seed-field.js";
import { settings } from "./state.js";
import { about } from "./why.js";

export const titled = (name) => about[name]?.title ?? `${name.charAt(0).toUpperCase()}${name.slice(1).replaceAll("_", " ")}`;
const same = (a, b) => JSON.stringify(a ?? null) === JSON.stringify(b ?? null);
const exact = (number) => Number(number.toPrecision(12));

const SUCH = "14.6, 7, 3, 1, 0";
const PICTURES = ["depth", "like"], SEEDS = ["seed", "variation_seed"];
const KINDS = { bool: tick, int: number, float: number, tuple: numbers, str: line };

function kindOf({ name, type, choices: named }, choices) {
  if (SEEDS.includes(name)) return seed;
  if (PICTURES.includes(name)) return picture;
  return choices || named?.length ? choice : KINDS[type];
}

export function control(field, usual, { choices = null, shown = () => null } = {}) {
  const { name } = field, id = `field-${name}`, { why = "", slide = null } = about[name] ?? {};
  const set = (value) => settings.set({ [name]: same(value, field.default) ? null : value });
  const made = kindOf(field, choices)({ field, id, set, usual, slide, choices, shown });
  const frame = framed({ name, id, title: titled(name), why, doc: field.doc, parts: made.parts, under: made.slider, wide: made.wide,
    reset: () => { settings.set({ [name]: null }); made.focus(); } });
  const show = () => {
    const value = settings.get(name);
    frame.mark(value !== null);
    made.show(value);
  };
  return { element: frame.element, show, tell: frame.tell, name };
}

function choice({ field, id, set, usual, choices }) {
  const select = el("select", { id, onchange: () => set(select.value === "" ? null : select.value) });
  return {
    wide: true, parts: [select], focus: () => select.focus(),
    show(value) {
      const offered = choices?.() ?? field.choices.map((name) => ({ name }));
      const plain = field.optional ? [el("option", { value: "", text: usual() ? `${usual()} (default)` : "default" })] : [];
      select.replaceChildren(...plain, ...offered.map(({ name, about: said }) => el("option", { value: name, title: said, text: name })));
      const now = value ?? (field.optional ? "" : field.default);
      // What came with a picture may be unknown here: it is shown, and the server says what is wrong with it.
      if (now !== "" && !offered.some(({ name }) => name === now)) select.append(el("option", { value: now, text: now }));
      select.value = now;
    },
  };
}

function tick({ field, id, set }) {
  const box = el("input", { type: "checkbox", id, onchange: () => set(box.checked) });
  return { parts: [box], focus: () => box.focus(), show: (value) => { box.checked = value ?? field.default; } };
}

function number({ field, id, set, usual, slide }) {
  const { low, high } = field, whole = field.type === "int";
  const step = slide?.[2] ?? (whole ? 1 : "any");
  const within = (value) => Math.min(Math.max(whole ? Math.round(value) : value, low ?? -Infinity), high ?? Infinity);
  const typed = () => input.value.trim() === "" ? null : Number(input.value);
  const input = el("input", { type: "number", id, min: low, max: high, step: whole ? 1 : "any", inputmode: whole ? "numeric" : "decimal",
    // What is half typed counts as soon as it can be a value, so that Ctrl+Enter makes what is seen.
    oninput: () => { if (!input.validity.badInput && (typed() === null || within(typed()) === typed())) set(typed()); },
    onchange: () => {
      set(typed() === null ? null : within(typed()));
      draw(settings.get(field.name));
    } });
  const slider = slide && el("input", { type: "range", class: "slide", min: slide[0], max: slide[1], step, "aria-label": titled(field.name),
    oninput: () => set(exact(within(Number(slider.value)))) });
  const draw = (value) => { input.value = value ?? ""; };
  const show = (value) => {
    const now = usual();
    input.placeholder = now;
    if (document.activeElement !== input || typed() !== (value ?? field.default)) draw(value);
    if (!slider) return;
    slider.value = value ?? (now === "" ? slide[0] : Number(now));
    const share = (slider.value - slide[0]) / (slide[1] - slide[0]);
    slider.style.setProperty("--done", `${(100 * Math.min(Math.max(share, 0), 1)).toFixed(2)}%`);
  };
  return { parts: [input], slider, focus: () => input.focus(), show };
}

function numbers({ field, id, set, usual }) {
  const typed = () => input.value.split(/[\s,;]+/).filter(Boolean).map(Number);
  const right = (parts) => !parts.some(Number.isNaN) && (!field.count || !parts.length || parts.length === field.count);
  const input = el("input", { type: "text", id,
    oninput: () => { if (right(typed())) set(typed().length ? typed() : null); },
    onchange: () => {
      const many = field.count ? `${field.count} numbers` : "numbers";
      if (!right(typed())) say(`${titled(field.name)} takes ${many}, as in ${usual() || SUCH}`, { kind: "error" });
      draw(settings.get(field.name));
    } });
  const draw = (value) => { input.value = value?.join(", ") ?? ""; };
  const show = (value) => {
    input.placeholder = usual() || (field.count ? "10, 0.5" : SUCH);
    if (document.activeElement !== input) draw(value);
  };
  return { wide: true, parts: [input], focus: () => input.focus(), show };
}

function line({ field, id, set, usual }) {
  const input = el("input", { type: "text", id, oninput: () => set(input.value || null) });
  return { wide: true, parts: [input], focus: () => input.focus(), show(value) {
    input.placeholder = usual();
    if (input.value !== (value ?? "")) input.value = value ?? "";
  } };
}

// A picture to go by that no tab is for.
function picture({ field, id, set }) {
  const glance = el("img", { class: "glance", alt: "", hidden: true });
  const file = el("input", { type: "file", id, class: "unseen", accept: "image/png,image/jpeg,image/webp", onchange: async () => {
    try {
      if (file.files.length) set((await api.upload(file.files[0])).id);
    } catch (error) {
      say(error.message, { kind: "error" });
    }
    file.value = "";
  } });
  return {
    parts: [glance, button("Choose…", () => file.click()), file], focus: () => file.focus(),
    show(value) {
      glance.hidden = !value;
      if (value) glance.src = `/v1/uploads/${value.replace("upload:", "")}`;
    },
  };
}
