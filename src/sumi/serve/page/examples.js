// What stands in the middle before there is any picture: three prompts to begin with.

import { el } from "./dom.js";
import { known } from "./known.js";
import { settings } from "./state.js";

const OURS = ["a red fox in the snow", "two stars above a tree", "a blue circle on a yellow background"];
const OTHERS = ["a lighthouse in a storm, ink on paper", "a cat asleep on a pile of books", "a bowl of oranges on a wooden table, morning light"];

export function examples() {
  const list = el("ul");
  const show = () => {
    const own = known.model()?.default && known.card().width <= 64;
    list.replaceChildren(...(own ? OURS : OTHERS).map((prompt) => el("li", {}, el("button", { type: "button", class: "example", text: prompt, onclick: () => {
      settings.set({ prompt });
      document.querySelector("make-row").make();
    } }))));
  };
  known.addEventListener("change", show);
  show();
  return el("section", { class: "first", "aria-label": "To begin with" }, el("h2", { text: "Say what the picture should show, or begin with one of these" }), list,
    el("p", {}, el("kbd", { text: "Ctrl" }), " ", el("kbd", { text: "Enter" }), " makes it"));
}
