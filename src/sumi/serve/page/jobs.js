// The jobs of the server, as far as this page knows them: what it asked for, and what is queued or running.
//   jobs (EventTarget)
//     .submit(overrides = {}, {group = "studio", see, priority, shelf}) -> Promise<Job>: the settings, and overrides over them
//       (null: without one). shelf false: its pictures are for this page alone, and never lie in the gallery
//     .ask(request, {model, group = "studio", see, priority, shelf}) -> Promise<Job>: this request as it is, whatever the settings are
//     .again(request, model): the same once more, to the bit; .vary(request, model): a little way off
//     .cancel(id), .retry(id) -> Promise<Job>; .get(id) -> Job or undefined; .running() -> those queued or running, oldest first
//     .all() -> all that are known; .mine(job): whether this tab asked for it; .film(id) -> [{step, image}]: previews that came so far
//     .online: whether the server is heard
//   events: "job" (detail Job, whenever one changes), "preview" (detail {job, step, image}), "picture" (detail {job, picture}) for each
//     picture that is finished while the page is open, "asked" (detail Job: just submitted from this tab), "online" (detail bool)
//   The centre of the page follows the jobs of this tab of group "studio": give another group to those that are shown elsewhere.

import { api, listen, unique } from "./api.js";
import { known } from "./known.js";
import { settings } from "./state.js";

export const ENDED = ["done", "failed", "cancelled"];
const FILMS = 40, KNOWN = 400, MOST = 2_000;   // jobs of which films, and what is told, are kept; and of which is asked
const LATELY = 3_600;   // seconds
const after = (time) => new Promise((resolve) => setTimeout(resolve, time));

class Jobs extends EventTarget {
  online = null;
  refused = null;   // why the server does not answer, if it said so
  #jobs = new Map();
  #films = new Map();
  #steps = new Map();   // of the jobs that run: the last step that was heard of
  #told = new Set();   // pictures that were announced
  #ended = new Set();
  #changed = new Set();
  #reading = null;
  #mine = new Set(JSON.parse(sessionStorage.getItem("sumi.mine") ?? "[]"));

  get(id) { return this.#jobs.get(id); }
  all() { return [...this.#jobs.values()].sort((a, b) => a.number - b.number); }
  running() { return this.all().filter(({ state }) => !ENDED.includes(state)); }
  mine({ id }) { return this.#mine.has(id); }
  film(id) { return this.#films.get(id) ?? []; }

  submit(overrides = {}, options = {}) {
    const { model = null, ...request } = { ...settings.all(), ...overrides };
    const given = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== null && value !== undefined));
    return this.ask(known.fits(given), { model, ...options });
  }

  async ask(request, { model = null, group = "studio", see = false, priority = 0, shelf = true } = {}) {
    const headers = { "Idempotency-Key": unique() };
    const body = { request, model, priority, group, see, ...(!shelf && { shelf }) };
    // The key makes it safe to ask twice, when the connection went away in between.
    for (const wait of [300, 1_000, null]) {
      try {
        const reply = await api.post("/v1/jobs", body, headers);
        this.#mine.add(reply.id);
        sessionStorage.setItem("sumi.mine", JSON.stringify([...this.#mine].slice(-200)));
        // Its events may have been faster than the reply.
        const job = this.get(reply.id) ?? this.#take(reply);
        this.#tell("asked", job);
        return job;
      } catch (error) {
        if (error.status !== 0 || wait === null) throw error;
        await after(wait);
      }
    }
  }

  again(request, model = null) { return this.ask(request, { model }); }

  vary(request, model = null) {
    const variation_seed = crypto.getRandomValues(new BigUint64Array(1))[0].toString();
    return this.ask({ ...request, variation: 0.3, variation_seed }, { model });
  }

  async cancel(id) { return this.#take(await api.post(`/v1/jobs/${id}/cancel`)); }
  async retry(id) {
    const job = await api.post(`/v1/jobs/${id}/retry`);
    this.#ended.delete(id);
    return this.#take(job);
  }

  // What runs and waits, and what failed lately; and what became of those that were under way and are so no longer.
  async refresh() {
    const [running, queued, failed] = await Promise.all(
      [this.#listed("running"), this.#listed("queued"), api.get("/v1/jobs?state=failed&limit=20")]);
    const found = [...running, ...queued], there = new Set(found.map(({ id }) => id));
    const newest = Math.max(...found.map(({ created }) => created), Date.now() / 1000);
    [...found, ...failed.jobs.filter(({ finished }) => newest - finished < LATELY)].forEach((job) => this.#take(job));
    await Promise.all(this.running().filter(({ id }) => !there.has(id)).map(({ id }) => this.read(id)));
  }

  async #listed(state) {
    const found = [];
    for (let before = ""; found.length < MOST;) {
      const { jobs: part, next } = await api.get(`/v1/jobs?state=${state}&limit=100${before}`);
      found.push(...part);
      if (next === null) break;
      before = `&before=${next}`;
    }
    return found;
  }

  // quiet: of a job that ended before, whose pictures are no news.
  async read(id, { quiet = false } = {}) {
    try {
      return this.#take(await api.get(`/v1/jobs/${id}`), quiet);
    } catch (error) {
      if (error.status !== 404) throw error;
      this.#jobs.delete(id);
      return null;
    }
  }

  start() {
    return listen("/v1/events", {
      event: (kind, data) => this.#hear(kind, data),
      up: async () => {
        try {
          await this.refresh();
        } catch {
          return;   // gone again: the stream says so, too
        }
        this.#become(true, null);
      },
      down: (error) => this.#become(false, error),
    });
  }

  #become(online, refused) {
    this.refused = refused;
    this.online = online;
    this.#tell("online", online);
  }

  #hear(kind, data) {
    const job = this.get(data.job);
    if (kind === "preview") {
      this.#keep(data);
      this.#tell("preview", data);
    } else if (kind === "step") {
      const { step, steps, eta } = data;
      this.#steps.set(data.job, { step, steps, eta });
      if (job) this.#take({ ...job, state: ENDED.includes(job.state) ? job.state : "running", position: null, step, steps, eta });
    } else if (job && kind === "note") {
      if (!job.notes.includes(data.text)) this.#take({ ...job, notes: [...job.notes, data.text] });
    } else {
      if (kind === "queued") this.#ended.delete(data.job);
      this.#steps.delete(data.job);
      this.#changed.add(data.job);
      this.#reading ??= this.#reread();
    }
  }

  // Several events of one moment are one reading, and one reading follows the other, so that the newest is last.
  async #reread() {
    while (this.#changed.size) {
      await after(30);
      const ids = [...this.#changed];
      this.#changed.clear();
      try {
        await Promise.all(ids.map((id) => this.read(id)));
      } catch {
        break;   // all is read again once the connection is there
      }
      this.#rank();
    }
    this.#reading = null;
  }

  // One that begins or goes moves all that wait behind it; the server orders them so, too.
  #rank() {
    const waiting = this.running().filter(({ state }) => state === "queued").sort((a, b) => b.priority - a.priority || a.number - b.number);
    waiting.forEach((job, position) => position === job.position || this.#take({ ...job, position }));
  }

  #keep({ job, step, image }) {
    const film = this.#films.get(job) ?? [];
    this.#films.delete(job);
    this.#films.set(job, film);
    const at = film.findIndex((frame) => frame.step >= step);
    if (at < 0) film.push({ step, image });
    else if (film[at].step === step) film[at] = { step, image };
    else film.splice(at, 0, { step, image });
    if (this.#films.size > FILMS) this.#films.delete(this.#films.keys().next().value);
  }

  #take(job, quiet = false) {
    const before = this.#jobs.get(job.id), ended = ENDED.includes(job.state);
    // What was read before its end, and comes after it, is no news; unless it was tried again.
    if (!ended && this.#ended.has(job.id)) return before ?? job;
    if (ended) this.#ended.add(job.id);
    // A step may be heard of while the reply is under way that does not know of it yet.
    const heard = this.#steps.get(job.id);
    if (job.state === "running" && heard?.step > (job.step ?? 0)) job = { ...job, ...heard };
    this.#jobs.set(job.id, job);
    if (JSON.stringify(before) !== JSON.stringify(job)) this.#tell("job", job);
    for (const picture of job.pictures) {
      if (this.#told.has(picture.id)) continue;
      this.#told.add(picture.id);
      if (!quiet) this.#tell("picture", { job, picture });
    }
    if (this.#jobs.size > KNOWN) {
      const old = [...this.#jobs.values()].find(({ state }) => ENDED.includes(state));
      if (old) this.#jobs.delete(old.id);
    }
    return job;
  }

  #tell(kind, detail) { this.dispatchEvent(new CustomEvent(kind, { detail })); }
}

export const jobs = new Jobs();
