/** What buttons and keys do to the film that is shown. */

import { askWhy } from "./dialogs.js";
import { $, ask, say, toggleList } from "./elements.js";
import * as server from "./server.js";

const LOOKS = ["Outline", "Filled", "Mask hidden"];

/** Makes the actions of keys.js, by name. */
export function makeActions({ viewer, screen, queue, panel, look }) {
  let filling = 0;

  function judge(word, reason = "") {
    const { film, slice } = viewer.shown;
    if (!film || (word === "accept" && !slice)) return; // nobody has seen it
    viewer.escape();
    const began = performance.now();
    const states = { accept: film.state === "corrected" ? "corrected" : "accepted", reject: "rejected" };
    const [next] = screen.following(1);
    film.state = states[word] ?? "open";
    film.reason = reason;
    queue.verdict(film, word, reason);
    panel.list();
    if (word !== "reopen" && next) return screen.open(next, { began });
    panel.film();
    say(word === "reopen" ? `${film.name} is open again` : "All films that are ready are looked at");
  }

  async function reject() {
    const { film } = viewer.shown;
    const reason = film && (await askWhy());
    if (reason && viewer.shown.film === film) judge("reject", reason);
  }

  /** Undo and redo go to the slice of their step first. */
  async function travel(back) {
    const { entry } = viewer.shown;
    if (!entry || viewer.escape()) return;
    const { history } = entry;
    const last = () => history[back ? "done" : "undone"].at(-1);
    const step = last();
    if (!step) return say(back ? "Nothing to undo" : "Nothing to redo");
    if (viewer.z !== step.slice) await screen.scroll(step.slice);
    // Another film, slice or window may have come meanwhile.
    if (viewer.shown.entry !== entry || viewer.z !== step.slice || last() !== step) return;
    viewer.applyStep(back ? history.undo() : history.redo());
    say(back ? "Undone" : "Done again");
  }

  async function firstMask() {
    const { film, slice, z } = viewer.shown;
    if (!slice) return;
    try {
      const { buffer } = await server.layer(film.id, "mask", z, "first");
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

  return {
    fill: () => say(viewer.fillHoles() ? "Holes filled" : "No holes"),
    smooth: () => say(viewer.smooth() ? "Smoothed" : "Nothing to smooth"),
    undo: () => travel(true),
    redo: () => travel(false),
    outline() {
      filling = (filling + 1) % LOOKS.length;
      Object.assign(viewer.look, { outline: filling < 2, fill: filling === 1 });
      viewer.redraw();
      say(LOOKS[filling]);
    },
    probability() {
      viewer.look.probability = !viewer.look.probability;
      viewer.redraw();
      say(`Probability ${viewer.look.probability ? "shown" : "hidden"}`);
    },
    compare() {
      look.compares = !look.compares;
      const { slice } = viewer;
      if (!slice) return;
      if (look.compares) screen.compare();
      else slice.other = null;
      viewer.redraw();
      panel.film();
    },
    zoomin: () => viewer.slice && viewer.zoom(1.25),
    zoomout: () => viewer.slice && viewer.zoom(0.8),
    fit: () => viewer.fit(),
    smaller: () => viewer.setSize(Math.min(viewer.size - 1, viewer.size / 1.2)),
    larger: () => viewer.setSize(Math.max(viewer.size + 1, viewer.size * 1.2)),
    reset: () => viewer.info && viewer.setWindow(viewer.info.low, viewer.info.high),
    first: firstMask,
    sliceup: () => screen.scroll(look.wanted + 1),
    slicedown: () => screen.scroll(look.wanted - 1),
    accept: () => judge("accept"),
    reject,
    reopen: () => $.reopen.disabled || judge("reopen"),
    next: () => screen.step(1),
    previous: () => screen.step(-1),
    search() {
      if ($.openList.offsetParent) toggleList(true);
      $.search.focus();
    },
    help: () => ask($.keys).then(() => $.viewer.focus()),
  };
}

/** Runs a key on the film itself; returns whether it was one. */
export function runFilmKey(event, viewer) {
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!viewer.slice || event.ctrlKey || event.metaKey || event.altKey) return false;
  if (arrow) {
    const pixels = event.shiftKey ? 1 : Math.max(1, Math.round(8 / viewer.view.scale));
    viewer.cursor.move(arrow[0] * pixels, arrow[1] * pixels);
  } else if (event.key === " ") event.repeat || viewer.cursor.press(false);
  else if (event.key === "Enter") {
    if (viewer.tool !== "add" && viewer.tool !== "cut") viewer.cursor.press(true);
    else say(viewer.closeShape() ? "Polygon closed" : "A polygon needs three corners");
  } else if (event.key === "Escape") say(viewer.escape() ? "Given up" : "");
  else return false;
  return true;
}
