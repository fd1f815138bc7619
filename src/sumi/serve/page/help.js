// <help-panel>: the keys, and how words are weighed. Opened by `?`.

import { button, el } from "./dom.js";
import { key, keys } from "./keys.js";

const WORDS = [
  ["(words:1.3)", "weigh more, or less below 1"], ["(words)", "weigh 1.1; brackets in brackets multiply"], ["[words]", "weigh 1 / 1.1"],
  ["[from:to:0.4]", "the first for 0.4 of the steps, then the second"], ["[one|two]", "in turn, a step each"],
  ["one AND two", "two prompts, each guiding by itself"], ["one BREAK two", "what follows is read apart"],
  ["\\( \\)", "the signs themselves"],
];
const NAMES = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", " ": "Space" };

const named = (part) => NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part);
const combo = (text) => text.split(/\+(?!$)/).flatMap((part, i) => [i ? " " : "", el("kbd", { text: named(part) })]);

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

class HelpPanel extends HTMLElement {
  connectedCallback() {
    this.lists = el("div", { class: "lists" });
    this.dialog = el("dialog", { "aria-labelledby": "help-title", onclick: ({ target }) => target === this.dialog && this.dialog.close() },
      el("header", {}, el("h2", { id: "help-title", text: "Keys" }), button("Close", () => this.dialog.close(), { class: "plain" })),
      this.lists);
    this.append(this.dialog);
    key("?", "this list", () => this.open());
  }

  // A label may say where its key counts: "picture: nearer".
  open() {
    const groups = Map.groupBy(keys(), ({ label }) => /^([\w ]+): /.exec(label)?.[1] ?? "");
    const list = (pairs) => el("dl", {}, ...pairs.flatMap(([term, said]) => [el("dt", {}, ...term), el("dd", { text: said })]));
    const section = (title, pairs) => el("section", {}, title && el("h3", { text: capital(title) }), list(pairs));
    this.lists.replaceChildren(
      ...[...groups].sort(([a], [b]) => Number(b === "") - Number(a === "")).map(([title, inside]) => section(title,
        inside.map(({ combo: pressed, label }) => [combo(pressed), title ? label.slice(title.length + 2) : label]))),
      section("Signs in a prompt", WORDS.map(([sign, said]) => [[el("code", { text: sign })], said])));
    this.dialog.showModal();
  }
}
customElements.define("help-panel", HelpPanel);
