// Elements, and words to the person.
//   el(name, props, ...children): props are attributes; those with "on" are listeners; `class`, `text`, `dataset`, `style`, and what only
//     is a property (value, checked, disabled, hidden, …) do what one expects. Children that are null, undefined or false are left out.
//   button(text, run, props): a button of class "button"
//   svg(name, attrs, ...children): the same for drawings; icon(paths): a drawing of 16 x 16 in the colour of its words
//   say(message, {kind: "note" | "error", action: {label, run}}): a short message below, also read out; it goes by itself

const PROPERTIES = ["value", "checked", "disabled", "hidden", "selected", "indeterminate", "open", "inert", "readOnly", "textContent"];

function styled(style, values) {
  for (const [name, value] of Object.entries(values)) name.startsWith("--") ? style.setProperty(name, value) : style[name] = value;
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name === "text") element.textContent = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "className") element.setAttribute("class", value);
    else if (name === "style") styled(element.style, value);
    else if (PROPERTIES.includes(name) && name in element) element[name] = value;
    else if (value === true) element.setAttribute(name, name.startsWith("aria-") ? "true" : "");
    else if (value !== false) element.setAttribute(name, value);
    else if (name.startsWith("aria-")) element.setAttribute(name, "false");
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const el = (name, props = {}, ...children) => filled(document.createElement(name), props, children);
export const button = (text, run, props = {}) => el("button", { type: "button", class: "button", text, onclick: run, ...props });
export const svg = (name, attrs = {}, ...children) => filled(document.createElementNS("http://www.w3.org/2000/svg", name), attrs, children);
export const icon = (...paths) =>
  svg("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, ...paths.map((d) => svg("path", { d })));

const STAYS = { note: 6_000, error: 12_000 }, TO_ACT = 20_000;   // milliseconds

export function say(message, { kind = "note", action = null } = {}) {
  const shelf = document.getElementById("said");
  const gone = () => { clearTimeout(timer); told.remove(); };
  const told = el("div", { class: `told ${kind}` },
    el("p", { text: message }),
    action && el("button", { type: "button", class: "plain", text: action.label, onclick: () => { gone(); action.run(); } }),
    el("button", { type: "button", class: "plain away", "aria-label": "Dismiss", text: "×", onclick: gone }));
  const stays = action ? TO_ACT : STAYS[kind];
  let timer = setTimeout(gone, stays);
  // Whoever reads it, or is about to press its button, is not hurried.
  const hold = () => clearTimeout(timer);
  const release = () => { clearTimeout(timer); timer = setTimeout(gone, stays); };
  for (const name of ["pointerenter", "focusin"]) told.addEventListener(name, hold);
  for (const name of ["pointerleave", "focusout"]) told.addEventListener(name, release);
  shelf.append(told);
  while (shelf.children.length > 4) shelf.firstElementChild.remove();
  return gone;
}
