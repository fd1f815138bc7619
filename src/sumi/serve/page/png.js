// A PNG of one channel of 8 bits, which a canvas cannot write: a map's numbers and a mask's levels as they are, not as colours.
// Source: Portable Network Graphics (PNG) Specification, third edition, W3C 2025; sections 5 and 7.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const GREY = 0;

const TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  let rest = number;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? 0xedb88320 ^ (rest >>> 1) : rest >>> 1;
  return rest;
});

/** The checksum of a chunk, as ISO 3309 has it. */
export function crc32(bytes) {
  let rest = 0xffffffff;
  for (const byte of bytes) rest = TABLE[(rest ^ byte) & 255] ^ (rest >>> 8);
  return (rest ^ 0xffffffff) >>> 0;
}

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(Uint8Array.from(name, (letter) => letter.charCodeAt(0)), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A Blob of the levels, row by row from the top; RangeError if there are not width times height of them. */
export async function grey(levels, width, height) {
  if (levels.length !== width * height) throw new RangeError(`${levels.length} levels are not ${width} by ${height}`);
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  [8, GREY, 0, 0, 0].forEach((byte, at) => header.setUint8(8 + at, byte)); // bits, colour, deflate, filters, not interlaced
  const rows = new Uint8Array((width + 1) * height); // each behind a byte that says: not filtered
  for (let y = 0; y < height; y++) rows.set(levels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const parts = [chunk("IHDR", new Uint8Array(header.buffer)), chunk("IDAT", await deflated(rows)), chunk("IEND", new Uint8Array(0))];
  return new Blob([Uint8Array.from(SIGNATURE), ...parts], { type: "image/png" });
}
