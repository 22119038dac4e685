/** The review page: puts list, film, tools, saves and server together. */

import { makeActions, runFilmKey } from "./actions.js";
import { Cache } from "./cache.js";
import { askWho, chooseReason, makeDialogs } from "./dialogs.js";
import { $, say, showEmpty, toggleList } from "./elements.js";
import { actionOf, makeToolbar } from "./keys.js";
import { List } from "./list.js";
import { makePanel } from "./panel.js";
import { SaveQueue } from "./saves.js";
import { makeScreen } from "./screen.js";
import * as server from "./server.js";
import { Store } from "./store.js";
import { Viewer } from "./viewer.js";

const POLL = 2000; // ms

/** Makes the parts of the page. */
function makePage(review) {
  const films = new Map(review.films.map((film) => [film.id, film]));
  // The slice that was asked for, whether a second outline is shown, why there is no film.
  const look = { wanted: 0, compares: false, failure: "" };
  const queue = new SaveQueue(server, new Store(review.review), {
    change: () => panel.saving(),
    saved: onSaved,
    conflict: onConflict,
  });
  const list = new List($.list, {
    open(id, picked) {
      screen.open(films.get(id));
      if (picked) toggleList(false);
    },
    thumbnail: server.thumbnail,
    unsaved: (id) => queue.has(id),
  });
  const viewer = new Viewer($.viewer, {
    edited: onEdited,
    scroll: (steps) => screen.scroll(look.wanted + steps),
    changed: () => panel.controls(),
    say,
  });
  const cache = new Cache(server, {
    pending: (id, z) => queue.pending(id, z),
    unsaved: (id) => queue.has(id),
    shown: () => viewer.shown,
    arrived: (slice) => slice === viewer.slice && viewer.look.probability && viewer.redraw(),
  });
  const parts = { review, films, look, queue, list, viewer, cache, merge };
  const panel = makePanel(parts);
  const screen = makeScreen({ ...parts, panel });
  return { ...parts, panel, screen };

  function onEdited() {
    const { film, slice, z } = viewer.shown;
    film.state = "corrected";
    queue.mask(film, z, slice.mask);
    panel.list();
    panel.film();
  }

  function onSaved(film, state, based, slices) {
    film.state = state;
    cache.saved(film, based, slices);
    panel.list();
    const { shown } = viewer;
    if (film !== shown.film) return;
    if (shown.slice?.revision < film.seen) screen.open(film, { z: shown.z });
    else panel.film();
  }

  function onConflict(film) {
    const { shown } = viewer;
    if (film !== shown.film) return;
    panel.film();
    if (shown.slice && queue.conflictOf(film.id).revision) screen.compare();
    $.conflict.focus();
  }

  /** Takes over what the server says of films. */
  function merge(news) {
    const { shown } = viewer;
    let again = false;
    let others = false; // films to fetch may be others now
    for (const film of news) {
      const known = films.get(film.id);
      if (!known) {
        films.set(film.id, film);
        others = true;
      } else {
        const mine = queue.has(film.id) && { state: known.state, reason: known.reason };
        const isNew = film.ready !== known.ready || (!mine && film.revision > known.seen);
        Object.assign(known, film, mine);
        if (isNew) cache.drop(film.id);
        again ||= isNew && known === shown.film;
        others ||= isNew;
      }
    }
    if (news.length) panel.list();
    if (again && !viewer.stroke) screen.open(shown.film, { z: shown.slice ? shown.z : undefined });
    else if (shown.film) panel.film();
    // A film on its way comes first; `open` fetches the others after it.
    if (others && (viewer.slice || viewer.shown.film?.error)) screen.fetchAhead();
  }
}

/** Ends a conflict: keeps this window's mask, or takes the other's. */
function resolve({ queue, viewer, cache, screen, panel }, keep) {
  const { film, slice, z } = viewer.shown;
  queue.resolve(film, keep);
  if (slice) slice.other = null;
  if (keep) {
    panel.film();
    viewer.redraw();
  } else {
    cache.drop(film.id);
    screen.open(film, { z: slice ? z : undefined });
  }
  say(keep ? "Your mask is sent" : "The server's mask is loaded");
  $.viewer.focus();
}

/** Listens to buttons, keys and sliders. */
function listen(page) {
  const { viewer, screen, queue, panel, look } = page;
  const actions = makeActions(page);

  function run(action) {
    if (action in actions) actions[action]();
    else {
      viewer.setTool(action);
      say($.tools.querySelector(`[data-action=${action}]`).getAttribute("aria-label"));
    }
  }

  makeToolbar($.tools, run);
  makeDialogs(queue);
  for (const button of document.querySelectorAll("[data-run]")) {
    button.addEventListener("click", () => run(button.dataset.run));
  }
  for (const button of $.presets.children) {
    const [level, width] = button.dataset.window.split(" ").map(Number);
    const low = level - width / 2 + 1024; // pixels are HU + 1024
    button.addEventListener("click", () => viewer.setWindow(low, low + width));
  }
  const clicks = {
    helpButton: actions.help,
    openList: () => toggleList(true),
    closeList: () => toggleList(false),
    theirs: () => resolve(page, false),
    mine: () => resolve(page, true),
    saving() {
      if (queue.conflicting) screen.open(queue.conflicting.film);
      else queue.wake();
    },
  };
  const setWindow = () => {
    const [level, width] = [Number($.level.value), Number($.width.value)];
    viewer.setWindow(level - width / 2, level + width / 2);
  };
  const inputs = {
    search: () => panel.list(),
    filter: () => panel.list(),
    size: () => viewer.setSize(Number($.size.value)),
    slice: () => screen.scroll(Number($.slice.value) - 1),
    level: setWindow,
    width: setWindow,
  };
  for (const [id, run] of Object.entries(clicks)) $[id].addEventListener("click", run);
  for (const [id, run] of Object.entries(inputs)) $[id].addEventListener("input", run);
  $.single.addEventListener("change", () => {
    try {
      localStorage.setItem("single", $.single.checked ? "" : "off");
    } catch {} // a browser that keeps nothing
  });
  try {
    $.single.checked = localStorage.getItem("single") !== "off";
  } catch {} // as above

  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return chooseReason(event);
    if (event.target === $.viewer && runFilmKey(event, viewer)) return event.preventDefault();
    if (event.key === "Escape") toggleList(false);
    const action = actionOf(event, $.single.checked);
    if (!action) return;
    event.preventDefault();
    run(action);
  });
  addEventListener("beforeunload", (event) => {
    if (queue.has() || viewer.stroke) event.preventDefault();
  });
}

async function poll(page) {
  const { review, queue, viewer, screen, list } = page;
  try {
    const { change, films } = await server.review(review.change);
    review.change = change;
    if (queue.state === "away") queue.wake();
    page.merge(films);
    if (!viewer.shown.film && list.films.length) screen.open(list.films[0]);
    $.head.classList.remove("away");
  } catch (error) {
    $.head.classList.add("away");
    if (error.status === 403) say(`This window has no access any more: ${error.message}`);
  }
  setTimeout(poll, POLL, page);
}

async function start() {
  let review;
  try {
    review = await server.review();
  } catch (error) {
    return showEmpty(`The films did not come: ${error.message}. Load the page again.`);
  }
  const page = makePage(review);
  const { viewer, screen, queue, panel, list } = page;
  globalThis.jaxlung = page; // for the console, the tests and the benchmark
  listen(page);
  const restored = await queue.restore(review.films);
  panel.list();
  viewer.setTool("brush");
  viewer.resize();
  const first = list.films.find((film) => film.state === "open" && film.ready) ?? list.films[0];
  if (first) await screen.open(first);
  if (restored) say(`${restored} unsaved films of an earlier window are being sent`);
  if (review.reviewer === null) askWho();
  else $.viewer.focus();
  setTimeout(poll, POLL, page);
}

start();
