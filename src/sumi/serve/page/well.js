// <picture-well>: takes a picture, by choosing, dropping, pasting, or out of the newest of the gallery.
//   .about: what the picture is for, in a few words; .compact: whether it is only a button, since there is a picture already
//   event "taken" (detail: a Taken, see taken.js). What is dropped anywhere on the element that `.within` names is taken, too.

import { api } from "./api.js";
import { el, icon, say } from "./dom.js";
import { among, fetched, taken } from "./taken.js";

const NEWEST = 12;

export class Well extends HTMLElement {
  within = this;
  input = el("input", { type: "file", accept: "image/png,image/jpeg,image/webp", hidden: true, onchange: () => this.#chosen() });
  button = el("button", { type: "button", class: "button", text: "Choose a picture", onclick: () => this.input.click() });
  told = el("p", { class: "for" });
  newest = el("div", { class: "newest", hidden: true });
  #over = 0;

  connectedCallback() {
    if (this.firstChild) return;
    this.append(
      this.input,
      icon("M8 2v8M4.5 6.5 8 10l3.5-3.5", "M2 11v2.5h12V11"),
      this.told,
      el("p", { class: "ways" }, this.button, el("span", { text: "drop one here, or paste it" })),
      this.newest,
    );
    const { within } = this;
    within.addEventListener("dragenter", (event) => this.#drag(event, 1));
    within.addEventListener("dragleave", (event) => this.#drag(event, -1));
    within.addEventListener("dragover", (event) => this.#drag(event, 0));
    within.addEventListener("drop", (event) => this.#dropped(event));
    document.addEventListener("paste", (event) => this.#pasted(event));
  }

  set about(text) { this.told.textContent = text; }

  get compact() { return this.classList.contains("compact"); }
  set compact(compact) {
    this.classList.toggle("compact", compact);
    this.button.textContent = compact ? "Another picture" : "Choose a picture";
  }

  /** Shows the newest pictures of the gallery. */
  async refresh() {
    let items = [];
    try {
      ({ items } = await api.get(`/v1/pictures?limit=${NEWEST}`));
    } catch {
      // Not reached: that is said where the page says it; a picture can be chosen all the same.
    }
    this.newest.replaceChildren(...items.map(({ prompt, number, url, thumbnail }) => el("button", {
      type: "button", title: prompt || "no prompt", "aria-label": `Take: ${prompt || `picture ${number}`}`,
      onclick: () => this.#take(fetched(url, "this picture")),
    }, el("img", { src: thumbnail, alt: "", loading: "lazy", decoding: "async" }))));
    this.newest.hidden = !items.length;
  }

  async #take(taking) {
    try {
      this.dispatchEvent(new CustomEvent("taken", { detail: await taking }));
    } catch ({ message }) {
      say(message, { kind: "error" });
    }
  }

  #chosen() {
    const [file] = this.input.files;
    this.input.value = "";
    if (file) this.#take(taken(file, file.name));
  }

  #drag(event, more) {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    event.dataTransfer.dropEffect = "copy";
    this.#over = Math.max(0, this.#over + more);
    this.within.classList.toggle("dropping", this.#over > 0);
  }

  #dropped(event) {
    this.#over = 0;
    this.within.classList.remove("dropping");
    const file = among(event.dataTransfer);
    if (!file) return;
    event.preventDefault();
    event.stopPropagation(); // elsewhere on the page, a picture brings its settings
    this.#take(taken(file, file.name));
  }

  #pasted(event) {
    const file = among(event.clipboardData);
    if (!file || !this.within.checkVisibility() || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    this.#take(taken(file, "what was pasted"));
  }
}
customElements.define("picture-well", Well);
