// Weights of words, as they are typed: (words:1.1).
//   weigh(text, start, end, by) -> {from, to, made, start, end} or null: what to put in place of text[from:to] so that what is selected
//     weighs that much more, and what to select then. Without a selection it is the word at the place.
//   moved(words, before, after) -> the words where they are after an edit: those that it touched are left out

const rounded = (weight) => Number(Math.max(weight, 0).toFixed(2));

// The innermost brackets around a selection, or of which it is the whole.
function brackets(text, start, end) {
  const open = [];
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "(") open.push(at);
    else if (text[at] === ")" && open.length) {
      const from = open.pop();
      if (from <= start && at + 1 >= end && (start > from || end > start) && (at >= end || from === start)) {
        const [, inner, weight] = /^(.*?)(?::\s*(\d*\.?\d+)\s*)?$/s.exec(text.slice(from + 1, at));
        return { from, to: at + 1, inner, weight: weight === undefined ? 1.1 : Number(weight) };
      }
    }
  }
  return null;
}

export function weigh(text, start, end, by) {
  const around = brackets(text, start, end);
  if (around) {
    const { from, to, inner } = around, weight = rounded(around.weight + by);
    const made = weight === 1 ? inner : `(${inner}:${weight})`;
    const first = from + (weight === 1 ? 0 : 1);
    return { from, to, made, start: first, end: first + inner.length };
  }
  const apart = /[\s,()[\]|:\\]/;
  if (start === end) {
    while (start > 0 && !apart.test(text[start - 1])) start--;
    while (end < text.length && !apart.test(text[end])) end++;
  }
  while (start < end && /\s/.test(text[start])) start++;
  while (start < end && /\s/.test(text[end - 1])) end--;
  if (start === end) return null;
  const inner = text.slice(start, end);
  return { from: start, to: end, made: `(${inner}:${rounded(1 + by)})`, start: start + 1, end: start + 1 + inner.length };
}

export function moved(words, before, after) {
  const most = Math.min(before.length, after.length);
  let head = 0, tail = 0;
  while (head < most && before[head] === after[head]) head++;
  while (tail < most - head && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  const shift = after.length - before.length;
  return words.flatMap((word) => {
    if (word.end <= head) return [word];
    return word.start >= before.length - tail ? [{ ...word, start: word.start + shift, end: word.end + shift }] : [];
  });
}
