// What the modes have in common that go by a picture: they take one, keep their work over a reload, follow the jobs that go by it, and say
// when the chosen model does not take it.
//   A stage says: static mode, static lacks() and needs (whether and what the model does not do), build(),
//   take(Taken, {made, mask, outpaint}), work() -> what is kept, restored(work), goesBy(job);
//   and may say follow(job), preview(job, image), finished(job, picture), carded().

import { api } from "./api.js";
import { el, say } from "./dom.js";
import { jobs } from "./jobs.js";
import { work } from "./keep.js";
import { known } from "./known.js";
import { brought, started } from "./taken.js";

const SOON = 400; // milliseconds until work is kept
const RECENT = 50; // jobs

export class Stage extends HTMLElement {
  static lacks = () => false;
  static needs = "";
  card = null;
  limits = null;
  #keeping = 0;
  #ready = null;

  connectedCallback() {
    if (this.#ready) return;
    this.lacking = el("p", { class: "lacking", hidden: true });
    this.body = el("div", { class: "body" });
    this.append(this.lacking, this.body);
    this.build();
    this.#ready = this.#begin();
    document.addEventListener("studio:start-from", ({ detail }) => {
      if (detail.mode === this.constructor.mode) this.#start(detail);
    });
    addEventListener("pagehide", () => this.#kept());
    const when = (kind, act) => jobs.addEventListener(kind, ({ detail }) => act(detail));
    const mine = (job) => job && this.goesBy(job);
    when("job", (job) => { if (mine(job)) this.follow(job); });
    when("preview", ({ job, image }) => { if (mine(jobs.get(job))) this.preview(jobs.get(job), image); });
    when("picture", ({ job, picture }) => { if (mine(job)) this.finished(job, picture); });
  }

  /** Until what was kept is there again, and the model is known. */
  get ready() { return this.#ready; }

  async #begin() {
    const heard = new Promise((resolve) => {
      const read = () => {
        if (known.card() === null) return;
        this.#read();
        resolve();
      };
      known.addEventListener("change", read);
      read();
    });
    const [kept] = await Promise.all([work.get(this.constructor.mode), heard]);
    if (!kept) return;
    await this.restored(kept);
    this.#caughtUp().catch(() => {}); // not reached: that is said where the page says it
  }

  // What was finished while nobody looked, the oldest first.
  async #caughtUp() {
    const { jobs: recent } = await api.get(`/v1/jobs?state=done&limit=${RECENT}`);
    for (const job of recent.reverse()) if (this.goesBy(job)) for (const picture of job.pictures) this.finished(job, picture);
  }

  #read() {
    this.card = known.card();
    this.limits = known.status.limits;
    const { needs } = this.constructor, lacks = this.constructor.lacks();
    this.lacking.hidden = !lacks;
    this.lacking.textContent = lacks ? `${this.card.title ?? "This model"} ${needs}` : "";
    this.body.hidden = lacks;
    this.carded();
  }

  async #start(detail) {
    try {
      await this.#ready;
      const { mask = null, outpaint = null } = detail;
      await this.take(await started(detail), { made: true, mask: mask && await brought(mask), outpaint });
    } catch ({ message }) {
      say(message, { kind: "error" });
    }
  }

  /** Keeps the work, before long. */
  keep() {
    this.#keeping ||= setTimeout(() => this.#kept(), SOON);
  }

  /** Keeps it now; until then, nothing that goes by it should be asked for. */
  kept() {
    this.keep();
    return this.#kept();
  }

  async #kept() {
    if (!this.#keeping) return;
    clearTimeout(this.#keeping);
    this.#keeping = 0;
    await work.put(this.constructor.mode, this.work());
  }

  /** Error unless the model takes what this mode gives. */
  async check() {
    await this.#ready;
    if (!this.lacking.hidden) throw new Error(this.lacking.textContent);
  }

  follow() {}
  preview() {}
  finished() {}
  carded() {}
}
