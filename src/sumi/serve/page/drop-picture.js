// <drop-picture>: reads a picture that is chosen, dropped anywhere or pasted, and offers what it tells of how it was made.
import { api } from "./api.js";
import { el, icon, say } from "./dom.js";
import { settingsOf, size, words } from "./facts.js";
import { known } from "./known.js";
import { settings } from "./state.js";
import { among, taken, uploaded } from "./taken.js";

const STILL = 400;    // milliseconds without a sign of what is dragged after which it is elsewhere
const tell = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));

class DropPicture extends HTMLElement {
  #file = null;
  #hovering = 0;

  connectedCallback() {
    if (this.dialog) return;
    this.input = el("input", { type: "file", accept: "image/png,image/jpeg,image/webp", hidden: true, onchange: () => this.#chosen() });
    this.dialog = el("dialog", { "aria-labelledby": "read-title", onclose: () => this.#closed() });
    this.veil = el("div", { class: "veil", hidden: true }, el("p", { text: "Let go to read how it was made" }));
    this.append(
      el("button", {
        type: "button", class: "plain", title: "a PNG tells how it was made; any picture can be started from",
        onclick: () => this.input.click(),
      }, icon("M8 10V2.5M4.8 5.5L8 2.3l3.2 3.2", "M2.5 9v4.5h11V9"), "Read a picture"),
      this.input, this.dialog, this.veil);
    // Of the window, and so after every element of the page: what one of them takes is not offered here.
    addEventListener("dragover", (event) => this.#hovered(event));
    addEventListener("drop", (event) => this.#dropped(event));
    addEventListener("paste", (event) => this.#pasted(event));
  }

  #chosen() {
    const [file] = this.input.files;
    this.input.value = "";
    if (file) this.read(file);
  }

  #hovered(event) {
    if (event.defaultPrevented || !event.dataTransfer.types.includes("Files") || this.dialog.open) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    this.veil.hidden = Boolean(document.querySelector("dialog[open]"));
    clearTimeout(this.#hovering);
    this.#hovering = setTimeout(() => { this.veil.hidden = true; }, STILL);
  }

  #dropped(event) {
    this.veil.hidden = true;
    if (event.defaultPrevented || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    const file = among(event.dataTransfer);
    if (file) this.read(file);
    else say("That is not a picture: a PNG, JPEG or WebP file is", { kind: "error" });
  }

  #pasted(event) {
    const file = event.defaultPrevented ? null : among(event.clipboardData);
    if (!file || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    this.read(file);
  }

  async read(file) {
    try {
      const picture = await taken(file, file.name);
      const told = await api.read(file).catch((error) => {
        if (error.status !== 400) throw error;
        return null;
      });
      this.#show(picture, told);
    } catch ({ message }) {
      say(message, { kind: "error" });
    }
  }

  #show({ blob, name, width, height }, told) {
    this.#closed();
    this.#file = blob;
    this.address = URL.createObjectURL(blob);
    const act = (text, onclick, main = false) => el("button", { type: "button", class: main ? "primary" : "button", text, onclick });
    const close = () => this.dialog.close();
    this.dialog.replaceChildren(
      el("header", {}, el("h2", { id: "read-title", text: told ? "What this picture tells" : "This picture tells nothing" }),
        el("button", { type: "button", class: "plain", "aria-label": "Close", text: "×", onclick: close })),
      el("div", { class: "both" },
        el("figure", {}, el("img", { src: this.address, alt: "", class: Math.max(width, height) < 256 ? "crisp" : null }),
          el("figcaption", {}, el("span", { text: name }), el("span", { text: size({ width, height }) }))),
        el("div", { class: "says" }, ...this.#said(told))),
      el("footer", {},
        ...told ? [act("Use these settings", () => this.#use(told), true), act("Only the words", () => this.#words(told))] : [],
        act("Start from this picture", () => this.#start(), !told), act("Cancel", close)));
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.querySelector(".primary").focus();
  }

  #said(told) {
    if (!told) return [el("p", { text: "Nothing in the file says how it was made, but one can start from it." })];
    const { request, model, program } = told;
    const rows = [
      ["seed", request.seed ?? "not told"], ["size", request.width && request.height ? size(request) : "not told"],
      ["model", this.#model(model) === undefined ? `${model} (not here)` : model ?? "sumi"],
    ];
    return [
      ...words(request).filter(Boolean), settingsOf(request, rows),
      program !== "sumi" && el("p", { class: "notice", text: "Another program made it: the same settings may give another picture." }),
    ].filter(Boolean);
  }

  // What the server calls it: null is the one that comes with sumi, undefined that there is none.
  #model(name) {
    return name === null ? null : known.models.find(({ id, card }) => id === name || card.title === name)?.id;
  }

  #use({ request, model }) {
    this.dialog.close();
    tell("studio:use", { request, model: this.#model(model) ?? null });
  }

  #words({ request: { prompt, negative } }) {
    this.dialog.close();
    settings.set({ prompt: prompt || null, negative: negative || null });
    say("The words are those of the picture");
  }

  async #start() {
    const file = this.#file;
    this.dialog.close();
    try {
      tell("studio:start-from", { uploadId: await uploaded(file), mode: "image" });
    } catch ({ message }) {
      say(message, { kind: "error" });
    }
  }

  #closed() {
    if (this.dialog.open) return;   // browsers tell late: it was opened again meanwhile
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = this.#file = null;
  }
}

customElements.define("drop-picture", DropPicture);
