// <making-stage>: the picture in the middle of the page: waiting, coming to be with its film, done with what can be done with it, or
// failed. It follows what this tab asks for; tells "studio:shows" (detail {id, seed} or null) which picture is there.

import { acts } from "./acts.js";
import { api } from "./api.js";
import { button, el, say } from "./dom.js";
import { examples } from "./examples.js";
import { facts, left } from "./facts-of-job.js";
import { ENDED, jobs } from "./jobs.js";
import { key } from "./keys.js";
import { known } from "./known.js";
import { beside, forget } from "./walking.js";
import "./step-film.js";

const KEPT = "sumi.shown";
const SMALL = 256;   // pixels

class MakingStage extends HTMLElement {
  #job = null;      // as it was last heard
  #place = 0;       // which of its pictures
  #frame = null;    // which frame of its film; null: the picture, or the newest
  #acting = "";
  #turn = 0;        // how often something else was chosen to be shown: what was asked for before that comes too late

  connectedCallback() {
    this.image = el("img", { alt: "", hidden: true, draggable: "false", onload: () => this.#sized() });
    this.waits = el("p", { class: "waits" });
    this.frame = el("button", { type: "button", class: "frame", onclick: () => this.#open() }, this.image, this.waits);
    this.others = el("div", { class: "others", role: "group", "aria-label": "Pictures of this job" });
    this.older = el("button", { type: "button", class: "plain", title: "Alt+←", text: "← older", onclick: () => this.walk(1) });
    this.newer = el("button", { type: "button", class: "plain", title: "Alt+→", text: "newer →", onclick: () => this.walk(-1) });
    this.step = el("p", { class: "step" });
    this.words = el("p", { class: "words" });
    this.facts = el("dl");
    this.notes = el("ul", { class: "notes", "aria-label": "Notes" });
    this.failure = el("p", { class: "failure", role: "alert" });
    this.acts = el("div", { class: "acts", role: "group", "aria-label": "With this picture" });
    this.heard = el("p", { class: "unseen", role: "status" });
    this.film = el("step-film");
    this.film.addEventListener("choose", ({ detail }) => { this.#frame = detail; this.#draw(); });
    const walk = el("p", { class: "walk" }, this.older, this.newer);
    this.making = el("div", { class: "making" },
      el("div", { class: "shown" }, this.frame, this.others, this.film),
      el("div", { class: "about" }, this.step, this.failure, this.words, this.facts, this.notes, this.acts, walk));
    this.first = examples();
    this.append(this.making, this.first, this.heard);

    jobs.addEventListener("asked", ({ detail }) => detail.group === "studio" && !detail.see && this.#follow(detail));
    jobs.addEventListener("job", ({ detail }) => detail.id === this.#job?.id && this.#take(detail));
    jobs.addEventListener("preview", ({ detail }) => detail.job === this.#job?.id && this.#draw());
    jobs.addEventListener("picture", () => forget());
    jobs.addEventListener("online", ({ detail }) => detail && this.#recover());
    known.addEventListener("change", () => { this.#acting = ""; this.#draw(); });
    key("Alt+ArrowLeft", "the picture before", () => this.walk(1));
    key("Alt+ArrowRight", "the picture after", () => this.walk(-1));
    this.#draw();
  }

  // To the next older picture (1) or the next newer (-1).
  async walk(by) {
    try {
      const item = await beside(this.#job && ENDED.includes(this.#job.state) ? this.#picture()?.id ?? null : null, by);
      if (item) await this.#restore(item.job, item.id);
    } catch (error) {
      say(error.message, { kind: "error" });
    }
  }

  #picture() { return this.#job?.pictures[this.#place] ?? null; }

  #follow(job) {
    this.#turn++;
    this.#job = job;
    this.#place = 0;
    this.#frame = null;
    this.#keep();
    this.#draw();
  }

  #take(job) {
    const ended = !ENDED.includes(this.#job.state) && ENDED.includes(job.state);
    this.#job = job;
    if (ended) {
      this.#keep();
      this.heard.textContent = { done: "The picture is done.", failed: "The job failed.", cancelled: "Stopped." }[job.state];
    }
    this.#draw();
  }

  #keep() { sessionStorage.setItem(KEPT, JSON.stringify({ job: this.#job?.id ?? null, picture: this.#picture()?.id ?? null })); }

  // After a reload, in a new tab, and when the server is there again: what was shown, else what is under way, else the newest picture.
  async #recover() {
    forget();
    try {
      const { job = this.#job?.id, picture = null } = JSON.parse(sessionStorage.getItem(KEPT)) ?? {};
      if (job && await this.#restore(job, picture)) return;
      const running = jobs.running().findLast(({ group, see }) => group === "studio" && !see);
      if (running) return this.#follow(running);
      const turn = this.#turn, newest = await beside(null, 1);
      if (newest && turn === this.#turn) await this.#restore(newest.job, newest.id);
      else this.#draw();
    } catch {
      this.#draw();   // the connection is gone again, and will come
    }
  }

  // False if there is no such job any more.
  async #restore(id, picture) {
    const turn = ++this.#turn;
    const job = await jobs.read(id, { quiet: true });
    if (turn !== this.#turn) return true;
    if (!job) return false;
    if (job.id !== this.#job?.id) this.#frame = null;
    this.#job = job;
    this.#place = Math.max(0, job.pictures.findIndex((one) => one.id === picture));
    this.#keep();
    this.#draw();
    return true;
  }

  #open() {
    const picture = this.#picture();
    if (picture) document.dispatchEvent(new CustomEvent("studio:show", { detail: { ...picture, job: this.#job.id } }));
  }

  #sized() {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    this.making.style.setProperty("--ratio", String(width / height));
    // A small picture is shown as its pixels are. A preview is of far fewer: its colours run into one another, as ink does.
    const preview = !this.image.src.includes("/v1/pictures/");
    this.image.classList.toggle("crisp", !preview && Math.max(width, height) < SMALL);
    this.image.style.filter = preview ? `blur(${(0.35 * this.image.clientWidth / width).toFixed(1)}px)` : "";
  }

  #draw() {
    const job = this.#job;
    this.making.hidden = !job;
    this.first.hidden = Boolean(job) || jobs.online !== true;
    const picture = this.#picture();
    document.dispatchEvent(new CustomEvent("studio:shows", { detail: picture ? { id: picture.id, seed: picture.seed } : null }));
    if (!job) return;
    this.dataset.job = job.id;
    const { state, request } = job, frames = jobs.film(job.id);
    const seen = this.#frame === null ? null : frames[this.#frame] ?? null;
    const source = seen?.image ?? picture?.url ?? frames.at(-1)?.image ?? null;
    this.#size(request, source);
    this.frame.className = `frame ${state === "cancelled" || state === "failed" ? "stopped" : state}`;
    this.frame.disabled = !picture;
    const called = picture ? `Open the picture: ${request.prompt || "without words"}` : `The picture, ${this.#stated(job)}`;
    this.frame.setAttribute("aria-label", called);
    this.frame.style.setProperty("--progress", String(job.steps ? (job.step ?? 0) / job.steps : 0));
    this.image.hidden = !source;
    if (source && this.image.getAttribute("src") !== source) this.image.src = source;
    this.image.alt = this.#described(seen, picture, request);
    this.waits.textContent = source ? "" : this.#stated(job);
    this.step.replaceChildren(...this.#headline(job, seen));
    this.step.hidden = !this.step.childNodes.length;
    this.words.textContent = request.prompt || "";
    this.words.hidden = !request.prompt;
    const told = facts(job, this.#place);
    this.facts.replaceChildren(...told.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]));
    this.notes.replaceChildren(...job.notes.map((text) => el("li", { text })));
    this.notes.hidden = !job.notes.length;
    this.failure.textContent = job.error?.message ?? "";
    this.failure.hidden = !job.error;
    this.#others(job);
    this.#act(job, picture);
    this.film.show({ frames, last: picture && frames.length ? { image: picture.thumbnail } : null, at: this.#frame });
  }

  #described(seen, picture, { prompt }) {
    if (seen) return `what was expected after step ${seen.step}`;
    return picture ? prompt || "a picture without words" : "what is expected so far";
  }

  // Before there is anything to see it has its size, so that nothing moves.
  #size(request, source) {
    if (source && this.image.complete && this.image.naturalWidth) return;
    const card = known.card(), width = request.width ?? card?.width, height = request.height ?? card?.height;
    if (width && height) this.making.style.setProperty("--ratio", String(width / height));
  }

  #stated({ state, position }) {
    if (state === "queued") return position ? `waiting: ${position} before it` : "waiting for its turn";
    return { running: "beginning", failed: "it failed", cancelled: "stopped", done: "done" }[state];
  }

  #headline({ state, step, steps, eta, position }, seen) {
    const small = (text) => text && el("small", { text });
    if (seen) return [`Step ${seen.step}`, small("as the picture was expected then")];
    if (state === "running" && step) return [`Step ${step} of ${steps}`, small(left(eta))].filter(Boolean);
    if (state === "running") return ["Beginning"];
    if (state === "queued") return ["In the queue", small(position ? `${position} before it` : "next")];
    if (state === "cancelled") return ["Stopped", small(step ? `at step ${step} of ${steps}` : "")].filter(Boolean);
    if (state === "failed") return ["Failed"];
    return [];
  }

  #turnTo(place) {
    this.#place = place;
    this.#frame = null;
    this.#keep();
    this.#draw();
  }

  #others({ pictures }) {
    this.others.hidden = pictures.length < 2;
    while (this.others.children.length > pictures.length) this.others.lastElementChild.remove();
    pictures.forEach(({ thumbnail }, i) => {
      let one = this.others.children[i];
      if (!one) {
        one = el("button", { type: "button", "aria-label": `Picture ${i + 1}`, onclick: () => this.#turnTo(i) }, el("img", { alt: "" }));
        this.others.append(one);
      }
      const image = one.firstElementChild;
      if (image.getAttribute("src") !== thumbnail) image.src = thumbnail;
      if (i === this.#place) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    });
  }

  // Made anew only when they change, since one of them may be in focus.
  #act(job, picture) {
    const acting = `${job.id} ${job.state} ${picture?.id}`;
    if (acting === this.#acting) return;
    this.#acting = acting;
    const tried = (run) => async () => {
      try {
        await run();
      } catch (error) {
        say(error.message, { kind: "error" });
      }
    };
    const retry = button(job.state === "failed" ? "Try again" : "Make it after all", tried(() => jobs.retry(job.id)));
    const asked = { request: { ...job.request, seed: job.seed }, model: job.model };
    const use = button("Use these settings", () => document.dispatchEvent(new CustomEvent("studio:use", { detail: asked })));
    this.acts.replaceChildren(...(picture ? acts({ picture: { ...picture, job: job.id }, request: job.request, model: job.model })
      : ["failed", "cancelled"].includes(job.state) ? [retry, use] : []));
  }
}
customElements.define("making-stage", MakingStage);
