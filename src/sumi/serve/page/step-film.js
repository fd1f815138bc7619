// <step-film>: what the picture looked like after its steps, as far as it was seen: a strip to look through.
//   .show({frames, last, at}): frames [{step, image}]; last: {image} of the finished picture, or null; at: which is shown, null:
//     the newest
//   event "choose" (detail: the number of the frame, or null for the last)

import { el } from "./dom.js";

class StepFilm extends HTMLElement {
  connectedCallback() {
    this.strip = el("ol", { "aria-label": "Steps", onkeydown: (event) => this.#arrows(event) });
    this.append(el("h2", { text: "Step by step" }), this.strip);
    this.hidden = true;
  }

  show({ frames, last, at }) {
    const all = [...frames.map(({ step, image }) => ({ name: String(step), image, label: `after step ${step}` })),
      ...(last ? [{ name: "done", image: last.image, label: "the picture" }] : [])];
    this.hidden = frames.length === 0;
    const wasEnd = this.strip.scrollLeft + this.strip.clientWidth > this.strip.scrollWidth - 30;
    all.forEach((frame, i) => this.#place(i, frame));
    while (this.strip.children.length > all.length) this.strip.lastElementChild.remove();
    const chosen = at ?? all.length - 1;
    [...this.strip.children].forEach((item, i) => {
      const button = item.firstElementChild;
      if (i === chosen) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      button.tabIndex = i === chosen ? 0 : -1;
    });
    if (at === null && wasEnd) this.strip.scrollLeft = this.strip.scrollWidth;
    this.length = all.length;
    this.done = last !== null;
  }

  // What is there stays, so that the one in focus does, too.
  #place(i, { name, image, label }) {
    let item = this.strip.children[i];
    if (!item) {
      const parts = [el("img", { alt: "", draggable: "false" }), el("span")];
      item = el("li", {}, el("button", { type: "button", onclick: () => this.#choose(i) }, ...parts));
      this.strip.append(item);
    }
    const [picture, said] = item.firstElementChild.children;
    if (picture.getAttribute("src") !== image) picture.src = image;
    said.textContent = name;
    item.firstElementChild.setAttribute("aria-label", label);
  }

  #choose(i) { this.dispatchEvent(new CustomEvent("choose", { detail: i === this.length - 1 ? null : i })); }

  #arrows(event) {
    const buttons = [...this.strip.querySelectorAll("button")], at = buttons.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || !(next in buttons)) return;
    event.preventDefault();
    this.#choose(next);
    buttons[next].focus();
    buttons[next].scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}
customElements.define("step-film", StepFilm);
