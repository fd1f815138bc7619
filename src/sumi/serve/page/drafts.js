// Pictures of a map while it is painted: each change asks for a new one, and calls off the one before. They are shown, and not kept.
//   new Drafts({request() -> Promise<overrides | null>, show(address, steps | null), tell(words)}); .changed(); .stop()

import { api } from "./api.js";
import { ENDED, jobs } from "./jobs.js";
import { pictures } from "./pictures.js";
import { settings } from "./state.js";

export const GROUP = "live";
const SOON = 250; // milliseconds after a change
const PRIORITY = 10;

export class Drafts {
  #does;
  #timer = 0;
  #turn = 0; // which change it is: what belongs to an older one is not shown
  #job = null;
  #asked = null; // all that it goes by: the same is not drawn twice
  #address = null;

  constructor(does) {
    this.#does = does;
    jobs.addEventListener("preview", ({ detail }) => { if (detail.job === this.#job) does.show(detail.image); });
    jobs.addEventListener("picture", ({ detail: { job, picture } }) => { if (job.group === GROUP && jobs.mine(job)) this.#finished(job, picture); });
    jobs.addEventListener("job", ({ detail: job }) => {
      if (job.id === this.#job && job.state === "failed") does.tell(job.error?.message ?? "the draft failed");
    });
  }

  /** There is something new to draw. */
  changed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#draw(), SOON);
  }

  /** Nothing is to be drawn any more. */
  stop() {
    clearTimeout(this.#timer);
    this.#turn++;
    this.#asked = null;
    this.#call(null);
  }

  // The job to follow from here on; the one before is called off.
  #call(id) {
    const old = this.#job && jobs.get(this.#job);
    this.#job = id;
    if (old && old.id !== id && !ENDED.includes(old.state)) jobs.cancel(old.id).catch(() => {}); // it may have ended by now
  }

  async #draw() {
    const turn = ++this.#turn;
    try {
      const overrides = await this.#does.request();
      if (turn !== this.#turn) return;
      const asked = overrides && JSON.stringify({ ...settings.all(), ...overrides });
      if (asked === this.#asked) return;
      this.#call(null);
      this.#asked = asked;
      if (!overrides) return;
      const job = await jobs.submit(overrides, { group: GROUP, priority: PRIORITY });
      if (turn !== this.#turn) return void jobs.cancel(job.id).catch(() => {});
      this.#job = job.id;
      this.#does.tell("drawing");
    } catch ({ message }) {
      if (turn !== this.#turn) return;
      this.#asked = null;
      this.#does.tell(message);
    }
  }

  async #finished(job, picture) {
    try {
      const blob = job.id === this.#job && await (await fetch(picture.url)).blob();
      await api.del(picture.url);
      pictures.dispatchEvent(new CustomEvent("change", { detail: { kind: "removed", items: [{ id: picture.id }] } }));
      if (!blob || job.id !== this.#job) return;
      const old = this.#address;
      this.#address = URL.createObjectURL(blob);
      await this.#does.show(this.#address, job.steps);
      if (old) URL.revokeObjectURL(old);
    } catch {
      // It stays in the gallery, where it can be removed as any other.
    }
  }
}
