// What stands in the middle before there is any picture: three prompts to begin with.

import { button, el } from "./dom.js";
import { known } from "./known.js";
import { settings } from "./state.js";

const OURS = ["a red fox in the snow", "two stars above a tree", "a blue circle on a yellow background"];
const OTHERS = ["a lighthouse in a storm, ink on paper", "a cat asleep on a pile of books", "a bowl of oranges in the morning light"];

export function examples() {
  const list = el("ul");
  const show = () => {
    const model = known.model();
    part.hidden = model === null;
    if (model === null) return;
    const own = model.default && model.card.width <= 64;
    const make = (prompt) => {
      settings.set({ prompt });
      document.querySelector("make-row").make();
    };
    const prompts = own ? OURS : OTHERS;
    list.replaceChildren(...prompts.map((prompt) => el("li", {}, button(prompt, () => make(prompt), { class: "example" }))));
  };
  const part = el("div", {}, el("h2", { text: "Say what the picture should show, or begin with one of these" }), list,
    el("p", {}, el("kbd", { text: "Ctrl" }), " ", el("kbd", { text: "Enter" }), " makes it"));
  known.addEventListener("change", show);
  show();
  return el("section", { class: "first", "aria-label": "To begin with" }, part);
}
