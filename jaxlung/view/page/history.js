/** Undo and redo: each step keeps the rectangle that it changed, before and after. */

import { isNothing } from "./tools.js";

function cut(mask, width, rect) {
  const wide = rect.x1 - rect.x0;
  const part = new Uint8Array(wide * (rect.y1 - rect.y0));
  for (let j = rect.y0; j < rect.y1; j++) {
    part.set(mask.subarray(j * width + rect.x0, j * width + rect.x1), (j - rect.y0) * wide);
  }
  return part;
}

/** Puts a part back into its rectangle. */
export function paste(mask, width, rect, part) {
  const wide = rect.x1 - rect.x0;
  for (let j = rect.y0; j < rect.y1; j++) {
    const start = (j - rect.y0) * wide;
    mask.set(part.subarray(start, start + wide), j * width + rect.x0);
  }
}

function move(from, to, part) {
  const step = from.pop();
  if (!step) return null;
  to.push(step);
  return { slice: step.slice, rect: step.rect, part: step[part] };
}

export class History {
  /** @param limit bytes; the oldest steps are forgotten above it. */
  constructor(limit = 64 * 2 ** 20) {
    this.limit = limit;
    this.done = [];
    this.undone = [];
    this.before = null;
  }

  /** Remembers the mask before a step. */
  begin(mask) {
    if (this.before?.length !== mask.length) this.before = new Uint8Array(mask.length);
    this.before.set(mask);
  }

  /** Ends the step; returns whether anything changed. */
  commit(mask, width, rect, slice) {
    if (isNothing(rect)) return false;
    const before = cut(this.before, width, rect);
    const after = cut(mask, width, rect);
    if (before.every((value, i) => value === after[i])) return false;
    this.done.push({ slice, rect, before, after });
    this.undone = [];
    let bytes = 0;
    for (const step of this.done) bytes += 2 * step.before.length;
    while (bytes > this.limit && this.done.length > 1) {
      bytes -= 2 * this.done.shift().before.length;
    }
    return true;
  }

  /** Gives up the step under way. */
  cancel(mask) {
    mask.set(this.before);
  }

  /** Returns {slice, rect, part} to paste, or null. */
  undo() {
    return move(this.done, this.undone, "before");
  }

  redo() {
    return move(this.undone, this.done, "after");
  }

  /** Forgets the steps of a slice, which another window has changed. */
  forget(slice) {
    for (const name of ["done", "undone"]) {
      this[name] = this[name].filter((step) => step.slice !== slice);
    }
  }
}
