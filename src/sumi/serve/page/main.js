// The studio: its parts put together, and started.

import "./make-row.js";
import "./prompt-box.js";
import "./parameter-list.js";
import "./making-stage.js";
import "./queue-list.js";
import "./help.js";
import { say } from "./dom.js";
import { head } from "./head.js";
import { jobs } from "./jobs.js";
import { known } from "./known.js";
import { modes } from "./modes.js";
import { PICTURES, settings } from "./state.js";

head();
modes.start(document.getElementById("modes"));

// A request in place of what is set. What it started from goes to the part of the page that is for it.
document.addEventListener("studio:use", ({ detail: { request, model, keepSeed = true } }) => {
  const before = settings.all();
  settings.use({ ...request, ...(model !== undefined && { model }) }, { keepSeed });
  const { image, mask, outpaint, map, low_res } = request;
  const mode = low_res ? "enlarge" : mask || outpaint ? "paint" : map ? "map" : image ? "image" : null;
  const uploadId = { enlarge: low_res, map }[mode] ?? image;
  if (mode && uploadId) document.dispatchEvent(new CustomEvent("studio:start-from", { detail: { uploadId, mode, mask, outpaint } }));
  else if (!PICTURES.some((name) => request[name])) modes.go("make");
  say("Its settings are in place", { action: { label: "Undo", run: () => settings.replace(before) } });
  document.getElementById("stage").scrollTo?.({ top: 0 });
});
document.addEventListener("studio:start-from", ({ detail: { mode } }) => modes.go(mode));

async function load() {
  try {
    await known.load();
  } catch {
    if (jobs.online) setTimeout(load, 2_000);   // else when it is there again
  }
}
jobs.addEventListener("online", ({ detail }) => detail && load());
jobs.start();
