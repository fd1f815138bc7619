// <queue-list>: what runs and waits, whoever asked for it; and what failed, until it is tried again or put away.

import { button, el, say } from "./dom.js";
import { left } from "./facts-of-job.js";
import { jobs } from "./jobs.js";
import { prefs } from "./state.js";

const MOST = 50;

class QueueList extends HTMLElement {
  #rows = new Map();

  connectedCallback() {
    this.count = el("span", { class: "state" });
    this.clear = button("Put failed ones away", () => this.#putAway(this.#failed().map(({ id }) => id)), { class: "plain" });
    this.list = el("ol");
    this.more = el("p", { class: "state" });
    const head = el("header", {}, el("h2", { text: "Queue" }), this.count, this.clear);
    this.append(el("section", { "aria-label": "Queue" }, head, this.list, this.more));
    for (const kind of ["job", "online"]) jobs.addEventListener(kind, () => this.#soon());
    jobs.addEventListener("preview", ({ detail }) => this.#glance(detail));
    prefs.addEventListener("change", ({ detail }) => detail.has("away") && this.#soon());
    this.#show();
  }

  // Many events of one moment are one drawing.
  #soon() {
    this.waiting ??= requestAnimationFrame(() => { this.waiting = null; this.#show(); });
  }

  #failed() {
    const away = new Set(prefs.get("away") ?? []);
    return jobs.all().filter(({ id, state }) => state === "failed" && !away.has(id));
  }

  #putAway(ids) { prefs.set({ away: [...(prefs.get("away") ?? []), ...ids].slice(-500) }); }

  #show() {
    const running = jobs.running(), failed = this.#failed();
    const waiting = running.filter(({ state }) => state === "queued").sort((a, b) => a.position - b.position);
    const all = [...running.filter(({ state }) => state === "running"), ...waiting, ...failed.toReversed()];
    this.hidden = !all.length;
    this.clear.hidden = !failed.length;
    const counts = [[running.length - waiting.length, "running"], [waiting.length, "waiting"]];
    this.count.textContent = counts.filter(([n]) => n).map(([n, state]) => `${n} ${state}`).join(", ");
    this.more.textContent = all.length > MOST ? `and ${all.length - MOST} more` : "";
    const seen = all.slice(0, MOST);
    const ids = new Set(seen.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (!ids.has(id)) {
        row.remove();
        this.#rows.delete(id);
      }
    }
    seen.forEach((job, i) => {
      const row = this.#row(job);
      if (this.list.children[i] !== row) this.list.insertBefore(row, this.list.children[i] ?? null);
    });
  }

  #row(job) {
    const { id, state, request, step, steps, eta, position, error } = job;
    let row = this.#rows.get(id);
    if (!row) {
      const glance = el("img", { class: "glance", alt: "", hidden: true });
      const blank = el("span", { class: "glance" });
      const words = el("div", {}, el("p", { class: "name" }), el("p", { class: "state" }));
      const progress = el("div", { class: "progress", hidden: true });
      row = el("li", { dataset: { job: id } }, el("div", {}, glance, blank), words, el("div", { class: "deeds" }), progress);
      this.#rows.set(id, row);
    }
    const [, words, deeds, progress] = row.children, [name, told] = words.children;
    row.className = state;
    name.textContent = request.prompt || "without words";
    name.classList.toggle("wordless", !request.prompt);
    const many = request.count > 1 ? `${request.count} pictures, ` : "";
    told.textContent = many + {
      running: () => step ? [`step ${step} of ${steps}`, left(eta)].filter(Boolean).join(", ") : "beginning",
      queued: () => position ? `${position} before it` : "next",
      failed: () => error?.message ?? "failed",
    }[state]();
    progress.hidden = state !== "running";
    progress.style.setProperty("--progress", String(steps ? (step ?? 0) / steps : 0));
    if (deeds.dataset.state !== state) {
      deeds.dataset.state = state;
      deeds.replaceChildren(...this.#deeds(job));
    }
    return row;
  }

  #deeds({ id, state, request }) {
    const named = request.prompt || "the job without words";
    const tried = (run) => async () => {
      try {
        await run();
      } catch (error) {
        if (error.status !== 409) say(error.message, { kind: "error" });
      }
    };
    const deed = (label, run) => button(label, tried(run), { class: "plain", "aria-label": `${label}: ${named}` });
    const away = button("×", () => this.#putAway([id]), { class: "plain", "aria-label": `Put away: ${named}` });
    return state === "failed" ? [deed("Retry", () => jobs.retry(id)), away] : [deed("Cancel", () => jobs.cancel(id))];
  }

  #glance({ job, image }) {
    const row = this.#rows.get(job);
    if (!row) return;
    const [picture, blank] = row.firstElementChild.children;
    picture.src = image;
    picture.hidden = false;
    blank.hidden = true;
  }
}
customElements.define("queue-list", QueueList);
