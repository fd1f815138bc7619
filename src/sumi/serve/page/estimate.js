// How long pictures will take, by how long others took.

const steps = (request, card) => {
  const asked = request.sigmas ? request.sigmas.length - 1 : request.steps ?? card.steps;
  const kept = request.image && !request.exact ? request.strength ?? 0.75 : 1;
  const larger = request.hires ? (request.hires_steps ?? asked) * (request.hires_strength ?? 0.5) * request.hires ** 2 : 0;
  return Math.max(1, asked * kept) + larger;
};

// Steps times pixels: what time grows with, all else being the same.
export const cost = (request, card) =>
  steps(request, card) * (request.width ?? card.width) * (request.height ?? card.height) * (request.count ?? 1);

// Seconds for each unit of cost, or null if none was ever made. Jobs that ran side by side count once: the time in which any of them ran.
export function pace(done, card) {
  const ran = done.filter(({ started, finished }) => started && finished).sort((a, b) => a.started - b.started);
  let busy = 0, until = -Infinity, total = 0;
  for (const { request, started, finished } of ran) {
    busy += Math.max(0, finished - Math.max(started, until));
    until = Math.max(until, finished);
    total += cost(request, card);
  }
  return total ? busy / total : null;
}

export function duration(seconds) {
  if (seconds < 1.5) return "a second";
  if (seconds < 90) return `${Math.round(seconds)} seconds`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} minutes`;
  return `${Math.round(seconds / 3600)} hours`;
}
