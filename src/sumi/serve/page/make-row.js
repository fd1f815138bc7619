// <make-row>: the shape of the picture, how many, Make and Stop.

import { el } from "./dom.js";
import { jobs } from "./jobs.js";
import { key } from "./keys.js";
import { known } from "./known.js";
import { modes } from "./modes.js";
import { rectangle, shapes } from "./shapes.js";
import { settings } from "./state.js";

class MakeRow extends HTMLElement {
  connectedCallback() {
    this.shapes = el("div", { class: "shapes", role: "radiogroup", "aria-label": "Shape", onkeydown: (event) => this.#arrows(event) });
    this.size = el("span", { class: "size" });
    this.count = el("input", {
      type: "number", id: "how-many", min: 1, step: 1, value: 1, inputmode: "numeric", "aria-label": "How many pictures",
      oninput: () => { if (this.count.value !== "" && this.count.checkValidity()) this.#many(Number(this.count.value)); },
      onchange: () => this.#many(Number(this.count.value)),
    });
    this.fewer = el("button", { type: "button", "aria-label": "One fewer", text: "−", onclick: () => this.#many(this.#now() - 1) });
    this.more = el("button", { type: "button", "aria-label": "One more", text: "+", onclick: () => this.#many(this.#now() + 1) });
    this.stop = el("button", { type: "button", class: "button stop", text: "Stop", title: "Escape", onclick: () => this.halt() });
    this.go = el("button", { type: "button", class: "primary go-make", text: "Make", title: "Ctrl+Enter", onclick: () => this.make() });
    this.wrong = el("p", { class: "failure", role: "alert", hidden: true });
    this.append(
      el("div", { class: "labelled" }, this.shapes, this.size),
      el("div", { class: "labelled" }, "pictures", el("div", { class: "stepper" }, this.fewer, this.count, this.more)),
      el("div", { class: "go" }, this.stop, this.go), this.wrong);
    settings.addEventListener("change", () => this.#show());
    known.addEventListener("change", () => this.#show());
    for (const kind of ["job", "asked", "online"]) jobs.addEventListener(kind, () => this.#busy());
    modes.addEventListener("change", () => this.#show());
    key("Ctrl+Enter", "make", () => this.make());
    key("Escape", "stop", () => this.#mine().length ? this.halt() : false);
    this.#show();
    this.#busy();
  }

  // The visible part of the page adds what only it has: a picture, a mask, a map. Or it does all by itself.
  async make() {
    if (this.asking) return;
    this.asking = true;
    this.go.setAttribute("aria-busy", "true");
    this.#tell(null);
    try {
      const stage = modes.stage();
      if (stage?.make) await stage.make();
      else await jobs.submit(await stage?.overrides?.() ?? {});
    } catch (error) {
      this.#tell(error);
    }
    this.asking = false;
    this.go.removeAttribute("aria-busy");
  }

  async halt() {
    try {
      await Promise.all(this.#mine().map(({ id }) => jobs.cancel(id)));
    } catch (error) {
      if (error.status !== 409) this.#tell(error);   // 409: it had ended already
    }
  }

  #mine() { return jobs.running().filter((job) => jobs.mine(job)); }
  #now() { return settings.get("count") ?? 1; }

  #tell(error) {
    this.wrong.hidden = !error;
    this.wrong.textContent = error?.message ?? "";
    const detail = error && { param: error.param ?? null, message: error.message };
    document.dispatchEvent(new CustomEvent("studio:wrong", { detail }));
  }

  #many(count) {
    const most = known.status?.limits.count ?? Infinity;
    const kept = Math.min(Math.max(Math.round(count) || 1, 1), most);
    settings.set({ count: kept === 1 ? null : kept });
    this.count.value = kept;
  }

  #busy() {
    const busy = this.#mine().length > 0;
    this.stop.disabled = !busy;
    document.dispatchEvent(new CustomEvent("studio:busy", { detail: busy }));
  }

  #show() {
    this.hidden = modes.name() === "grid";
    if (document.activeElement !== this.count) this.count.value = this.#now();
    if (known.status) this.count.max = known.status.limits.count;
    this.fewer.disabled = this.#now() <= 1;
    const card = known.card();
    if (!card) return;
    const width = settings.get("width") ?? card.width, height = settings.get("height") ?? card.height;
    const all = shapes(card), chosen = all.findIndex((shape) => shape.width === width && shape.height === height);
    this.size.textContent = `${width} × ${height}`;
    const drawn = JSON.stringify(all);
    if (this.drawn !== drawn) {
      this.drawn = drawn;
      this.shapes.replaceChildren(...all.map((shape, i) => el("button", {
        type: "button", role: "radio", title: `${shape.name}, ${shape.width} × ${shape.height}`,
        "aria-label": `${shape.name}, ${shape.width} by ${shape.height}`,
        onclick: () => this.#shape(shape, i === 0),
      }, rectangle(shape))));
    }
    [...this.shapes.children].forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === chosen));
      button.tabIndex = i === Math.max(chosen, 0) ? 0 : -1;
    });
  }

  #shape({ width, height }, own) { settings.set(own ? { width: null, height: null } : { width, height }); }

  #arrows(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const all = [...this.shapes.children];
    const next = all.at((all.indexOf(document.activeElement) + by) % all.length);
    next.click();
    next.focus();
  }
}
customElements.define("make-row", MakeRow);
