// The page of a run. `story` is what sumi.explain.page wrote: see Story there for what is in it.
"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const story = JSON.parse($("story").textContent);
const { steps, words, layers, size: [width, height] } = story;
const last = steps.length - 1;
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

let now = 0;          // the present step, from 0
let playing = null;   // the timer, while it plays
let pinned = null;    // the word that stays lit
let pointed = null;   // the word under the pointer or in focus

// Numbers from 0, by three digits.
function told(x) {
  if (Number.isInteger(x) && x < 1000) return String(x);
  return x >= 1000 ? Math.round(x).toLocaleString("en") : x < 1e-3 ? x.toExponential(1).replace("-", "−") : x.toPrecision(3);
}
const exact = (x) => String(Number(x.toPrecision(3)));
function percent(share) {
  const x = 100 * share;
  const number = x > 99.95 && x < 100 ? "over 99.9" : x < 0.05 && x > 0 ? "under 0.1" : x.toFixed(x > 0 && x < 10 || x > 90 && x < 100 ? 1 : 0);
  return `${number} %`;
}
function make(name, properties = {}, ...inside) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...inside);
  return element;
}
function draw(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// Attention: [h w] for each step, layer and word, 8 bits each.
function cells(step, layer, word) {
  const { most, cells } = steps[step].attention[layer][word];
  return Float32Array.from(atob(cells), (character) => character.charCodeAt(0) * most / 255);
}
// Between the middles of four cells, by how near they are; beyond the outermost middles as there.
function scaled(source, [w, h], [W, H]) {
  const result = new Float32Array(W * H);
  const places = (n, N) => Array.from({ length: N }, (_, i) => {
    const at = Math.min(Math.max((i + 0.5) * n / N - 0.5, 0), n - 1);
    const low = Math.floor(at);
    return [low, Math.min(low + 1, n - 1), at - low];
  });
  const across = places(w, W);
  places(h, H).forEach(([top, bottom, down], y) => across.forEach(([left, right, over], x) => {
    const upper = source[top * w + left] * (1 - over) + source[top * w + right] * over;
    const lower = source[bottom * w + left] * (1 - over) + source[bottom * w + right] * over;
    result[y * W + x] = upper * (1 - down) + lower * down;
  }));
  return result;
}
// What is dark and what is brightest.
function scale(layer, word) {
  const against = $("against").value;
  const among = against === "step" ? [steps[now]] : steps;
  const maps = among.flatMap(({ attention }) => against === "all" ? attention[layer] : [attention[layer][word]]);
  const bright = maps.reduce((a, { most }) => Math.max(a, most), 0);
  return [against === "all" ? 0 : maps.reduce((a, { least }) => Math.min(a, least), bright), bright];
}

// Heat: from nothing over the red of the seal to the yellow of a lamp. Little of it stays clear, so that the picture can be seen.
const HEAT = [[168, 28, 16], [242, 116, 34], [255, 238, 170]];
function heat() {
  const canvas = $("heat"), context = canvas.getContext("2d");
  const word = pointed ?? pinned;
  $("lit").classList.toggle("dim", word !== null);
  [...$("words").children].forEach((button, i) => button.classList.toggle("lit", i === word));
  $("scale").style.visibility = word === null ? "hidden" : "visible";
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (word === null) {
    canvas.setAttribute("aria-label", "nothing is lit");
    $("told").textContent = "Choose a word to see where the picture looks at it.";
    return;
  }
  const layer = Number($("layer").value);
  const [dark, bright] = scale(layer, word);
  const values = scaled(cells(now, layer, word), layers[layer].size, [canvas.width, canvas.height]);
  const image = context.createImageData(canvas.width, canvas.height);
  values.forEach((value, at) => {
    const share = bright > dark ? Math.min(Math.max((value - dark) / (bright - dark), 0), 1) : 0;
    const [from, to, part] = share < 0.5 ? [HEAT[0], HEAT[1], share * 2] : [HEAT[1], HEAT[2], share * 2 - 1];
    for (let i = 0; i < 3; i++) image.data[4 * at + i] = from[i] + (to[i] - from[i]) * part;
    image.data[4 * at + 3] = 255 * 0.88 * share ** 1.4;
  });
  context.putImageData(image, 0, 0);
  const { text, weight, pieces } = words[word];
  const part = `at most ${percent(steps[now].attention[layer][word].most)} of a cell’s look in this step`;
  const facts = [pieces, weight === 1 ? "" : `weight ${exact(weight)}`, part];
  $("told").replaceChildren(make("b", { textContent: text }), ` · ${facts.filter(Boolean).join(" · ")}`);
  $("least").textContent = percent(dark);
  $("most").textContent = percent(bright);
  canvas.setAttribute("aria-label", `where the picture looks at ${text}, in step ${now + 1}`);
}

// The curve of noise levels. Picture and noise are cos and sin of an angle, arctan sigma: by that, neither 0 nor infinity is out of sight.
const sigmas = [...steps.map(({ sigma }) => sigma), steps[last].after];
const LEFT = 30, RIGHT = 308, TOP = 14, BOTTOM = 196;
const across = (i) => LEFT + (RIGHT - LEFT) * i / (last + 1);
const up = (sigma) => BOTTOM - (BOTTOM - TOP) * Math.atan(sigma) / (Math.PI / 2);
function curve() {
  const svg = $("sigmas");
  for (const sigma of [0, 0.2, 0.5, 1, 2, 5, Infinity]) {
    svg.append(draw("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: up(sigma), y2: up(sigma) }));
    svg.append(draw("text", { x: LEFT - 7, y: up(sigma) + 3.5, "text-anchor": "end" }, sigma === Infinity ? "∞" : sigma));
  }
  svg.append(draw("text", { x: LEFT, y: 213 }, "first step"), draw("text", { x: RIGHT, y: 213, "text-anchor": "end" }, "picture"));
  svg.append(draw("polyline", { class: "path", points: sigmas.map((sigma, i) => `${across(i)},${up(sigma)}`).join(" ") }));
  if (sigmas.length <= 60) sigmas.forEach((sigma, i) => svg.append(draw("circle", { class: "dot", cx: across(i), cy: up(sigma), r: 2 })));
  svg.append(draw("line", { class: "hair", id: "hair", y2: BOTTOM }), draw("circle", { class: "here", id: "here", r: 6 }));
  svg.append(draw("text", { class: "value", id: "value" }));
}
function mark(sigma) {
  const x = across(now), y = up(sigma), left = x > 240;
  const put = (id, attributes) => Object.entries(attributes).forEach(([key, value]) => $(id).setAttribute(key, value));
  put("hair", { x1: x, x2: x, y1: y });
  put("here", { cx: x, cy: y });
  put("value", { x: x + (left ? 4 : 10), y: y < 40 ? y + 16 : y - 9, "text-anchor": left ? "end" : "start" });
  $("value").textContent = `σ ${told(sigma)}`;
  const ends = `from ${told(sigmas[0])} to ${told(steps[last].after)} in ${last + 1} steps`;
  $("sigmas").setAttribute("aria-label", `Noise levels ${ends}; now ${told(sigma)}.`);
}

function show(step) {
  now = Math.min(Math.max(step, 0), last);
  const { sigma, after, t, seconds, noised, expected, noise, added, scale: by } = steps[now];
  $("noised").src = noised;
  $("expected").src = expected;
  $("noise").src = noise;
  $("added").style.visibility = added ? "visible" : "hidden";
  $("unguided").hidden = added !== null;
  if (added) $("added").src = added;
  const alpha = 1 / (1 + sigma * sigma);
  $("share").textContent = `${percent(alpha)} picture, ${percent(1 - alpha)} noise`;
  $("share").style.setProperty("--picture", `${100 * alpha}%`);
  $("step").value = now + 1;
  $("step").style.setProperty("--done", `${last ? 100 * now / last : 0}%`);
  $("step").setAttribute("aria-valuetext", `${now + 1} of ${last + 1}, sigma ${told(sigma)}`);
  $("at").textContent = now + 1;
  $("sigma").textContent = told(sigma);
  $("after").textContent = told(after);
  $("time").textContent = told(Math.round(10 * t) / 10);
  $("seconds").textContent = seconds.toFixed(seconds < 0.1 ? 3 : seconds < 10 ? 2 : 1);
  document.querySelectorAll(".signal").forEach((place) => { place.textContent = told(Math.sqrt(alpha)); });
  document.querySelectorAll(".drown").forEach((place) => { place.textContent = told(sigma * Math.sqrt(alpha)); });
  $("guided").style.display = added && by !== null ? "" : "none";
  if (by !== null) $("by").textContent = exact(by);
  $("alone").style.display = added ? "none" : "";
  $("taken").textContent = told(1 - after / sigma);
  $("kept").textContent = told(after / sigma);
  mark(sigma);
  document.querySelector("#strip [aria-current]")?.removeAttribute("aria-current");
  document.querySelectorAll("#strip button")[now].setAttribute("aria-current", "step");
  if (layers.length) heat();
}

function stop() {
  clearTimeout(playing);
  playing = null;
  $("does").textContent = "Play";
  $("sign").setAttribute("d", "M3 1l11 7-11 7z");
}
// All of it in some eight seconds, whatever the number of steps; again from the first when it stands at the last.
const pace = Math.min(Math.max(8000 / (last + 1), 90), 700);
function play() {
  if (now === last) show(0);
  $("does").textContent = "Pause";
  $("sign").setAttribute("d", "M2 1h4v14H2zM10 1h4v14h-4z");
  const next = () => {
    show(now + 1);
    if (now === last) stop();
    else playing = setTimeout(next, pace);
  };
  playing = setTimeout(next, pace);
}
function go(step) {
  stop();
  show(step);
}

// What stays as it is.
document.body.classList.toggle("crisp", Math.min(width, height) < 256);
for (const id of ["noised", "expected", "noise", "added"]) Object.assign($(id), { width, height });
const enlargement = 256 / Math.max(width, height);
Object.assign($("heat"), { width: Math.round(width * enlargement), height: Math.round(height * enlargement) });
$("of").textContent = last + 1;
$("step").max = last + 1;
$("guiding").hidden = steps.every(({ added }) => added === null);
curve();
steps.forEach(({ expected }, i) => {
  const picture = make("img", { src: expected, alt: "step ", width, height, decoding: "async" });
  $("strip").append(make("li", {}, make("button", { type: "button", onclick: () => go(i) }, picture, String(i + 1))));
});
const result = make("img", { src: story.picture, alt: "", width, height });
$("strip").append(make("li", {}, make("figure", {}, result, make("figcaption", { textContent: "picture" }))));

// The prompt: the words as they were taken, as buttons where there are maps; above them as it was asked for, unless that says the same.
const plain = (text) => text.toLowerCase().replace(/[\s,.]+/g, "");
if (words.length) $("title").className = plain(words.map(({ text }) => text).join("")) === plain(story.title) ? "told" : "asked";
const length = words.reduce((sum, { text }) => sum + text.length + 1, 0);
$("words").className = length > 260 ? "endless" : length > 90 ? "long" : "";
words.forEach(({ text, weight, pieces }, i) => {
  const word = make(layers.length ? "button" : "span", { title: pieces, textContent: text });
  if (weight !== 1) word.append(make("sup", { textContent: `×${exact(weight)}` }));
  $("words").append(word, " ");
  if (!layers.length) return;
  word.type = "button";
  word.setAttribute("aria-pressed", "false");
  word.onpointerenter = word.onfocus = () => { pointed = i; heat(); };
  word.onpointerleave = word.onblur = () => { pointed = null; heat(); };
  word.onclick = () => pin(pinned === i ? null : i);
});
function pin(word) {
  pinned = word;
  if (word === null) pointed = null;
  [...$("words").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === word)));
  heat();
}
$("looking").hidden = !layers.length || !words.length;
layers.forEach(({ name, size }, i) => $("layer").append(make("option", { value: i, textContent: `${name} (${size[0]} × ${size[1]})` })));
$("layer").onchange = heat;
$("against").onchange = heat;

$("step").oninput = () => go(Number($("step").value) - 1);
$("play").onclick = () => playing === null ? play() : stop();
addEventListener("keydown", (event) => {
  const place = event.target.tagName;
  if (event.altKey || event.ctrlKey || event.metaKey || place === "INPUT" || place === "SELECT") return;
  const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
  if (to !== undefined) go(to);
  else if (event.key === "Escape" && (pinned !== null || parent === window)) { if (layers.length) pin(null); }
  else if (event.key === "Escape") parent.postMessage("sumi:close", "*");  // whoever shows it in a frame may close it
  else if (event.key === " " && place !== "BUTTON") $("play").click();
  else return;
  event.preventDefault();
});

stop();
show(0);
if (!still && last) play();
})();
