// The line at the top, and at the bottom on a phone: the model, how the server is, settings, theme, help.

import { button, el, icon } from "./dom.js";
import { jobs } from "./jobs.js";
import { known } from "./known.js";
import { prefs, settings } from "./state.js";

const THEMES = { system: "as the system", light: "light", dark: "dark" };
const DRAWN = {
  system: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  light: "M8 5a3 3 0 1 0 .01 0M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  dark: "M13 9.5A5.5 5.5 0 1 1 6.5 3a4.5 4.5 0 0 0 6.5 6.5z",
};

export const simple = () => prefs.get("simple") ?? true;

export function head() {
  const all = button("All settings", () => prefs.set({ simple: !simple() }), { "aria-controls": "parameters" });
  const theme = el("button", { type: "button", class: "plain", onclick: () => {
    const names = Object.keys(THEMES), now = prefs.get("theme") ?? "system";
    const next = names[(names.indexOf(now) + 1) % names.length];
    prefs.set({ theme: next === "system" ? null : next });
  } });
  const opened = () => document.querySelector("help-panel").open();
  const help = button("?", opened, { class: "plain", "aria-label": "Help and keys", title: "help and keys (?)" });
  document.getElementById("tools").append(all, theme, help);

  const show = () => {
    const now = prefs.get("theme") ?? "system", root = document.documentElement;
    if (now === "system") delete root.dataset.theme;
    else root.dataset.theme = now;
    theme.replaceChildren(icon(DRAWN[now]));
    theme.setAttribute("aria-label", `Colours: ${THEMES[now]}`);
    theme.title = `colours: ${THEMES[now]}`;
    root.toggleAttribute("data-simple", simple());
    all.setAttribute("aria-pressed", String(!simple()));
    all.setAttribute("aria-expanded", String(!simple()));
  };
  prefs.addEventListener("change", show);
  show();
  model();
  status();
  bar();
}

function model() {
  const select = el("select", { id: "model-choice", onchange: () => settings.set({ model: select.value || null }) });
  const place = document.getElementById("model");
  place.append(el("label", { for: "model-choice", class: "unseen", text: "Model" }), select);
  const show = () => {
    place.hidden = known.models.length < 2;
    const offered = known.models.map(({ id, default: usual, card }) => [usual ? "" : id, usual ? card.title : id]);
    select.replaceChildren(...offered.map(([value, text]) => el("option", { value, text })));
    select.value = settings.get("model") ?? "";
  };
  for (const source of [known, settings]) source.addEventListener("change", show);
}

// The present job is also told in the title of the tab.
function status() {
  const place = document.getElementById("status");
  const show = () => {
    const under = jobs.running(), mine = under.filter((job) => jobs.mine(job)), now = mine.find(({ state }) => state === "running");
    document.title = now?.steps ? `${now.step ?? 0}/${now.steps} · sumi` : mine.length ? "… · sumi" : "sumi";
    const others = under.length - mine.length;
    place.textContent = others ? `${others} job${others === 1 ? "" : "s"} of others under way` : "";
  };
  for (const kind of ["job", "online"]) jobs.addEventListener(kind, show);
  const offline = document.getElementById("offline");
  let late;
  jobs.addEventListener("online", ({ detail }) => {
    clearTimeout(late);
    if (detail) offline.replaceChildren();
    else late = setTimeout(() => offline.replaceChildren(...lost(jobs.refused)), 300);
  });
}

const lost = (refused) => refused?.status === 401
  ? ["The key has changed: ", el("a", { href: "/", text: "give the one that sumi serve told" }), "."]
  : ["Not connected, trying again. What you write here is kept."];

// On a phone.
function bar() {
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  const to = (id) => document.getElementById(id).scrollIntoView({ behavior });
  const make = () => document.querySelector("make-row");
  const go = el("button", { type: "button", class: "primary", text: "Make", onclick: () => {
    if (go.dataset.busy) make().halt();
    else {
      make().make();
      document.querySelector("making-stage").scrollIntoView({ behavior, block: "nearest" });
    }
  } });
  document.addEventListener("studio:busy", ({ detail }) => {
    go.textContent = detail ? "Stop" : "Make";
    if (detail) go.dataset.busy = "yes";
    else delete go.dataset.busy;
  });
  document.getElementById("bar").append(
    el("button", { type: "button", class: "plain", text: "Settings", onclick: () => { prefs.set({ simple: false }); to("parameters"); } }),
    go, el("button", { type: "button", class: "plain", text: "Pictures", onclick: () => to("gallery") }));
}
