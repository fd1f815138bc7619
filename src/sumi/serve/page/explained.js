// The frame of a setting: its name, what it is and why one would turn it ("?"), the way back to the default, and what is wrong with it.
//   framed({name, id, title, why, doc, parts, under, wide, reset, labelled}) -> {element, mark(changed), tell(message)}

import { button, el, icon } from "./dom.js";

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function framed({ name, id, title, why, doc, parts, under = null, wide = false, reset, labelled = true }) {
  const told = el("p", { class: "why", id: `${id}-why`, hidden: true }, why, el("b", { text: `${capital(doc)}.` }));
  const asked = () => {
    told.hidden = !told.hidden;
    ask.setAttribute("aria-expanded", String(!told.hidden));
  };
  const ask = button("?", asked, {
    class: "plain ask", "aria-label": `What is ${title}?`, "aria-expanded": "false", "aria-controls": `${id}-why`,
  });
  const back = button("", reset, { class: "plain back", "aria-label": `${title}: back to the default`, title: "back to the default" });
  back.append(icon("M3 6h6.5a3.5 3.5 0 0 1 0 7H5M3 6l3-3M3 6l3 3"));
  const wrong = el("p", { class: "wrong", role: "alert", hidden: true });
  const element = el("div", { class: wide ? "field wide" : "field", dataset: { name } },
    el("div", { class: "name" }, labelled ? el("label", { for: id, text: title }) : el("span", { class: "label", text: title }), ask, back),
    el("div", { class: "value" }, ...parts), under, told, wrong);
  return {
    element,
    mark(changed) {
      element.classList.toggle("changed", changed);
      back.hidden = !changed;
      wrong.hidden = true;
    },
    tell(message) {
      wrong.textContent = message;
      wrong.hidden = false;
    },
  };
}
