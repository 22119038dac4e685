/** Saves masks and verdicts in order, one at a time for each film, until the server has them.
 *
 * A film is {id, seen}: `seen` is the revision that this window shows, and a save is for.
 */

const WAIT = 250; // ms after a stroke, so that a quick hand makes one save of several strokes
const LONGEST_WAIT = 8000;

/** Packs a mask to a bit for each pixel. */
export function pack(mask) {
  const bits = new Uint8Array(Math.ceil(mask.length / 8));
  for (let i = 0; i < mask.length; i++) if (mask[i]) bits[i >> 3] |= 1 << (i & 7);
  return bits;
}

export function unpack(bits, length) {
  const mask = new Uint8Array(length);
  for (let i = 0; i < length; i++) mask[i] = (bits[i >> 3] >> (i & 7)) & 1;
  return mask;
}

export class SaveQueue {
  /**
   * @param server putMask, verdict and layer of server.js.
   * @param store keep, drop and inherit of store.js.
   * @param on change() after each step, saved(film, answer), conflict(film) and trouble(message).
   */
  constructor(server, store, on) {
    this.server = server;
    this.store = store;
    this.on = on;
    this.entries = new Map();
    this.away = false;
  }

  /** Whether something of a film, or of any film, is unsaved. */
  has(id) {
    return id === undefined ? this.entries.size > 0 : this.entries.has(id);
  }

  /** Returns the state to show: "saved", "saving", "away" or "conflict". */
  get state() {
    const entries = [...this.entries.values()];
    if (entries.some((entry) => entry.conflict)) return "conflict";
    if (!entries.length) return "saved";
    return this.away ? "away" : "saving";
  }

  /** Returns the first film whose save met another window's, or undefined. */
  get conflicting() {
    return [...this.entries.values()].find((entry) => entry.conflict)?.film;
  }

  conflictOf(id) {
    return this.entries.get(id)?.conflict ?? null;
  }

  /** Returns the unsaved mask (0 and 1) of a slice, or null. */
  pending(id, slice) {
    const job = this.entries.get(id)?.masks.get(slice);
    return job ? unpack(job.bits, job.length) : null;
  }

  #entry(film) {
    if (!this.entries.has(film.id)) {
      const entry = { film, masks: new Map(), verdict: null, busy: false, tries: 0 };
      this.entries.set(film.id, { ...entry, conflict: null, timer: 0 });
    }
    return this.entries.get(film.id);
  }

  /** Takes a mask to save; resolves once it is safe in this browser. */
  async mask(film, slice, mask) {
    const entry = this.#entry(film);
    const job = { slice, bits: pack(mask), length: mask.length };
    entry.masks.delete(slice); // goes to the end of the order
    entry.masks.set(slice, job);
    this.#later(entry, WAIT);
    this.on.change();
    await this.store.keep(film.id, slice, { ...job, revision: film.seen }).catch(() => {});
    if (entry.masks.get(slice) !== job && !entry.masks.has(slice)) this.#forget(film, slice);
  }

  /** Takes a verdict, which follows the masks of the same film. */
  async verdict(film, word, reason) {
    const entry = this.#entry(film);
    const job = { verdict: word, reason };
    entry.verdict = job;
    this.#later(entry, 0);
    this.on.change();
    await this.store.keep(film.id, "verdict", { ...job, revision: film.seen }).catch(() => {});
    if (!entry.verdict) this.#forget(film, "verdict");
  }

  /** Takes over what earlier windows left; returns the number of films. */
  async restore(films) {
    const records = await this.store.inherit().catch(() => []);
    const known = new Map(films.map((film) => [film.id, film]));
    const restored = new Set();
    for (const record of records) {
      const film = known.get(record.film);
      if (!film) continue;
      const entry = this.#entry(film);
      film.seen = Math.min(record.revision, film.seen ?? Infinity);
      if (record.verdict) entry.verdict = record;
      else entry.masks.set(record.slice, record);
      restored.add(film.id);
      this.#later(entry, 0);
    }
    if (restored.size) this.on.change();
    return restored.size;
  }

  #forget(film, what) {
    this.store.drop(film.id, what).catch(() => {});
  }

  #later(entry, wait) {
    if (entry.busy || entry.conflict || (entry.timer && wait)) return;
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => this.#run(entry), wait);
  }

  /** Tries now what waits for the server. */
  wake() {
    for (const entry of this.entries.values()) this.#later(entry, 0);
  }

  async #run(entry) {
    entry.timer = 0;
    if (entry.busy || entry.conflict) return;
    entry.busy = true;
    try {
      while (entry.masks.size || entry.verdict) await this.#saveOne(entry);
      if (this.entries.get(entry.film.id) === entry) this.entries.delete(entry.film.id);
    } catch (error) {
      await this.#failed(entry, error);
    } finally {
      entry.busy = false;
      this.on.change();
    }
  }

  async #saveOne(entry) {
    const { film } = entry;
    const [first] = entry.masks.values();
    let answer;
    if (first) {
      const mask = unpack(first.bits, first.length);
      answer = await this.server.putMask(film.id, first.slice, mask, film.seen);
      if (entry.masks.get(first.slice) === first) this.#done(entry, first.slice);
    } else {
      const job = entry.verdict;
      answer = await this.server.verdict(film.id, job.verdict, job.reason, film.seen);
      if (entry.verdict === job) {
        entry.verdict = null;
        this.#forget(film, "verdict");
      }
    }
    film.seen = answer.revision;
    entry.tries = 0;
    this.away = false;
    this.on.saved(film, answer);
  }

  #done(entry, slice) {
    entry.masks.delete(slice);
    this.#forget(entry.film, slice);
  }

  async #failed(entry, error) {
    if (error.status === 409) {
      const revision = error.body.revision;
      const same = await this.#areSaved(entry).catch(() => null);
      if (same) {
        // The answer to an earlier try was lost on its way, or both windows drew the same.
        for (const slice of [...entry.masks.keys()]) this.#done(entry, slice);
        entry.film.seen = revision;
      } else if (same === false) {
        entry.conflict = { revision };
        this.on.conflict(entry.film);
        return;
      }
    } else {
      this.away = true;
      if (error.status) this.on.trouble(error.message);
    }
    entry.busy = false;
    entry.tries += 1;
    this.#later(entry, Math.min(250 * 2 ** entry.tries, LONGEST_WAIT));
  }

  /** Whether the server holds each unsaved mask of a film already. */
  async #areSaved(entry) {
    if (!entry.masks.size) return false;
    for (const job of entry.masks.values()) {
      const { buffer } = await this.server.layer(entry.film.id, "mask", job.slice, "current");
      const theirs = pack(new Uint8Array(buffer));
      if (!theirs.every((byte, i) => byte === job.bits[i])) return false;
    }
    return true;
  }

  /** Ends a conflict: keeps this window's over the other's, or gives it up. */
  resolve(film, keep) {
    const entry = this.entries.get(film.id);
    if (!entry?.conflict) return;
    film.seen = entry.conflict.revision;
    entry.conflict = null;
    if (keep) this.#later(entry, 0);
    else {
      for (const slice of entry.masks.keys()) this.#forget(film, slice);
      if (entry.verdict) this.#forget(film, "verdict");
      this.entries.delete(film.id);
    }
    this.on.change();
  }
}
