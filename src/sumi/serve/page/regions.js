// What hangs together in a map, and where a name for it would stand: at the pixel that is farthest from its border.

/** Regions {value, x, y, reach, size}: the middle of that pixel, how far its border is, and how many pixels there are. */
export function regions(bytes, width, height, least = 1) {
  const reach = distances(bytes, width, height), seen = new Uint8Array(bytes.length), found = [];
  for (let start = 0; start < bytes.length; start++) {
    if (seen[start]) continue;
    const value = bytes[start], open = [start];
    let size = 0, best = start;
    seen[start] = 1;
    while (open.length) {
      const at = open.pop(), x = at % width;
      size++;
      if (reach[at] > reach[best]) best = at;
      for (const next of [x > 0 ? at - 1 : -1, x < width - 1 ? at + 1 : -1, at - width, at + width]) {
        if (next < 0 || next >= bytes.length || seen[next] || bytes[next] !== value) continue;
        seen[next] = 1;
        open.push(next);
      }
    }
    if (size >= least) found.push({ value, x: best % width + 0.5, y: Math.floor(best / width) + 0.5, reach: reach[best], size });
  }
  return found;
}

// How many pixels each is from one of another value, or from the edge; steps to all eight neighbours count one.
function distances(bytes, width, height) {
  const far = new Float32Array(bytes.length);
  const nearer = (at, x, y, sides) => {
    let least = Infinity;
    for (const [dx, dy] of sides) {
      const beyond = x + dx < 0 || x + dx >= width || y + dy < 0 || y + dy >= height, other = at + dy * width + dx;
      least = Math.min(least, beyond || bytes[other] !== bytes[at] ? 0 : far[other]);
    }
    return least + 1;
  };
  const before = [[-1, 0], [-1, -1], [0, -1], [1, -1]], after = before.map(([dx, dy]) => [-dx, -dy]);
  for (let at = 0; at < bytes.length; at++) far[at] = nearer(at, at % width, Math.floor(at / width), before);
  for (let at = bytes.length - 1; at >= 0; at--) far[at] = Math.min(far[at], nearer(at, at % width, Math.floor(at / width), after));
  return far;
}
