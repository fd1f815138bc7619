// <prompt-box>: the prompt, what guidance leads away from, and the prompts that were made before (Alt and the arrows).

import { button, el, say } from "./dom.js";
import { jobs } from "./jobs.js";
import { key } from "./keys.js";
import { prefs, settings } from "./state.js";
import { WordsBox } from "./words-box.js";

const KEPT = 100;

class PromptBox extends HTMLElement {
  #place = null;   // in the history; null: what is being written
  #draft = "";

  connectedCallback() {
    this.prompt = new WordsBox();
    this.prompt.setAttribute("name", "prompt");
    this.prompt.setAttribute("label", "Prompt");
    this.prompt.setAttribute("placeholder", "What should the picture show?");
    const negative = new WordsBox();
    negative.className = "negative";
    negative.setAttribute("name", "negative");
    negative.setAttribute("label", "Negative prompt");
    negative.setAttribute("placeholder", "what it should not show");
    this.away = el("div", { class: "negative-words", id: "away" }, el("label", { for: "negative", text: "away from" }), negative);
    this.toggle = button("Negative prompt", () => this.#open(), { class: "plain", "aria-controls": "away" });
    this.append(this.prompt, this.away);
    this.prompt.append(el("div", { class: "below" }, this.prompt.told, this.toggle));
    this.#show();
    settings.addEventListener("change", ({ detail }) => detail.has("negative") && this.#show());
    prefs.addEventListener("change", ({ detail }) => detail.has("negative") && this.#show());
    const here = () => document.activeElement === this.prompt.area;
    key("Alt+ArrowUp", "the prompt before, while in the prompt", () => this.#walk(1), { when: here });
    key("Alt+ArrowDown", "the prompt after", () => this.#walk(-1), { when: here });
    key("Ctrl+ArrowUp", "more weight to the word or the selection, (word:1.1)", () => false, { when: here });
    key("Ctrl+ArrowDown", "less weight", () => false, { when: here });
    this.prompt.area.addEventListener("input", () => { this.#place = null; });
    jobs.addEventListener("asked", ({ detail: { request, group } }) => group === "studio" && this.#keep(request.prompt));
  }

  focus() { this.prompt.area.focus(); }

  #open() {
    const opened = this.away.hidden;
    prefs.set({ negative: opened || null });
    const negative = settings.get("negative");
    if (opened) this.away.querySelector("textarea").focus();
    else if (negative !== null) {
      settings.set({ negative: null });
      say("The negative prompt is taken away", { action: { label: "Undo", run: () => settings.set({ negative }) } });
    }
  }

  #show() {
    const opened = Boolean(prefs.get("negative") || settings.get("negative"));
    this.away.hidden = !opened;
    this.toggle.setAttribute("aria-expanded", String(opened));
  }

  #keep(prompt) {
    if (!prompt) return;
    prefs.set({ history: [prompt, ...(prefs.get("history") ?? []).filter((other) => other !== prompt)].slice(0, KEPT) });
    this.#place = null;
  }

  #walk(by) {
    const history = prefs.get("history") ?? [];
    if (this.#place === null) {
      if (by < 0) return;
      this.#draft = this.prompt.value;
    }
    // What stands there already is no step back.
    let place = (this.#place ?? -1) + by;
    if (this.#place === null && history[place] === this.#draft) place += by;
    if (place >= history.length) return;
    this.#place = place < 0 ? null : place;
    const text = place < 0 ? this.#draft : history[place];
    settings.set({ prompt: text || null });
    this.prompt.area.setSelectionRange(text.length, text.length);
  }
}
customElements.define("prompt-box", PromptBox);
