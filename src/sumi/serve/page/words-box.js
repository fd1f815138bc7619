// <words-box name="prompt" label="Prompt">: a field of a request that is words. Behind the text lies the same text, unseen, on which the
// server's reading of it is marked: weights, words that the model does not know, mistakes.

import { api } from "./api.js";
import { el } from "./dom.js";
import { jobs } from "./jobs.js";
import { known } from "./known.js";
import { settings } from "./state.js";
import { moved, weigh } from "./words.js";

const PAUSE = 80;   // milliseconds after the last key
const COUNTED = ["model", "emphasis", "steps"];   // by which settings the count goes
const LONG = 160;   // characters, from which on it is set smaller

const counted = () => Object.fromEntries(COUNTED.map((name) => [name, settings.get(name)]).filter(([, value]) => value !== null));

// The words that a model does not know. One that the end of a chunk cuts comes in pieces that touch.
function unknown(words) {
  const found = [];
  let end = null;
  for (const word of words.filter(({ known }) => !known)) {
    found.push(word.start === end ? found.pop() + word.text : word.text);
    end = word.end;
  }
  return found;
}

export class WordsBox extends HTMLElement {
  #words = [];
  #error = null;
  #asked = 0;
  #timer;

  connectedCallback() {
    this.name = this.getAttribute("name");
    this.behind = el("div", { class: "behind", "aria-hidden": "true" });
    this.area = el("textarea", {
      id: this.name, rows: 1, spellcheck: "false", autocomplete: "off", autocapitalize: "none", "aria-label": this.getAttribute("label"),
      "aria-describedby": `${this.name}-told`, placeholder: this.getAttribute("placeholder"), maxlength: 100_000,
      oninput: () => this.#typed(), onkeydown: (event) => this.#key(event),
    });
    this.count = el("span", { class: "count" });
    this.strange = el("span", { class: "strange" });
    this.trouble = el("span", { class: "trouble" });
    this.told = el("p", { class: "counted", id: `${this.name}-told` }, this.count, this.strange, this.trouble);
    this.append(el("div", { class: "sheet" }, this.behind, this.area), this.told);
    this.#shown = "";
    this.value = settings.get(this.name) ?? "";
    settings.addEventListener("change", ({ detail }) => {
      if (detail.has(this.name) && (settings.get(this.name) ?? "") !== this.area.value) this.value = settings.get(this.name) ?? "";
    });
    settings.addEventListener("change", ({ detail }) => COUNTED.some((name) => detail.has(name)) && this.#ask());
    known.addEventListener("change", () => this.#ask());
    jobs.addEventListener("online", ({ detail }) => detail && this.#ask());
  }

  #shown;

  get value() { return this.area.value; }
  set value(text) {
    this.area.value = text;
    this.#settled();
  }

  #typed() {
    settings.set({ [this.name]: this.area.value || null });
    this.#settled();
  }

  // The marks go along with the text at once; what the server says of it comes a little later.
  #settled() {
    const text = this.area.value;
    this.#words = moved(this.#words, this.#shown, text);
    this.#error = null;
    this.#shown = text;
    this.#mark();
    this.classList.toggle("long", text.length > LONG);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), PAUSE);
  }

  async #ask() {
    const prompt = this.area.value, asked = ++this.#asked;
    if (!prompt.trim()) return this.#tell(null);
    let read;
    try {
      read = await api.post("/v1/words", { prompt, ...counted() });
    } catch (error) {
      if (error.status === 0) return;   // the bar says so
      read = { words: [], error: { message: error.message, at: null } };
    }
    if (asked !== this.#asked || prompt !== this.area.value) return;
    this.#words = read.words;
    this.#error = read.error;
    this.#tell(read);
    this.#mark();
  }

  #tell(read) {
    const strange = [...new Set(unknown(read?.words ?? []))];
    this.count.textContent = read && read.count !== undefined && !read.error
      ? `${read.count} / ${read.limit} tokens${read.chunks > 1 ? ` · ${read.chunks} chunks` : ""}` : "";
    const few = strange.slice(0, 4).map((word) => `“${word}”`).join(", ");
    this.strange.textContent = few && `the model does not know ${few}${strange.length > 4 ? " …" : ""}`;
    this.trouble.textContent = read?.error?.message ?? "";
    this.area.setAttribute("aria-invalid", String(Boolean(read?.error)));
  }

  #mark() {
    const text = this.#shown, parts = [];
    let at = 0;
    const marks = this.#words.filter(({ weight, known }) => weight !== 1 || !known).map((word) => ({ ...word, kind: this.#kind(word) }));
    if (typeof this.#error?.at === "number") {
      const start = Math.min(this.#error.at, text.length - 1);
      marks.push({ start, end: start + 1, kind: "wrong" });
    }
    for (const { start, end, kind, weight } of marks.sort((a, b) => a.start - b.start)) {
      if (start < at || end > text.length) continue;
      const share = `${Math.round(Math.min(18 + 60 * Math.abs((weight ?? 1) - 1), 70))}%`;
      parts.push(text.slice(at, start), el("mark", { class: kind, text: text.slice(start, end), style: { "--share": share } }));
      at = end;
    }
    // Empty, it is as high as what invites to write.
    this.behind.replaceChildren(...parts, `${text.slice(at) || (text ? "" : this.area.placeholder)}\u200b`);
  }

  #kind({ weight, known }) {
    return [weight > 1 && "more", weight < 1 && "less", !known && "unknown"].filter(Boolean).join(" ");
  }

  #key(event) {
    const up = event.key === "ArrowUp";
    if (!(up || event.key === "ArrowDown") || !(event.ctrlKey || event.metaKey) || event.altKey) return;
    event.preventDefault();
    const { area } = this;
    const change = weigh(area.value, area.selectionStart, area.selectionEnd, up ? 0.1 : -0.1);
    if (!change) return;
    area.setSelectionRange(change.from, change.to);
    // The only way that the browser's own undo knows of.
    if (!document.execCommand("insertText", false, change.made)) {
      area.setRangeText(change.made);
      this.#typed();
    }
    area.setSelectionRange(change.start, change.end);
  }
}
customElements.define("words-box", WordsBox);
