// What a request says, for people to read: its words, and each setting that is set.
import { el, say } from "./dom.js";
import { known } from "./known.js";
import { PICTURES } from "./state.js";

const ELSEWHERE = ["prompt", "negative", "seed", "width", "height", "count", "digests", "model"];
const CALLED = { first: "number", pag: "perturbed attention", sag: "self-attention", skip: "skip-layer" };

export const size = ({ width, height }) => `${width} × ${height}`;
export const when = (seconds) => new Date(1000 * seconds).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

export async function copy(text, what) {
  try {
    // Pages that came over plain http from another machine have no clipboard, but the old way.
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else if (!copied(text)) throw new Error();
    say(`${what} copied`);
  } catch {
    say("This browser does not let the page copy: select the text instead", { kind: "error" });
  }
}

function copied(text) {
  const before = document.activeElement, area = el("textarea", { class: "unseen", value: text, readOnly: true });
  (before?.closest("dialog") ?? document.body).append(area);   // beside a dialog nothing can be selected
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  return done;
}

export const copier = (text, what) => el("button", { type: "button", class: "plain copy", text: "copy", "aria-label": `Copy ${what}`,
  onclick: () => copy(text, what[0].toUpperCase() + what.slice(1)) });

export function words({ prompt, negative }) {
  return [
    el("p", { class: prompt ? "asked" : "asked none", text: prompt || "without words" }),
    negative && el("p", { class: "not" }, el("i", { text: "not" }), negative),
  ];
}

function value(name, given) {
  if (PICTURES.includes(name)) {
    const hex = /^upload:([0-9a-f]{64})$/.exec(given)?.[1], href = `/v1/uploads/${hex}`;
    if (!hex) return "a picture";
    const picture = el("img", { src: href, alt: `the ${name.replaceAll("_", " ")}`, loading: "lazy" });
    return el("a", { href, target: "_blank", rel: "noopener" }, picture);
  }
  if (typeof given === "boolean") return given ? "yes" : "no";
  if (Array.isArray(given)) return given.map(Number).join(", ");
  if (typeof given === "object") return Object.entries(given).map(([key, number]) => `${key.replaceAll("_", " ")} ${number}`).join(", ");
  return String(given);
}

// A <dl>: `more` are rows of its own, [name, what stands there, why], before those of the request.
export function settingsOf(request, more = []) {
  const rows = Object.entries(request)
    .filter(([name, given]) => given !== null && !(typeof given === "object" && !Object.keys(given).length) && !ELSEWHERE.includes(name)
      && JSON.stringify(given) !== JSON.stringify(known.field(name)?.default ?? null))
    .map(([name, given]) => [CALLED[name] ?? name.replaceAll("_", " "), value(name, given), known.field(name)?.doc]);
  return el("dl", { class: "how-made" }, ...[...more, ...rows].map(([name, given, doc]) =>
    el("div", { title: doc ?? null }, el("dt", { text: name }), el("dd", {}, ...[given].flat()))));
}

// What two requests differ in, of each in a few words.
export function differences(one, other) {
  const all = [...new Set([...Object.keys(one), ...Object.keys(other)])];
  const names = all.filter((name) => JSON.stringify(one[name]) !== JSON.stringify(other[name]));
  const told = (request, name) => {
    const given = request[name] ?? known.field(name)?.default;
    if (name === "prompt") return given || "without words";
    const text = given === null || given === undefined ? "not set" : PICTURES.includes(name) ? "a picture" : value(name, given);
    return `${CALLED[name] ?? name.replaceAll("_", " ")} ${text}`;
  };
  const least = names.filter((name) => !["digests", "count"].includes(name)).slice(0, 2);
  return [one, other].map((request) => least.map((name) => told(request, name)).join(", ") || "the same settings");
}
