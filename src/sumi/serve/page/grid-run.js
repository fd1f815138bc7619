// A grid that was asked for: a job for each cell, all in one group, so that they are found again whoever left in between.
//   new Grid({id, at, base, axes}): .cells [{place, request, model, job, error}]; .load() reads the group; .make() asks for what is missing
//   .again(cell), .stop(); .count(state) -> how many; "cell" (detail: the cell) whenever one changes, "busy" when asking begins and ends
//   remembered() -> the latest, newest first; remember(grid)

import { api } from "./api.js";
import { cells, MODEL, REPLACE, SIZE } from "./axes.js";
import { ENDED, jobs } from "./jobs.js";
import { prefs } from "./state.js";

const KEPT = 12;
const PAGE = 500;
const OWN = "sumi";   // the model that comes with sumi, which jobs do not name

const fields = (name) => name === SIZE ? ["width", "height"] : name === REPLACE ? ["prompt"] : [name];
const better = (job, other) => !other || (job.state === "done") > (other.state === "done")
  || (job.state === "done") === (other.state === "done") && job.number > other.number;

export class Grid extends EventTarget {
  asking = false;
  #by = new Map();   // cells by the id of their job
  #names;
  #heard;

  constructor({ id, at, base, axes }) {
    super();
    Object.assign(this, { id, at, base, axes, group: `grid-${id}` });
    this.cells = cells(base, axes).map((cell) => ({ ...cell, job: null, error: null, preview: null }));
    this.#names = [...new Set(axes.flatMap((axis) => axis ? fields(axis.name) : []))].filter((name) => name !== MODEL);
    this.#heard = new AbortController();
    const { signal } = this.#heard;
    jobs.addEventListener("job", ({ detail }) => this.#take(detail), { signal });
    jobs.addEventListener("preview", ({ detail }) => this.#show(detail), { signal });
    jobs.addEventListener("online", ({ detail }) => detail && this.load().catch(() => {}), { signal });   // else the next time
  }

  told() { return { id: this.id, at: this.at, base: this.base, axes: this.axes }; }
  close() { this.#heard.abort(); }
  count(...states) { return this.cells.filter(({ job }) => job && states.includes(job.state)).length; }
  live() { return this.cells.filter(({ job }) => job && !ENDED.includes(job.state)); }
  missing() { return this.cells.filter(({ job }) => !job || job.state === "failed" || job.state === "cancelled"); }

  // What the server knows of the group. A job belongs to the cell that asked for the same, in all that the cells differ in.
  async load() {
    const found = [];
    for (let next = null; ;) {
      const page = await api.get(`/v1/jobs?group=${this.group}&limit=${PAGE}${next === null ? "" : `&before=${next}`}`);
      found.push(...page.jobs);
      if ((next = page.next) === null) break;
    }
    const open = new Map();
    for (const cell of this.cells) {
      const key = this.#key(cell);
      open.set(key, [...open.get(key) ?? [], cell]);
    }
    const first = new Map();
    for (const job of found.sort((a, b) => a.number - b.number)) {
      const known = this.#by.get(job.id);
      const same = open.get(this.#key(job)) ?? [];
      const cell = known ?? same.find((one) => !first.has(one)) ?? same[0];
      if (cell && better(job, first.get(cell))) first.set(cell, job);
    }
    for (const [cell, job] of first) this.#give(cell, job);
  }

  async make() {
    await this.#ask(this.missing());
  }

  async again(cell) {
    if (!cell.job) return this.#ask([cell]);
    this.#give(cell, await jobs.retry(cell.job.id));
  }

  // From the last to the first, so that none of them begins in the meantime.
  async stop() {
    this.asking = false;
    for (const { job } of this.live().reverse()) {
      try {
        await jobs.cancel(job.id);
      } catch (error) {
        if (error.status !== 409) throw error;   // it has ended by itself
      }
    }
  }

  async #ask(wanted) {
    this.#busy(true);
    try {
      for (const cell of wanted) {
        if (!this.asking) return;
        try {
          const job = cell.job ? await jobs.retry(cell.job.id) : await jobs.ask(cell.request, { model: cell.model, group: this.group });
          this.#give(cell, job);
          if (!this.asking) await jobs.cancel(cell.job.id);   // stopped while it was being asked for
        } catch (error) {
          cell.error = error.message;
          this.#tell(cell);
          if (error.status === 0 || error.status === 401 || error.status === 429) throw error;   // the others would fare no better
        }
      }
    } finally {
      this.#busy(false);
    }
  }

  #busy(asking) {
    this.asking = asking;
    this.dispatchEvent(new CustomEvent("busy"));
  }

  #key({ request, model }) {
    const told = (name) => name.endsWith("seed") ? String(request[name]) : request[name] ?? null;
    return JSON.stringify([model === OWN ? null : model ?? null, ...this.#names.map(told)]);
  }

  // The cell for a job that another tab asked for.
  #open(job) {
    const key = this.#key(job);
    return this.cells.find((cell) => !cell.job && this.#key(cell) === key) ?? null;
  }

  #give(cell, job) {
    if (cell.job?.id !== job.id) this.#by.delete(cell.job?.id);
    this.#by.set(job.id, cell);
    cell.job = job;
    cell.error = null;
    if (ENDED.includes(job.state) || job.state === "queued") cell.preview = null;
    this.#tell(cell);
  }

  #take(job) {
    const cell = this.#by.get(job.id) ?? (job.group === this.group ? this.#open(job) : null);
    if (!cell) return;
    if (job.state === "cancelled") this.asking = false;   // stopped from elsewhere: what is not asked for yet is not wanted either
    this.#give(cell, job);
  }

  #show({ job, image }) {
    const cell = this.#by.get(job);
    if (!cell || ENDED.includes(cell.job.state)) return;
    cell.preview = image;
    this.#tell(cell);
  }

  #tell(cell) { this.dispatchEvent(new CustomEvent("cell", { detail: cell })); }
}

export const remembered = () => prefs.get("grids") ?? [];
export const remember = (grid) => prefs.set({ grids: [grid.told(), ...remembered().filter(({ id }) => id !== grid.id)].slice(0, KEPT) });
