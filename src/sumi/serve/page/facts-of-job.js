// What is told of a job in words: facts(job, place) -> [[name, value]] of what was asked for; left(eta) -> how long it still takes.

import { known } from "./known.js";

export function left(eta) {
  if (eta === null || eta === undefined) return "";
  if (eta < 1) return "less than a second left";
  if (eta < 90) return `about ${Math.round(eta)} s left`;
  return eta < 5400 ? `about ${Math.round(eta / 60)} min left` : `about ${(eta / 3600).toFixed(1)} h left`;
}

export function facts({ request, seed, model, pictures, started, finished, state }, place) {
  const card = known.models.find(({ id, default: usual }) => model === null ? usual : id === model)?.card;
  const asked = (name) => request[name] ?? card?.[name];
  const told = [
    ["seed", pictures[place]?.first ? `${seed}, number ${pictures[place].first}` : seed],
    ["size", `${asked("width")} × ${asked("height")}`],
    ["steps", asked("steps")],
    ["sampler", asked("sampler")],
    ["guidance", asked("guidance")],
    ["variation", request.variation || null],
    ["strength", request.image ? request.strength ?? null : null],
    ["pictures", request.count > 1 ? request.count : null],
    ["model", known.models.length > 1 ? model ?? card?.title : null],
    ["took", state === "done" && started ? `${(finished - started).toFixed(1)} s` : null],
  ];
  return told.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => [name, String(value)]);
}
