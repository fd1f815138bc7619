// How a picture came about: its request run once more with every step kept, and the page of that in a dialog.
// A <see-panel> stands in the page.
//   see(picture), or "studio:see" on the document (detail: a picture with an id). Runs are kept in groups "see-<id of the picture>".

import { api } from "./api.js";
import { el, svg } from "./dom.js";
import { duration } from "./estimate.js";
import { ENDED, jobs } from "./jobs.js";

const SOON = 1;   // Whoever waits before a dialog goes before whatever fills a grid.
const CLOSE = "sumi:close";   // What the page of a run says when Escape is pressed in it.
const FRESH = ["done", "running", "queued"];

class SeePanel extends HTMLElement {
  #dialog; #place; #link; #title; #picture = null; #job = null; #asked = 0; #parts = null; #frame = null; #back = null;

  connectedCallback() {
    if (this.#dialog) return;
    this.#title = el("h2", { id: "see-title", text: "How it came about" });
    this.#link = el("a", { class: "button", target: "_blank", rel: "noopener", text: "Open in a tab", hidden: true });
    this.#place = el("div", { class: "place" });
    this.#dialog = el("dialog", { class: "see", "aria-labelledby": "see-title", onclose: () => this.#closed() },
      el("header", {}, this.#title, this.#link,
        el("button", { type: "button", class: "button", text: "Close", onclick: () => this.#dialog.close() })),
      this.#place);
    this.append(this.#dialog);
    document.addEventListener("studio:see", ({ detail }) => this.see(detail));
    addEventListener("message", ({ source, data }) => {
      if (this.#frame && source === this.#frame.contentWindow && data === CLOSE) this.#dialog.close();
    });
    jobs.addEventListener("job", ({ detail }) => detail.id === this.#job?.id && this.#take(detail));
    jobs.addEventListener("preview", ({ detail }) => {
      if (detail.job === this.#job?.id && this.#parts) this.#parts.image.src = detail.image;
    });
    jobs.addEventListener("online", ({ detail }) => detail && this.#follow());
  }

  async see(picture) {
    this.#picture = picture;
    this.#job = null;
    if (!this.#dialog.open) {
      this.#back = document.activeElement;
      this.#dialog.showModal();
    }
    this.#wait();
    const asked = ++this.#asked;
    try {
      const job = await this.#found(picture) ?? await this.#submitted(picture);
      if (asked === this.#asked) this.#take(job);   // else another is asked for by now, or it was closed
    } catch (error) {
      if (asked === this.#asked) this.#fail(error.message);
    }
  }

  // A run that is kept or under way: of this picture, or the one that made it, if that was to be seen itself.
  async #found({ id }) {
    const { jobs: kept } = await api.get(`/v1/jobs?group=see-${id}&limit=20`);
    for (const state of FRESH) {
      const job = kept.find((one) => one.state === state);
      if (job) return job;
    }
    return null;
  }

  async #submitted({ id }) {
    const info = await api.get(`/v1/pictures/${id}/info`);
    return jobs.ask(info.request, { model: info.model, group: `see-${id}`, see: true, priority: SOON, shelf: false });
  }

  // What was missed while the server was not heard.
  async #follow() {
    if (!this.#job || ENDED.includes(this.#job.state)) return;
    try {
      this.#take(await api.get(`/v1/jobs/${this.#job.id}`));
    } catch (error) {
      this.#fail(error.message);
    }
  }

  #wait() {
    const image = el("img", { src: this.#picture.url ?? `/v1/pictures/${this.#picture.id}`, alt: "" });
    const says = el("p", { class: "says", role: "status", text: "Asking for it…" });
    const bar = el("progress", { "aria-label": "steps made" });
    const stop = el("button", { type: "button", class: "button", text: "Stop", hidden: true, onclick: () => this.#stop() });
    this.#parts = { image, says, bar, stop };
    this.#frame = null;
    this.#link.hidden = true;
    this.#place.replaceChildren(el("div", { class: "wait" }, image, says, bar, stop));
    image.addEventListener("load", () => image.classList.toggle("crisp", image.naturalWidth < 256));
  }

  #take(told) {
    if (this.#frame && this.#job?.id === told.id) return;
    // It may have come to its end while the reply was under way.
    const heard = jobs.get(told.id), job = heard && ENDED.includes(heard.state) && !ENDED.includes(told.state) ? heard : told;
    this.#job = job;
    if (job.state === "done") return this.#show(job);
    if (job.state === "failed") return this.#fail(job.error.message);
    if (job.state === "cancelled") return this.#fail("It was stopped before its last step.");
    const { image, says, bar, stop } = this.#parts ?? (this.#wait(), this.#parts), seen = jobs.film(job.id).at(-1);
    stop.hidden = false;
    if (seen && image.src !== seen.image) image.src = seen.image;
    if (job.state === "queued") {
      bar.removeAttribute("value");
      says.textContent = job.position ? `${job.position} before it in the queue.` : "It is next.";
    } else if (job.step === null) says.textContent = "It begins.";
    else {
      Object.assign(bar, { max: job.steps, value: job.step });
      // Telling a step is counted like making it: the second half of them.
      const steps = job.steps / 2, telling = job.step > steps;
      const left = job.eta ? `, about ${duration(job.eta)} left` : "";
      says.textContent = `${telling ? "Telling step" : "Step"} ${telling ? job.step - steps : job.step} of ${steps}${left}.`;
    }
  }

  #show(job) {
    if (!job.story) return this.#fail("Its steps were not kept.");
    this.#parts = null;
    this.#link.href = job.story;
    this.#link.hidden = false;
    // What it shows is made of words that others typed: it may run, but has no part in this page and its key.
    this.#frame = el("iframe", { src: job.story, sandbox: "allow-scripts", title: "The steps of the picture" });
    this.#frame.addEventListener("load", () => this.#frame?.focus());
    this.#place.replaceChildren(this.#frame);
  }

  #fail(message) {
    this.#parts = null;
    this.#frame = null;
    this.#place.replaceChildren(el("div", { class: "wait" },
      svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" },
        svg("path", { d: "M8 1C5.5 5 3.5 7.4 3.5 10.2a4.5 4.5 0 0 0 9 0C12.5 7.4 10.5 5 8 1z" })),
      el("p", { class: "says", role: "alert", text: message }),
      el("button", { type: "button", class: "primary", text: "Try again", onclick: () => this.see(this.#picture) })));
  }

  async #stop() {
    try {
      this.#take(await jobs.cancel(this.#job.id));
    } catch (error) {
      this.#fail(error.message);
    }
  }

  // A run goes on when nobody looks: it is there the next time.
  #closed() {
    if (this.#dialog.open) return;   // browsers tell late: it was opened again meanwhile
    this.#asked++;
    this.#job = this.#frame = this.#parts = null;
    this.#place.replaceChildren();
    this.#back?.focus();
  }
}

customElements.define("see-panel", SeePanel);

export const see = (picture) => document.dispatchEvent(new CustomEvent("studio:see", { detail: picture }));
