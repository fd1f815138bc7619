// What the server offers: fields of a request, samplers, models, limits. Asked for at the start, and again after a lost connection.
//   known (EventTarget): .fields, .samplers, .spacings, .models, .status; event "change"
//     .card() -> what the chosen model is; .field(name); .takes(name) -> whether it serves that field
//     .fits(request) -> the request without the fields that mean nothing, since what they depend on is not given

import { api } from "./api.js";
import { prefs, settings } from "./state.js";

// As sumi.resolve.serves has it: left out rather than refused, since a setting stays when one goes from one mode to another.
const DEPENDS = {
  strength: ["image"], exact: ["image"], noise_multiplier: ["image"], image_guidance: ["image"], mask: ["image"], outpaint: ["image"],
  mask_grow: ["mask", "outpaint"], mask_blur: ["mask", "outpaint"], mask_invert: ["mask"], level: ["low_res", "like"],
  hires_strength: ["hires"], hires_steps: ["hires"], tile_overlap: ["tile"], variation_seed: ["variation"],
};

class Known extends EventTarget {
  fields = [];
  samplers = [];
  spacings = [];
  models = [];
  status = null;

  constructor() {
    super();
    settings.addEventListener("change", ({ detail }) => {
      if (detail.has("model")) this.#changed();
    });
  }

  async load() {
    const [{ fields }, { samplers, spacings }, { data }, status] = await Promise.all(
      ["fields", "samplers", "models", "status"].map((name) => api.get(`/v1/${name}`)));
    Object.assign(this, { fields, samplers, spacings, models: data, status });
    const chosen = settings.get("model");
    if (chosen !== null && !data.some(({ id }) => id === chosen)) settings.set({ model: null });
    if (!prefs.get("met")) this.#meet();
    this.#changed();
  }

  // Whoever names one model when the server is started means to use it.
  #meet() {
    const named = this.models.filter(({ default: own }) => !own);
    if (named.length === 1 && named[0].card && settings.get("model") === null) settings.set({ model: named[0].id });
    prefs.set({ met: true });
  }

  model() {
    const chosen = settings.get("model");
    return this.models.find(({ id, default: usual }) => chosen === null ? usual : id === chosen) ?? this.models[0] ?? null;
  }

  card() { return this.model()?.card ?? null; }
  field(name) { return this.fields.find((field) => field.name === name) ?? null; }
  takes(name) { return Boolean(this.card()?.takes.includes(name)); }
  applies(name, given) { return !(name in DEPENDS) || DEPENDS[name].some((other) => given(other)); }

  fits(request) {
    const given = (name) => request[name] !== undefined && request[name] !== null && request[name] !== false;
    return Object.fromEntries(Object.entries(request).filter(([name]) => this.applies(name, given)));
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}

export const known = new Known();
