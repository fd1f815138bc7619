// The axes of a grid: lists of values read from text, and the request that each cell asks for. Nothing here knows of a page.

export const REPLACE = "replace";   // Words of the prompt: the first value is what is looked for, each value takes its place in turn.
export const SIZE = "size";         // Width and height at once.
export const MODEL = "model";       // No field of a request: it goes beside it.

const MOST = 1000;
const NUMBER = String.raw`[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?`;
const WHOLE = /^[+-]?\d+$/;
const ONE = new RegExp(`^${NUMBER}$`);
const RANGE = new RegExp(String.raw`^(${NUMBER})\s*-\s*(${NUMBER})\s*(?:\(\s*(${NUMBER})\s*\)|\[\s*(\d+)\s*\])?$`);

export class AxisError extends Error {}

// What stands between marks: [{mark: the one before it, text, quoted}].
function pieces(text) {
  const found = [{ mark: "", text: "", quoted: false }];
  let within = false;
  for (let i = 0; i < text.length; i++) {
    const last = found.at(-1), letter = text[i];
    if (within && letter !== '"') last.text += letter;
    else if (within && text[i + 1] === '"') last.text += text[i++];
    else if (within) within = false;
    else if (letter === '"' && !last.quoted && !last.text.trim()) {
      Object.assign(last, { text: "", quoted: true });
      within = true;
    } else if ("|,\n".includes(letter)) found.push({ mark: letter, text: "", quoted: false });
    else if (!last.quoted || letter.trim()) last.text += letter;
  }
  if (within) throw new AxisError("a quotation mark is not closed: close it, or double it where it is meant");
  return found;
}

// Between bars if there are any, else between commas or line ends; in what is "quoted" these are letters like others, and "" is a mark.
export function parts(text) {
  const groups = [], found = pieces(text);
  const bars = found.some(({ mark }) => mark === "|");
  for (const piece of found) {
    if (!groups.length || !bars || piece.mark === "|") groups.push([piece]);
    else groups.at(-1).push(piece);
  }
  return groups.map((group) => group.length === 1 && group[0].quoted ? group[0].text
    : group.map((piece, i) => (i ? piece.mark : "") + piece.text).join("").trim());
}

const exact = (x) => Number(x.toPrecision(12));   // 0.1 + 0.2 is 0.3 to anyone who asks for a grid.

function range(name, [, first, last, by, count], whole) {
  const [from, to] = [Number(first), Number(last)];
  if (whole && ![first, last, ...(by ? [by] : [])].every((x) => WHOLE.test(x))) throw new AxisError(`${name} takes whole numbers`);
  if (!Number.isSafeInteger(from) && whole || !Number.isSafeInteger(to) && whole)
    throw new AxisError(`numbers as large as ${last} stand in no range: write them one by one`);
  if (count !== undefined) {
    const many = Number(count);
    if (many < 1) throw new AxisError(`${first}-${last} [${count}] has no values: ask for one or more`);
    if (many > MOST) throw new AxisError(`${first}-${last} [${count}] are too many: at most ${MOST} on an axis`);
    const values = Array.from({ length: many }, (_, i) => exact(many === 1 ? from : from + (to - from) * i / (many - 1)));
    return whole ? values.map(Math.trunc) : values;
  }
  const way = to < from ? -1 : 1;
  const step = by === undefined ? way : /^[+-]/.test(by) ? Number(by) : way * Number(by);
  if (!step) throw new AxisError(`a step of 0 does not lead from ${first} to ${last}`);
  const instead = `${first}-${last} (${way < 0 ? "-" : "+"}${Math.abs(step)})`;
  if (to !== from && Math.sign(step) !== way)
    throw new AxisError(`a step of ${by} does not lead from ${first} to ${last}: write ${instead}`);
  const many = Math.floor((to - from) / step + 1e-9) + 1;
  if (many > MOST) throw new AxisError(`from ${first} to ${last} there are ${many} values: at most ${MOST} on an axis`);
  return Array.from({ length: many }, (_, i) => exact(from + step * i));
}

function checked(field, value) {
  const { name, low, high } = field;
  if (low !== undefined && low !== null && (value < low || value > high))
    throw new AxisError(`${name} is from ${low} to ${high}; got ${value}`);
  return value;
}

function number(field, text) {
  if (!ONE.test(text)) throw new AxisError(`${field.name} takes numbers; got ${text ? `“${text}”` : "nothing"}`);
  return checked(field, Number(text));
}

function whole(field, text) {
  if (!WHOLE.test(text)) throw new AxisError(`${field.name} takes whole numbers; got “${text}”`);
  const value = Number(text);
  checked(field, value);
  return Number.isSafeInteger(value) ? value : BigInt(text).toString();   // Seeds have 64 bits, numbers here 53: as text they lose nothing.
}

const READERS = {
  int: (field, text) => {
    const found = RANGE.exec(text);
    return found ? range(field.name, found, true).map((value) => checked(field, value)) : [whole(field, text)];
  },
  float: (field, text) => {
    const found = ONE.test(text) ? null : RANGE.exec(text);
    return found ? range(field.name, found, false).map((value) => checked(field, value)) : [number(field, text)];
  },
  bool: (field, text) => {
    const value = { true: true, yes: true, on: true, false: false, no: false, off: false }[text.toLowerCase()];
    if (value === undefined) throw new AxisError(`${field.name} is true or false; got “${text}”`);
    return [value];
  },
  tuple: (field, text) => {
    const numbers = text.split(",").map((part) => number(field, part.trim()));
    if (field.count && numbers.length !== field.count)
      throw new AxisError(`${field.name} is ${field.count} numbers, with bars between the values, as in 1,2|3,4; got “${text}”`);
    return [numbers];
  },
  dict: (field, text) => [Object.fromEntries(text.split(",").map((pair) => {
    const [key, value] = pair.split("=").map((part) => part.trim());
    if (!key || value === undefined) throw new AxisError(`${field.name} are names and numbers, as in order=2|order=3; got “${text}”`);
    return [key, number({ ...field, name: key }, value)];
  }))],
  size: (_, text) => {
    const found = /^(\d+)\s*[x×*]\s*(\d+)$/i.exec(text);
    if (!found) throw new AxisError(`a size is width x height, as in 64x64; got “${text}”`);
    return [`${Number(found[1])}x${Number(found[2])}`];
  },
  str: (field, text) => {
    if (!field.choices?.length) return [text];
    const found = field.choices.find((choice) => choice.toLowerCase() === text.toLowerCase());
    if (found === undefined) throw new AxisError(`there is no ${field.name} “${text}”: use ${field.choices.join(", ")}`);
    return [found];
  },
};

const asText = (value) => typeof value === "object" ? JSON.stringify(value) : String(value);

// The values that a text lists for a field, {name, type, low, high, choices, count}, each once, and how many were left out as repeated.
export function read(field, text) {
  if (!text.trim()) return { values: [], repeated: 0 };
  const texts = parts(text).filter((part) => part || field.type === "str");
  const all = texts.flatMap((part) => READERS[field.type](field, part));
  if (all.length > MOST) throw new AxisError(`${all.length} values are too many: at most ${MOST} on an axis`);
  const values = [...new Map(all.map((value) => [asText(value), value])).values()];
  return { values, repeated: all.length - values.length };
}

// As one would type it, so that reading it gives the value again.
export function written(value) {
  const text = Array.isArray(value) ? value.join(",")
    : typeof value === "object" ? Object.entries(value).map(([key, x]) => `${key}=${x}`).join(",") : String(value);
  return typeof value === "string" && (/[,|"\n]/.test(text) || text !== text.trim()) ? `"${text.replaceAll('"', '""')}"` : text;
}

// A text that `read` reads as these values.
export function listed(values) {
  const whole = values.some((value) => typeof value === "object");
  return values.map(written).join(whole ? " | " : ", ") + (whole && values.length === 1 ? " |" : "");
}

// What stands at the edge: [name, value], the name empty where the value says enough.
export function heading(name, value) {
  const said = typeof value === "string" ? value : written(value);
  return [[REPLACE, MODEL, "prompt", "sampler", "spacing", "label"].includes(name) ? "" : name.replaceAll("_", " "), said || "(nothing)"];
}

// The request, and the model beside it, of a cell: fields first, words of the prompt after, in the order x, y, z.
function asked(base, chosen) {
  const request = { ...base.request };
  let model = base.model;
  for (const [{ name }, value] of chosen) {
    if (name === MODEL) model = value;
    else if (name === SIZE) [request.width, request.height] = value.split("x").map(Number);
    else if (name !== REPLACE) request[name] = value;
  }
  for (const [{ name, values: [sought] }, value] of chosen) {
    if (name !== REPLACE) continue;
    if (!sought || !(request.prompt ?? "").includes(sought))
      throw new AxisError(`the prompt does not say “${sought}”, which is to be replaced: begin the list with a part of it`);
    request.prompt = request.prompt.replaceAll(sought, () => value);
  }
  if (request.variation && (request.variation_seed ?? null) === null) request.variation_seed = base.varied;
  return { request, model };
}

// Every cell of a grid, [{place: [x, y, z], request, model}], x fastest. axes: three {name, values}, null where there is none.
// base: {request, model, varied}: what all share; varied is the seed of variations where the request has none.
export function cells(base, axes) {
  const fields = axes.flatMap((axis) => !axis || axis.name === REPLACE ? [] : axis.name === SIZE ? ["width", "height"] : [axis.name]);
  const twice = fields.find((name, i) => fields.indexOf(name) !== i);
  if (twice) throw new AxisError(`${twice} is on two axes: leave one of them out`);
  const [xs, ys, zs] = axes.map((axis) => axis ? [...axis.values.keys()] : [0]);
  const places = zs.flatMap((z) => ys.flatMap((y) => xs.map((x) => [x, y, z])));
  return places.map((place) => ({
    place, ...asked(base, axes.flatMap((axis, i) => axis ? [[axis, axis.values[place[i]]]] : [])),
  }));
}
