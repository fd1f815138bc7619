// The options of the chosen sampler: a number for each, under their own names.

import { button, el } from "./dom.js";
import { known } from "./known.js";
import { settings } from "./state.js";
import { titled } from "./field-control.js";

export function options(field) {
  const inside = el("div", { class: "options" });
  const back = button("reset", () => settings.set({ options: null }), {
    class: "plain back", "aria-label": "Options of the sampler: back to the defaults",
  });
  const element = el("div", { class: "field", role: "group", "aria-label": titled(field.name), dataset: { name: field.name } },
    el("div", { class: "name" }, el("span", { class: "label", text: titled(field.name) }), back), inside);

  const set = (name, value) => {
    const { [name]: _, ...others } = settings.get("options") ?? {};
    const now = value === null ? others : { ...others, [name]: value };
    settings.set({ options: Object.keys(now).length ? now : null });
  };
  const show = () => {
    const given = settings.get("options") ?? {};
    const chosen = (list, name) => list.find((one) => one.name === (settings.get(name) ?? known.card()?.[name]))?.options ?? {};
    const offered = { ...chosen(known.samplers, "sampler"), ...chosen(known.spacings, "spacing") };
    const names = [...new Set([...Object.keys(offered), ...Object.keys(given)])].filter((name) => name !== "eta");
    element.hidden = !names.length;
    element.classList.toggle("changed", Object.keys(given).length > 0);
    back.hidden = !Object.keys(given).length;
    if (inside.contains(document.activeElement) && inside.dataset.names === names.join()) return;
    inside.dataset.names = names.join();
    inside.replaceChildren(...names.map((name) => el("div", { class: "field" },
      el("div", { class: "name" }, el("label", { for: `option-${name}`, text: name })),
      el("div", { class: "value" }, el("input", {
        id: `option-${name}`, type: "number", step: "any", value: given[name] ?? "", placeholder: offered[name] ?? "",
        oninput: ({ target }) => set(name, target.value === "" || Number.isNaN(Number(target.value)) ? null : Number(target.value)),
      })))));
  };
  return { element, show, tell: () => {}, name: field.name };
}
