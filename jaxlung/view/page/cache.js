/** Keeps films that were shown and fetches the next ones, within a bound of memory. */

import { History } from "./history.js";
import { sideAt } from "./tools.js";

export class Cache {
  /**
   * @param server film and layer of server.js.
   * @param on pending(id, slice) to the unsaved mask of 0 and 1, or null; unsaved(id) to whether a
   *   film has one; shown() to what is on the screen; arrived(slice) of its probability, for which
   *   no film waits.
   * @param limit bytes; what was used longest ago is dropped above it.
   */
  constructor(server, on, limit = 256 * 2 ** 20) {
    this.server = server;
    this.on = on;
    this.limit = limit;
    this.entries = new Map(); // the order is that of use
  }

  /** Returns {info, slices, history} of a film. */
  open(film) {
    let entry = this.entries.get(film.id);
    if (!entry) {
      entry = { slices: new Map(), history: new History(), info: null };
      entry.loading = this.server.film(film.id).then((info) => {
        entry.info = info;
        return entry;
      });
      entry.loading.catch(() => this.drop(film.id));
    }
    this.entries.delete(film.id);
    this.entries.set(film.id, entry);
    return entry.info ? entry : entry.loading;
  }

  /** Returns {film, entry, slice, z} at once where all is here, else its promise.
   *
   * @param z undefined: the slice to look at first.
   */
  look(film, z) {
    const find = (entry) => {
      const at = z ?? entry.info.first_slice ?? 0;
      const found = (slice) => ({ film, entry, slice, z: at });
      const slice = this.slice(film, entry, at);
      return slice.pixels ? found(slice) : slice.then(found);
    };
    const entry = this.open(film);
    return entry.info ? find(entry) : entry.then(find);
  }

  /** Whether another window has changed the film since a slice was fetched. */
  #isOld(film, { revision }) {
    return revision < film.seen || (revision < film.revision && !this.on.unsaved(film.id));
  }

  /** Returns {pixels, mask, probability, revision} of a slice, at once where it is here. */
  slice(film, entry, z) {
    const known = entry.slices.get(z);
    if (known) {
      entry.slices.delete(z);
      if (!this.#isOld(film, known)) {
        entry.slices.set(z, known);
        return known;
      }
      entry.history.forget(z);
    }
    const load = () => this.#load(film, entry, z);
    // A change on its way may be faster than the slice.
    const fresh = load().then((slice) => (this.#isOld(film, slice) ? load() : slice));
    const loading = fresh.then((slice) => {
      if (entry.slices.get(z) === loading) entry.slices.set(z, slice);
      this.#trim(film.id);
      return slice;
    });
    loading.catch(() => entry.slices.delete(z));
    entry.slices.set(z, loading);
    return loading;
  }

  async #load(film, entry, z) {
    const [pixels, mask] = await Promise.all([
      this.server.layer(film.id, "pixels", z),
      this.server.layer(film.id, "mask", z, "current"),
    ]);
    const slice = {
      pixels: new (entry.info.bits === 16 ? Uint16Array : Uint8Array)(pixels.buffer),
      mask: new Uint8Array(mask.buffer),
      probability: null,
      revision: mask.revision,
    };
    const arrive = ({ buffer }) => {
      slice.probability = new Uint8Array(buffer);
      this.on.arrived(slice);
    };
    this.server.layer(film.id, "probability", z).then(arrive, () => {}); // then there is no layer
    const unsaved = this.on.pending(film.id, z);
    if (unsaved) layOver(slice.mask, entry.info.width, unsaved);
    return slice;
  }

  /** Fetches films one after the other, those first that come first. */
  async prefetch(films) {
    const wanted = films;
    this.wanted = wanted;
    for (const film of wanted) {
      if (this.wanted !== wanted) return; // another film was opened meanwhile
      await this.look(film);
    }
  }

  /** Takes note of a save that followed revision `based`. Slices older than that stay old. */
  saved(film, based, slices) {
    for (const [z, slice] of this.entries.get(film.id)?.slices ?? []) {
      if (slices.includes(z) || slice.revision >= based) slice.revision = film.seen;
    }
  }

  drop(id) {
    this.entries.delete(id);
  }

  #bytes(entry) {
    let sum = 0;
    for (const slice of entry.slices.values()) {
      sum += (slice.pixels?.byteLength ?? 0) + 2 * (slice.mask?.byteLength ?? 0);
    }
    return sum;
  }

  #trim(current) {
    let bytes = 0;
    const shown = this.on.shown();
    for (const entry of this.entries.values()) bytes += this.#bytes(entry);
    for (const [id, entry] of [...this.entries]) {
      if (bytes <= this.limit) return;
      if (id === current || id === shown.film?.id) {
        // Slices of a long volume are dropped singly.
        for (const [z, slice] of [...entry.slices]) {
          if (bytes <= this.limit || entry.slices.size <= 8) break;
          if (!slice.pixels || z === shown.z) continue;
          entry.slices.delete(z);
          bytes -= slice.pixels.byteLength + 2 * slice.mask.byteLength;
        }
        continue;
      }
      bytes -= this.#bytes(entry);
      this.entries.delete(id);
    }
  }
}

/** Takes over a mask of 0 and 1; new pixels get the side of a neighbour, else of their half. */
export function layOver(mask, width, unsaved) {
  for (let i = 0; i < mask.length; i++) {
    if (!unsaved[i]) mask[i] = 0;
    else if (!mask[i]) {
      const near = (i % width && mask[i - 1]) || mask[i - width];
      const point = { x: i % width, y: Math.floor(i / width) };
      mask[i] = near || sideAt(mask, width, mask.length / width, point);
    }
  }
}
