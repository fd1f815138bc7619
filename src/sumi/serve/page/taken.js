// Pictures that a person gives: from a file, the clipboard or the gallery, to pixels of the size that a model draws.
//   A Taken is {blob, name, width, height}: the bytes as they came, and the size in which they show.

import { api } from "./api.js";

const KINDS = ["image/png", "image/jpeg", "image/webp"];

/** The picture that a Blob is. Error if it is none that the server takes. */
export async function taken(blob, name = "picture") {
  if (!KINDS.includes(blob.type)) throw new Error(`${name} is not a PNG, JPEG or WebP picture: save it as one of these`);
  try {
    const bitmap = await createImageBitmap(blob);
    const { width, height } = bitmap;
    bitmap.close();
    return { blob, name, width, height };
  } catch {
    throw new Error(`${name} cannot be read as a picture: it may be damaged or cut short`);
  }
}

/** The picture at an address of the server. */
export async function fetched(url, name) {
  let reply = null;
  try {
    reply = await fetch(url);
  } catch {
    throw new Error("sumi cannot be reached: is it still running?");
  }
  if (!reply.ok) throw new Error(`${name} is not there any more: choose another picture`);
  return taken(await reply.blob(), name);
}

/** What "studio:start-from" tells of: a picture of the gallery, or something uploaded. */
export function started({ picture = null, uploadId = null }) {
  return picture ? fetched(`/v1/pictures/${picture.id}`, "this picture") : brought(uploadId);
}

/** What the server calls by that id. */
export const brought = (id) => fetched(`/v1/uploads/${id.replace("upload:", "")}`, "this picture");

/** The first picture among what was dropped or pasted, as a File; null if there is none. */
export function among(transfer) {
  return [...transfer?.files ?? []].find(({ type }) => type.startsWith("image/")) ?? null;
}

/**
 * The size nearest to a picture's own that a model draws: multiples, and of at most `area` pixels if that is a number.
 * As the server has it.
 */
export function nearest(width, height, multiple, area = null) {
  const scale = area === null ? 1 : Math.min(1, Math.sqrt(area / (width * height)));
  const sides = [height, width].map((side) => Math.max(1, Math.floor(side * scale / multiple + 0.5)));
  while (area !== null && sides[0] * sides[1] * multiple ** 2 > area && Math.max(...sides) > 1) {
    // The side that was rounded up the most loses a multiple.
    const excess = sides.map((whole, i) => whole > 1 ? whole * multiple / ([height, width][i] * scale) : 0);
    sides[excess[0] >= excess[1] ? 0 : 1]--;
  }
  return { width: sides[1] * multiple, height: sides[0] * multiple };
}

/** A canvas of that size, filled with the picture and cropped in the middle; transparency shows white. */
export async function fitted({ blob }, width, height) {
  const bitmap = await createImageBitmap(blob);
  const canvas = Object.assign(document.createElement("canvas"), { width, height }), context = canvas.getContext("2d");
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const wide = bitmap.width * scale, high = bitmap.height * scale;
  context.drawImage(bitmap, (width - wide) / 2, (height - high) / 2, wide, high);
  bitmap.close();
  return canvas;
}

export const pngOf = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

const uploads = new WeakMap(); // of each Blob, what the server calls it

/** Brings a picture to the server, once; gives its id. */
export function uploaded(blob) {
  if (!uploads.has(blob)) {
    const bringing = api.upload(blob).then(({ id }) => id);
    uploads.set(blob, bringing);
    bringing.catch(() => uploads.delete(blob));
  }
  return uploads.get(blob);
}
