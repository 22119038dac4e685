/** The review page: puts list, film, tools, saves and server together. */

import * as server from "./server.js";
import { Cache } from "./cache.js";
import { actionOf, element, makeHelp, makeToolbar } from "./keys.js";
import { List, order, STATES } from "./list.js";
import { SaveQueue } from "./saves.js";
import { Store } from "./store.js";
import { Viewer } from "./viewer.js";

const REASONS = [
  "Not a frontal chest film",
  "Lungs are cut off",
  "Too dark, too bright or blurred",
  "Turned or mirrored",
  "Disease hides the borders",
  "A second film of the same examination",
];
const POLL = 2000; // ms
const AHEAD = 3; // films fetched before they are asked for

/** Each element with an id. */
const $ = Object.fromEntries([...document.querySelectorAll("[id]")].map((e) => [e.id, e]));
const films = new Map();
let review = {};
let shown = []; // films in the list, in its order
let current = null; // id
let entry = null; // of the cache, once the film is there
let wantedSlice = 0;
let compares = false;
let failure = ""; // why the film is not shown
let store, queue, cache;

function say(text) {
  $.live.textContent = $.live.textContent === text ? `${text}\u00a0` : text;
}

const viewer = new Viewer($.viewer, {
  edited: (z) => save(z),
  scroll: (steps) => showSlice(wantedSlice + steps),
  changed: () => showControls(),
  say,
});

const list = new List($.list, {
  open(id, picked) {
    open(id);
    if (picked) toggleList(false);
  },
  thumbnail: server.thumbnail,
  unsaved: (id) => Boolean(queue?.has(id)),
});

// Films and slices

/** Opens a film; `began` is when it was asked for. */
async function open(id, began = performance.now()) {
  viewer.escape();
  current = id;
  entry = null;
  failure = "";
  const film = films.get(id);
  list.select(id);
  if (!film.ready || film.error) {
    viewer.clear();
    showFilm();
    // The server puts what is asked for before the rest of the list.
    if (!film.error) server.film(id).then((info) => merge([info]), () => {});
    return;
  }
  try {
    let opened = cache.open(film);
    if (opened instanceof Promise) opened = await opened;
    const z = opened.info.first_slice ?? 0;
    let slice = cache.slice(film, opened, z);
    if (slice instanceof Promise) slice = await slice;
    if (current !== id) return;
    if (slice.revision < film.revision && !queue.has(id)) {
      cache.drop(id); // another window was here since it was fetched
      film.revision = slice.revision;
      return open(id, began);
    }
    entry = opened;
    wantedSlice = z;
    cache.shown = id;
    place(film, slice, z, true);
    requestAnimationFrame(() => {
      performance.measure("next-film", { start: began, end: performance.now() });
    });
    showFilm();
    say(`${film.name}. ${$.about.textContent}. ${film.warnings.join(". ")}`);
    cache.prefetch(following(AHEAD)).catch(() => {});
  } catch (error) {
    if (current !== id) return;
    viewer.clear();
    failure = `This film did not come: ${error.message}.`;
    showFilm();
  }
}

function place(film, slice, z, isNew) {
  if (!queue.has(film.id)) film.seen = slice.revision;
  cache.shownSlice = z;
  viewer.show(entry.info, slice, entry.history, z, isNew);
  if (compares || queue.conflictOf(film.id)) compare(film, slice, z);
}

/** Shows another slice of the volume, and fetches those that follow. */
async function showSlice(z) {
  if (!entry || entry.info.slices < 2) return;
  const opened = entry;
  const film = films.get(current);
  const step = Math.sign(z - wantedSlice) || 1;
  wantedSlice = Math.min(Math.max(z, 0), entry.info.slices - 1);
  const wanted = wantedSlice;
  showControls();
  let slice = cache.slice(film, entry, wanted);
  try {
    if (slice instanceof Promise) slice = await slice;
  } catch (error) {
    say(`The slice did not come: ${error.message}`);
    return;
  }
  if (entry !== opened || wantedSlice !== wanted) return;
  place(film, slice, wanted, false);
  for (let ahead = 1; ahead <= 4; ahead++) {
    const next = wanted + step * ahead;
    if (next >= 0 && next < entry.info.slices) cache.slice(film, entry, next);
  }
}

/** Returns the next films that nobody has looked at, from the one shown on. */
function following(count) {
  const at = shown.findIndex((film) => film.id === current);
  const turned = [...shown.slice(at + 1), ...shown.slice(0, Math.max(at, 0))];
  const open = turned.filter((film) => film.state === "open" && film.ready && !film.error);
  return open.slice(0, count);
}

function step(by) {
  const at = shown.findIndex((film) => film.id === current);
  const next = shown[at + by];
  if (next) open(next.id);
  else say(by > 0 ? "This is the last film" : "This is the first film");
}

/** Shows the model's first mask or the given one as a second outline, or the other window's. */
async function compare(film, slice, z) {
  const conflict = queue.conflictOf(film.id);
  const which = conflict ? "current" : review.has_given ? "given" : "first";
  try {
    const { buffer } = await server.layer(film.id, "mask", z, which);
    if (viewer.slice !== slice) return;
    slice.other = compares || conflict ? new Uint8Array(buffer) : null;
    viewer.redraw();
    showFilm();
  } catch (error) {
    say(`No mask to compare with: ${error.message}`);
  }
}

// Saves and verdicts

function save(z) {
  const film = films.get(current);
  film.state = "corrected";
  queue.mask(film, z, viewer.slice.mask);
  refresh();
  showFilm();
}

function verdict(word, reason = "") {
  const film = films.get(current);
  if (!film || (word !== "reject" && !film.ready)) return;
  viewer.escape();
  const began = performance.now();
  const states = { accept: film.state === "corrected" ? "corrected" : "accepted", reject: "rejected" };
  const [next] = following(1);
  film.state = states[word] ?? "open";
  film.reason = reason;
  film.seen ??= film.revision;
  queue.verdict(film, word, reason);
  refresh();
  if (word !== "reopen" && next) return open(next.id, began);
  showFilm();
  say(word === "reopen" ? `${film.name} is open again` : "All films that are ready are looked at");
}

/** Undo and redo go to the slice of their step first. */
async function travel(back) {
  if (!entry || viewer.escape()) return;
  const steps = back ? entry.history.done : entry.history.undone;
  if (!steps.length) return say(back ? "Nothing to undo" : "Nothing to redo");
  const { slice } = steps.at(-1);
  const opened = entry;
  if (viewer.z !== slice) await showSlice(slice);
  if (entry !== opened || viewer.z !== slice) return;
  viewer.applyStep(back ? entry.history.undo() : entry.history.redo());
  say(back ? "Undone" : "Done again");
}

async function firstMask() {
  if (!entry) return;
  const { slice } = viewer;
  try {
    const { buffer } = await server.layer(current, "mask", viewer.z, "first");
    if (viewer.slice !== slice) return;
    viewer.change((mask, width, height) => {
      mask.set(new Uint8Array(buffer));
      return { x0: 0, y0: 0, x1: width, y1: height };
    });
    say("This is the model's mask");
  } catch (error) {
    say(`The model's mask did not come: ${error.message}`);
  }
}

function resolve(keep) {
  const film = films.get(current);
  queue.resolve(film, keep);
  if (viewer.slice) viewer.slice.other = null;
  if (!keep) cache.drop(film.id);
  say(keep ? "Your mask goes over the other one" : "The other window's mask is loaded");
  if (!keep) open(film.id);
  else {
    showFilm();
    viewer.redraw();
  }
  $.viewer.focus();
}

let lastState = "saved";

function showSaving() {
  const { state } = queue;
  const texts = {
    saved: "Saved",
    saving: "Saving…",
    away: "Not saved yet: the server is away",
    conflict: "Changed in two windows: decide",
  };
  $.saving.dataset.state = state;
  $.saving.textContent = texts[state];
  if (state !== lastState && (state !== "saving") && (state !== "saved" || lastState === "away")) {
    say(state === "away" ? `${texts.away}. It is kept in this browser and sent again` : texts[state]);
  }
  if (state !== "saving") lastState = state;
  list.draw();
}

function onSaved(film, answer) {
  film.state = answer.state;
  film.revision = Math.max(film.revision, answer.revision);
  for (const slice of cache.entries.get(film.id)?.slices.values() ?? []) {
    if (slice.pixels) slice.revision = answer.revision;
  }
  refresh();
  if (film.id === current) showFilm();
}

function onConflict(film) {
  showSaving();
  if (film.id !== current || !viewer.slice) return;
  showFilm();
  compare(film, viewer.slice, viewer.z);
  $.conflict.focus();
}

// What is on the page

/** Says why there is no film to see; "" where there is one. */
function showEmpty(words) {
  $.empty.textContent = words;
  $.empty.hidden = !words;
}

function refresh() {
  const text = $.search.value.trim().toLowerCase();
  const filter = $.filter.value;
  shown = order([...films.values()]).filter((film) => {
    if (text && !film.name.toLowerCase().includes(text)) return false;
    if (!filter || film.id === current) return true;
    return filter === "warned" ? film.error || film.warnings.length : film.state === filter;
  });
  list.set(shown, current);
  $.none.hidden = shown.length > 0;
  const looked = [...films.values()].filter((film) => film.state !== "open").length;
  $.count.textContent = `${looked} of ${films.size} looked at`;
  $.progress.max = films.size || 1;
  $.progress.value = looked;
}

function showFilm() {
  const film = films.get(current);
  if (!film) return;
  const at = shown.indexOf(film);
  $.name.textContent = film.name;
  document.title = `${film.name} · jaxlung view`;
  const parts = [STATES[film.state], at >= 0 && `${at + 1} of ${shown.length}`];
  if (film.state === "rejected" && film.reason) parts.push(film.reason);
  if (film.width) parts.push(`${film.width} × ${film.height}`);
  if (film.confidence !== null) parts.push(`confidence ${film.confidence.toFixed(2)}`);
  if (film.given_dice !== null) parts.push(`Dice to the given mask ${film.given_dice.toFixed(2)}`);
  $.about.textContent = parts.filter(Boolean).join(" · ");
  $.head.dataset.state = film.state;
  $.warnings.replaceChildren(...film.warnings.map((words) => element("li", {}, words)));
  const waits = film.ready ? "" : "The model is at work on this film. It appears when it is ready.";
  showEmpty(film.error || waits || failure);
  $.reopen.disabled = film.state === "open";
  $.accept.disabled = !film.ready || Boolean(film.error);
  $.accept.textContent = film.state === "corrected" ? "Accept correction" : "Accept";
  $.conflict.hidden = !queue.conflictOf(film.id);
  $.legend.hidden = !entry?.info.sides_known;
  const other = $.legend.querySelector(".other");
  other.hidden = !viewer.slice?.other;
  const conflict = queue.conflictOf(film.id);
  other.textContent = conflict ? "Other window" : review.has_given ? "Given mask" : "Model's first mask";
  showPairs($.header, entry?.info.header);
  $.presets.hidden = film.kind !== "volume";
  showControls();
}

function showPairs(root, pairs = {}) {
  root.replaceChildren(
    ...Object.entries(pairs).flatMap(([key, value]) => [
      element("dt", {}, key.replace("_", " ")),
      element("dd", {}, String(value)),
    ]),
  );
}

/** Shows the state of tools, window and slice on their buttons and sliders. */
function showControls() {
  if (!cache) return;
  for (const button of $.tools.querySelectorAll("button")) {
    const { action } = button.dataset;
    const pressed = {
      outline: viewer.look.outline,
      probability: viewer.look.probability,
      compare: compares,
    };
    if (button.hasAttribute("aria-pressed")) {
      button.setAttribute("aria-pressed", pressed[action] ?? action === viewer.tool);
    }
  }
  $.size.value = Math.min(viewer.size, 200);
  $.sizeText.textContent = `${viewer.size} px`;
  if (!entry) return;
  const { info } = entry;
  const span = info.high - info.low;
  setRange($.level, info.low - span / 2, info.high + span / 2, (viewer.low + viewer.high) / 2);
  setRange($.width, span / 200, 2 * span, viewer.high - viewer.low);
  $.slices.hidden = info.slices < 2;
  setRange($.slice, 1, info.slices, wantedSlice + 1);
  $.sliceText.textContent = `Slice ${wantedSlice + 1} of ${info.slices}`;
}

function setRange(input, min, max, value) {
  Object.assign(input, { min, max, value });
}

function toggleList(isOpen) {
  if (isOpen === document.body.classList.contains("list-open")) return;
  document.body.classList.toggle("list-open", isOpen);
  $.openList.setAttribute("aria-expanded", isOpen);
  (isOpen ? $.search : $.openList).focus();
}

// Dialogs

/** Shows a dialog; resolves to the value of the button that closed it, "" for Escape. */
function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

async function askWho() {
  const answer = await ask($.who);
  const name = answer ? $.whoName.value.trim() : "";
  server.reviewer(name).catch((error) => say(`The name is not kept: ${error.message}`));
  $.viewer.focus();
}

async function askWhy() {
  if (current === null) return;
  const id = current;
  $.why.querySelector("form").reset();
  const answer = await ask($.why);
  $.viewer.focus();
  const choice = $.why.querySelector("input:checked")?.value;
  const words = $.whyText.value.trim();
  const reason = [choice, words].filter(Boolean).join(": ");
  if (answer && current === id) verdict("reject", reason);
}

async function finish() {
  $.doneMore.hidden = true;
  $.doneText.textContent = "All is being saved and the report is being made…";
  const closed = ask($.done);
  let isOpen = true;
  closed.then(() => (isOpen = false));
  while (queue.has() && isOpen) {
    if (queue.state !== "saving") $.doneText.textContent = $.saving.textContent;
    await new Promise((go) => setTimeout(go, 100));
  }
  if (!isOpen) return;
  try {
    const answer = await server.finish();
    showPairs($.counts, answer.counts);
    $.report.hidden = !answer.report;
    $.report.href = answer.report ?? "";
    $.training.hidden = !answer.command;
    $.command.textContent = answer.command;
    const done = "All is saved. You can close this page, or go on.";
    $.doneText.textContent = [done, answer.note].filter(Boolean).join(" Note: ");
    $.doneMore.hidden = false;
  } catch (error) {
    $.doneText.textContent = `It did not finish: ${error.message}`;
  }
}

async function copyCommand() {
  const text = $.command.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren($.command); // no clipboard: select it, for Ctrl+C
    document.execCommand("copy");
  }
  $.copy.textContent = "Copied";
  setTimeout(() => ($.copy.textContent = "Copy the command"), 2000);
}

// Actions

const LOOKS = ["Outline", "Filled", "Mask hidden"];
let look = 0;

const RUN = {
  fill: () => say(viewer.fillHoles() ? "Holes filled" : "No holes"),
  smooth: () => say(viewer.smooth() ? "Smoothed" : "Nothing to smooth"),
  undo: () => travel(true),
  redo: () => travel(false),
  outline() {
    look = (look + 1) % LOOKS.length;
    Object.assign(viewer.look, { outline: look < 2, fill: look === 1 });
    viewer.redraw();
    say(LOOKS[look]);
  },
  probability() {
    viewer.look.probability = !viewer.look.probability;
    viewer.redraw();
    say(`Probability ${viewer.look.probability ? "shown" : "hidden"}`);
  },
  compare() {
    compares = !compares;
    if (!entry) return;
    if (compares) compare(films.get(current), viewer.slice, viewer.z);
    else viewer.slice.other = null;
    viewer.redraw();
    showFilm();
  },
  zoomin: () => viewer.slice && viewer.zoom(1.25),
  zoomout: () => viewer.slice && viewer.zoom(0.8),
  fit: () => viewer.fit(),
  smaller: () => viewer.setSize(Math.min(viewer.size - 1, viewer.size / 1.2)),
  larger: () => viewer.setSize(Math.max(viewer.size + 1, viewer.size * 1.2)),
  reset: () => entry && viewer.setWindow(entry.info.low, entry.info.high),
  first: firstMask,
  sliceup: () => showSlice(wantedSlice + 1),
  slicedown: () => showSlice(wantedSlice - 1),
  accept: () => $.accept.disabled || verdict("accept"),
  reject: askWhy,
  reopen: () => $.reopen.disabled || verdict("reopen"),
  next: () => step(1),
  previous: () => step(-1),
  search() {
    if ($.openList.offsetParent) toggleList(true);
    $.search.focus();
  },
  help: () => ask($.keys).then(() => $.viewer.focus()),
};

function run(action) {
  if (action in RUN) RUN[action]();
  else {
    viewer.setTool(action);
    say($.tools.querySelector(`[data-action=${action}]`).getAttribute("aria-label"));
  }
}

/** Keys on the film itself; returns whether it was one. */
function filmKey(event) {
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!entry || event.ctrlKey || event.metaKey || event.altKey) return false;
  if (arrow) {
    const pixels = event.shiftKey ? 1 : Math.max(1, Math.round(8 / viewer.view.scale));
    viewer.moveCursor(arrow[0] * pixels, arrow[1] * pixels);
  } else if (event.key === " ") event.repeat || viewer.press(false);
  else if (event.key === "Enter") {
    if (viewer.tool !== "add" && viewer.tool !== "cut") viewer.press(true);
    else say(viewer.closeShape() ? "Polygon closed" : "A polygon needs three corners");
  } else if (event.key === "Escape") say(viewer.escape() ? "Given up" : "");
  else return false;
  return true;
}

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) {
    const number = Number(event.key);
    const choices = $.why.open && event.target.id !== "whyText" ? $.reasons.querySelectorAll("input") : [];
    if (choices[number - 1]) choices[number - 1].click();
    return;
  }
  if (event.target === $.viewer && filmKey(event)) return event.preventDefault();
  if (event.key === "Escape") toggleList(false);
  const action = actionOf(event, $.single.checked);
  if (!action) return;
  event.preventDefault();
  run(action);
});

addEventListener("beforeunload", (event) => {
  if (queue?.has() || viewer.stroke) event.preventDefault();
});

// Start

makeToolbar($.tools, run);
makeHelp($.keyRows);
for (const button of document.querySelectorAll("[data-run]")) {
  button.addEventListener("click", () => run(button.dataset.run));
}
REASONS.forEach((reason, i) => {
  const input = element("input", { type: "radio", name: "reason", value: reason });
  $.reasons.append(element("label", {}, input, `${i + 1}  ${reason}`));
});
for (const [name, level, width] of [["Lung", -600, 1500], ["Soft tissue", 40, 400]]) {
  const button = element("button", { type: "button" }, name);
  const low = level - width / 2 + 1024; // pixels are HU + 1024
  button.addEventListener("click", () => viewer.setWindow(low, low + width));
  $.presets.append(button);
}
$.why.addEventListener("submit", (event) => {
  const given = $.why.querySelector("input:checked") || $.whyText.value.trim();
  $.whyText.setCustomValidity("");
  if (!event.submitter?.value || given) return;
  event.preventDefault();
  $.whyText.setCustomValidity("Choose a reason, or say it in your own words.");
  $.whyText.reportValidity();
});
$.whyText.addEventListener("input", () => $.whyText.setCustomValidity(""));
$.search.addEventListener("input", refresh);
$.filter.addEventListener("change", refresh);
$.finish.addEventListener("click", finish);
$.copy.addEventListener("click", copyCommand);
$.helpButton.addEventListener("click", RUN.help);
$.openList.addEventListener("click", () => toggleList(true));
$.closeList.addEventListener("click", () => toggleList(false));
$.theirs.addEventListener("click", () => resolve(false));
$.mine.addEventListener("click", () => resolve(true));
$.size.addEventListener("input", () => viewer.setSize(Number($.size.value)));
$.slice.addEventListener("input", () => showSlice(Number($.slice.value) - 1));
for (const input of [$.level, $.width]) {
  input.addEventListener("input", () => {
    const [level, width] = [Number($.level.value), Number($.width.value)];
    viewer.setWindow(level - width / 2, level + width / 2);
  });
}
$.saving.addEventListener("click", () => {
  if (queue.conflicting) open(queue.conflicting.id);
  else queue.wake();
});
$.single.addEventListener("change", () => {
  try {
    localStorage.setItem("single", $.single.checked ? "" : "off");
  } catch {} // a browser that keeps nothing
});
try {
  $.single.checked = localStorage.getItem("single") !== "off";
} catch {} // as above

function merge(news) {
  let again = false;
  for (const film of news) {
    const known = films.get(film.id);
    if (!known) films.set(film.id, film);
    else if (queue.has(film.id)) known.revision = film.revision;
    else {
      const { seen, ready } = known;
      Object.assign(known, film);
      const isNewer = seen !== undefined && film.revision > seen;
      if (isNewer) cache.drop(film.id);
      if (film.id === current && (isNewer || (!ready && film.ready))) again = true;
    }
  }
  if (news.length) refresh();
  if (again && !viewer.stroke) open(current);
  else if (news.some((film) => film.id === current)) showFilm();
}

async function poll() {
  try {
    const answer = await server.review(review.change);
    review.change = answer.change;
    if (queue.state === "away") queue.wake();
    merge(answer.films);
    if (current === null && shown.length) open(shown[0].id);
    $.head.classList.remove("away");
  } catch (error) {
    $.head.classList.add("away");
    if (error.status === 401 || error.status === 403) {
      say("This window has no access any more: open the address that the command printed");
    }
  }
  setTimeout(poll, POLL);
}

async function start() {
  try {
    review = await server.review();
  } catch (error) {
    return showEmpty(`The films did not come: ${error.message}. Load the page again.`);
  }
  store = new Store(review.review);
  globalThis.jaxlung.queue = queue = new SaveQueue(server, store, {
    change: showSaving,
    saved: onSaved,
    conflict: onConflict,
    trouble(message) {
      if ($.saving.title !== message) say(`Not saved yet: ${message}`);
      $.saving.title = message;
    },
  });
  globalThis.jaxlung.cache = cache = new Cache(server, {
    pending: (id, z) => queue.pending(id, z),
    arrived: (slice) => slice === viewer.slice && viewer.look.probability && viewer.redraw(),
  });
  for (const film of review.films) films.set(film.id, film);
  const restored = await queue.restore(review.films);
  refresh();
  viewer.setTool("brush");
  viewer.resize();
  const first = shown.find((film) => film.state === "open" && film.ready) ?? shown[0];
  if (first) await open(first.id);
  if (restored) say(`${restored} unsaved films of an earlier window are being sent`);
  if (review.reviewer === null) askWho();
  else $.viewer.focus();
  setTimeout(poll, POLL);
}

/** For the console, the tests and the benchmark. */
globalThis.jaxlung = { viewer, films, list };
start();
