// What is done to pictures that exist: starred, removed, restored. Told to every part of the page, and to its other tabs.
import { api } from "./api.js";
import { say } from "./dom.js";

// "change": {kind: "starred" | "removed" | "restored", items}, when it is done.
export const pictures = new EventTarget();

const tabs = new BroadcastChannel("sumi-pictures");
tabs.onmessage = ({ data }) => pictures.dispatchEvent(new CustomEvent("change", { detail: data }));

export const STAR = "M8 1.6l2 4.1 4.5.6-3.3 3.2.8 4.5L8 11.9 4 14l.8-4.5L1.5 6.3 6 5.7z";
export const address = (item, part = "") => `/v1/pictures/${item.id}${part}`;
export const several = (n) => n === 1 ? "1 picture" : `${n.toLocaleString("en")} pictures`;

// Each of them, whichever fail: what failed is said once.
async function each(items, act, kind) {
  const done = [], failed = [];
  const results = await Promise.allSettled(items.map(act));
  results.forEach(({ status, value, reason }, i) => {
    if (status === "fulfilled") done.push(value ?? items[i]);
    else failed.push(reason);
  });
  if (done.length) {
    const detail = { kind, items: done };
    pictures.dispatchEvent(new CustomEvent("change", { detail }));
    tabs.postMessage(detail);
  }
  if (failed.length) {
    const count = items.length > 1 ? `${failed.length} of ${several(items.length)}: ` : "";
    say(`${count}${failed[0].message}`, { kind: "error" });
  }
  return done;
}

export function star(items, on) {
  return each(items, (item) => on ? api.put(address(item, "/star")) : api.del(address(item, "/star")), "starred");
}

export async function remove(items) {
  const gone = await each(items, async (item) => { await api.del(address(item)); }, "removed");
  if (gone.length) say(`${several(gone.length)} removed`, { action: { label: "Undo", run: () => restore(gone) } });
}

export const restore = (items) => each(items, (item) => api.post(address(item, "/restore"), {}), "restored");

// To the folder that the browser saves in, one after the other: of many at once it lets only the first through.
export async function download(items) {
  for (const item of items) {
    const link = document.createElement("a");
    Object.assign(link, { href: address(item), download: `sumi-${item.number}.png` });
    link.click();
    if (items.length > 1) await new Promise((done) => setTimeout(done, 150));
  }
}
