// Pictures of a map while it is painted: each change asks for a new one, and calls off the one before. They are shown, and never lie
// in the gallery.
//   new Drafts({request() -> Promise<overrides | null>, show(address, steps | null), tell(words)}); .changed(); .stop()

import { ENDED, jobs } from "./jobs.js";
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

  constructor(does) {
    this.#does = does;
    jobs.addEventListener("preview", ({ detail }) => { if (detail.job === this.#job) does.show(detail.image); });
    jobs.addEventListener("picture", ({ detail: { job } }) => { if (job.id === this.#job) this.#finished(job); });
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
      const job = await jobs.submit(overrides, { group: GROUP, priority: PRIORITY, shelf: false });
      if (turn !== this.#turn) return void jobs.cancel(job.id).catch(() => {});
      this.#job = job.id;
      if (job.pictures.length) this.#finished(job); // it was faster than the reply
      else this.#does.tell("drawing");
    } catch ({ message }) {
      if (turn !== this.#turn) return;
      this.#asked = null;
      this.#does.tell(message);
    }
  }

  #finished({ pictures: [{ url }], steps }) { this.#does.show(url, steps); }
}
