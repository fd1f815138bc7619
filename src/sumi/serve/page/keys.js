// Keys that do things anywhere in the page.
//   key(combo, label, run, {when}): "Ctrl+Enter" (Command on a Mac), "Escape", "Alt+ArrowLeft", "?", "i"; label is what the list of them
//     says, "picture: nearer" under a heading of its own; null: it is not listed.
//     While one types, only those with Ctrl or Alt, and Escape, count. Without a `when` they rest while a dialog is open.
//     Of several for one combo the last whose when() holds is run; run may return false to leave the key to whoever is next.
//   keys() -> [{combo, label}], as told in the list; -> removes: key() returns a function that takes it away again

const known = [];
const MAC = /Mac|iP(hone|ad)/.test(navigator.platform);

export function key(combo, label, run, { when = null } = {}) {
  const parts = combo.split("+");
  const pressed = parts.pop() || "+", [ctrl, alt, shift] = ["Ctrl", "Alt", "Shift"].map((name) => parts.includes(name));
  const entry = { combo, label, run, when, key: pressed, ctrl, alt, shift };
  known.push(entry);
  return () => { known.splice(known.indexOf(entry), 1); };
}

export const keys = () => {
  const told = new Map();
  const here = (combo) => MAC ? combo.replace("Ctrl", "⌘").replace("Alt", "⌥") : combo;
  for (const { combo, label } of known) if (label) told.set(`${combo} ${label}`, { combo: here(combo), label });
  return [...told.values()];
};

const typing = (target) => target instanceof Element && (target.isContentEditable
  || target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=button], [type=range], [type=file], [type=color])"));

function matches(entry, event) {
  const letter = entry.key.length === 1;
  if (letter ? event.key.toLowerCase() !== entry.key.toLowerCase() : event.key !== entry.key) return false;
  if (entry.ctrl !== (event.ctrlKey || event.metaKey) || entry.alt !== event.altKey) return false;
  return entry.shift === event.shiftKey || (letter && !/[a-z]/i.test(entry.key));
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing) return;
  const busy = typing(event.target), dialog = document.querySelector("dialog[open]");
  for (const entry of known.toReversed()) {
    if (!matches(entry, event)) continue;
    if (busy && !entry.ctrl && !entry.alt && entry.key !== "Escape") continue;
    if (entry.when ? !entry.when() : dialog) continue;
    if (entry.run(event) === false) continue;
    event.preventDefault();
    return;
  }
});
