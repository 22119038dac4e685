/** Brings films and slices to the screen.
 *
 * `viewer.shown` = {film, entry, slice, z} is what is on the screen; what is drawn, saved or judged
 * is of it. `slice` is null while a film comes: then there is nothing to draw on.
 */

import { say } from "./elements.js";
import * as server from "./server.js";

const AHEAD = 3; // films fetched before they are asked for

/** @param look {wanted, compares, failure} of app.js; merge(films) as there. */
export function makeScreen({ viewer, cache, queue, list, panel, review, look, merge }) {
  return { open, scroll, step, following, fetchAhead, compare };

  /** Opens a film; `began` is when it was asked for, `z` a slice other than the first one. */
  async function open(film, { began = performance.now(), z } = {}) {
    viewer.escape();
    look.failure = "";
    list.select(film.id);
    const isReady = film.ready && !film.error;
    let found = isReady && cache.look(film, z);
    if (!found.slice) {
      const waiting = { film, entry: null, slice: null, z: 0 };
      viewer.show(waiting);
      panel.film();
      try {
        // The server puts what is asked for before the rest of the list.
        if (!film.error && !isReady) merge([await server.film(film.id)]);
        found = await found;
      } catch (error) {
        look.failure = isReady ? `This film did not come: ${error.message}.` : "";
        if (viewer.shown === waiting) panel.film();
        return;
      }
      if (viewer.shown !== waiting) return;
      if (film.error) fetchAhead(); // nothing comes of this one
      if (!isReady) return;
    }
    place(found, true);
    requestAnimationFrame(() => {
      performance.measure("next-film", { start: began, end: performance.now() });
    });
    panel.say();
    fetchAhead();
  }

  /** Fetches the films that come next, so that they are there at once. */
  function fetchAhead() {
    // A scan would take the place of the open one in the server's memory.
    const next = following(AHEAD).filter((one) => one.kind === "film");
    cache.prefetch(next).catch(() => {});
  }

  function place(found, isNew) {
    const { film, slice, z } = found;
    if (!queue.has(film.id)) {
      film.seen = slice.revision;
      film.revision = Math.max(film.revision, film.seen);
    }
    look.wanted = z;
    viewer.show(found, isNew);
    if (look.compares || queue.conflictOf(film.id)) compare();
    panel.film();
  }

  /** Shows another slice of the scan, and fetches those that follow. */
  async function scroll(z) {
    const { film, entry } = viewer.shown;
    if (!entry || entry.info.slices < 2) return;
    const step = Math.sign(z - look.wanted) || 1;
    const last = entry.info.slices - 1;
    const wanted = Math.min(Math.max(z, 0), last);
    look.wanted = wanted;
    panel.controls();
    try {
      let found = cache.look(film, wanted);
      if (!found.slice) found = await found;
      if (viewer.shown.entry !== entry || look.wanted !== wanted) return;
      place(found, false);
      for (let ahead = 1; ahead <= 4; ahead++) {
        const next = wanted + step * ahead;
        if (next >= 0 && next <= last) cache.slice(film, found.entry, next);
      }
    } catch (error) {
      say(`The slice did not come: ${error.message}`);
    }
  }

  /** Returns the next films that nobody has looked at, from the one shown on. */
  function following(count) {
    const { films } = list;
    const at = films.indexOf(viewer.shown.film);
    const turned = [...films.slice(at + 1), ...films.slice(0, Math.max(at, 0))];
    const open = turned.filter((film) => film.state === "open" && film.ready && !film.error);
    return open.slice(0, count);
  }

  function step(by) {
    const { films } = list;
    const next = films[films.indexOf(viewer.shown.film) + by];
    if (next) open(next);
    else say(by > 0 ? "This is the last film" : "This is the first film");
  }

  /** Shows the model's first mask or the given one as a second outline, or the other window's. */
  async function compare() {
    const { film, slice, z } = viewer.shown;
    const isOther = () => Boolean(queue.conflictOf(film.id)?.revision);
    const which = isOther() ? "current" : review.has_given ? "given" : "first";
    try {
      const { buffer } = await server.layer(film.id, "mask", z, which);
      if (viewer.shown.slice !== slice) return;
      slice.other = look.compares || isOther() ? new Uint8Array(buffer) : null;
      viewer.redraw();
      panel.film();
    } catch (error) {
      say(`No mask to compare with: ${error.message}`);
    }
  }
}
