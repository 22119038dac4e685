/** Shows the state of the review around the film: list, title, controls, what is saved. */

import { $, say, setRange, showEmpty, showPairs } from "./elements.js";
import { element } from "./keys.js";
import { order, STATES } from "./list.js";

/** @param look {wanted, compares, failure} of app.js. */
export function makePanel({ films, review, list, viewer, queue, look }) {
  let before = "Saved"; // what was said of saving last
  return { list: showList, film: showFilm, say: sayFilm, controls: showControls, saving: showSaving };

  function showList() {
    const all = [...films.values()];
    const text = $.search.value.trim().toLowerCase();
    const filter = $.filter.value;
    const found = order(all).filter((film) => {
      if (text && !film.name.toLowerCase().includes(text)) return false;
      if (!filter || film === viewer.shown.film) return true;
      return filter === "warned" ? film.error || film.warnings.length : film.state === filter;
    });
    list.set(found, viewer.shown.film?.id);
    $.none.hidden = found.length > 0;
    const looked = all.filter((film) => film.state !== "open").length;
    $.count.textContent = `${looked} of ${all.length} looked at`;
    $.progress.max = all.length || 1;
    $.progress.value = looked;
  }

  function showFilm() {
    const { film, entry, slice } = viewer.shown;
    if (!film) return;
    const at = list.films.indexOf(film);
    $.name.textContent = film.name;
    document.title = `${film.name} · jaxlung view`;
    const parts = [STATES[film.state], at >= 0 && `${at + 1} of ${list.films.length}`];
    if (film.state === "rejected" && film.reason) parts.push(film.reason);
    if (film.width) parts.push(`${film.width} × ${film.height}`);
    if (film.confidence !== null) parts.push(`confidence ${film.confidence.toFixed(2)}`);
    if (film.given_dice !== null) parts.push(`Dice to the given mask ${film.given_dice.toFixed(2)}`);
    $.about.textContent = parts.filter(Boolean).join(" · ");
    $.head.dataset.state = film.state;
    $.warnings.replaceChildren(...film.warnings.map((words) => element("li", {}, words)));
    const waits = film.ready ? "" : "The model is at work on this film. It appears when it is ready.";
    showEmpty(film.error || waits || look.failure);
    $.reopen.disabled = film.state === "open" && !look.failure;
    $.accept.disabled = !slice;
    $.accept.textContent = film.state === "corrected" ? "Accept correction" : "Accept";
    const conflict = queue.conflictOf(film.id);
    const refused = conflict?.refused;
    $.conflict.hidden = !conflict;
    $.conflictText.textContent = refused
      ? `This change is not saved: ${refused}.`
      : "Another window has changed this film. Its mask is the violet outline.";
    $.theirs.textContent = refused ? "Give it up" : "Load the other one";
    $.mine.textContent = refused ? "Try again" : "Put mine over it";
    $.legend.hidden = !entry?.info.sides_known;
    const other = $.legend.querySelector(".other");
    other.hidden = !slice?.other;
    other.textContent = conflict ? "Other window" : review.has_given ? "Given mask" : "Model's first mask";
    showPairs($.header, entry?.info.header);
    $.presets.hidden = film.kind !== "volume";
    showControls();
  }

  /** Lets a screen reader name the film. */
  function sayFilm() {
    const { film } = viewer.shown;
    say(`${film.name}. ${$.about.textContent}. ${film.warnings.join(". ")}`);
  }

  /** Shows the state of tools, window and slice on their buttons and sliders. */
  function showControls() {
    const { outline, probability } = viewer.look;
    const pressed = { outline, probability, compare: look.compares };
    for (const button of $.tools.querySelectorAll("[aria-pressed]")) {
      const { action } = button.dataset;
      button.setAttribute("aria-pressed", pressed[action] ?? action === viewer.tool);
    }
    $.size.value = Math.min(viewer.size, 200);
    $.sizeText.textContent = `${viewer.size} px`;
    const { info } = viewer;
    if (!info) return;
    const span = info.high - info.low;
    setRange($.level, info.low - span / 2, info.high + span / 2, (viewer.low + viewer.high) / 2);
    setRange($.width, span / 200, 2 * span, viewer.high - viewer.low);
    $.slices.hidden = info.slices < 2;
    setRange($.slice, 1, info.slices, look.wanted + 1);
    $.sliceText.textContent = `Slice ${look.wanted + 1} of ${info.slices}`;
  }

  function showSaving() {
    const { state, trouble, conflicting } = queue;
    const texts = {
      saved: "Saved",
      saving: "Saving…",
      away: `Not saved yet: ${trouble}`,
      conflict: conflicting?.conflict.refused ? "Not saved: decide" : "Changed in two windows: decide",
    };
    const text = texts[state];
    $.saving.dataset.state = state;
    $.saving.textContent = text;
    if (state !== "saving" && text !== before) {
      say(state === "away" ? `${text}. It is kept in this browser and sent again` : text);
      before = text;
    }
    list.draw();
  }
}
