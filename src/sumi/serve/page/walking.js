// From one picture to the next older or newer, whichever there are:
// beside({id, number}, by) -> an item of GET /v1/pictures, or null at the end.

import { api } from "./api.js";

const PART = 100;
let parts = [], upto = null, total = Infinity;

export function forget() {
  parts = [];
  upto = null;
  total = Infinity;
}

async function more() {
  const found = await api.get(`/v1/pictures?limit=${PART}&offset=${parts.length}${upto === null ? "" : `&upto=${upto}`}`);
  ({ upto, total } = found);
  if (!found.items.length) total = parts.length;
  parts.push(...found.items);
}

// by: 1 is older, -1 newer. Of a picture that is not there any more, the newest.
export async function beside(id, by) {
  if (!parts.length) await more();
  for (;;) {
    const at = parts.findIndex((item) => item.id === id);
    const wanted = at < 0 ? (id === null ? 0 : null) : at + by;
    if (wanted !== null && wanted < parts.length) return parts[wanted] ?? null;
    if (parts.length >= total) return at < 0 ? parts[0] ?? null : null;
    await more();
  }
}
