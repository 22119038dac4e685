/** Saves masks and verdicts in order, one at a time for each film, until the server has them.
 *
 * A film is {id, seen, revision}: `seen` is the revision that this window shows, and a save is for.
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
   * @param server putMask, verdict, film and layer of server.js.
   * @param store keep, drop and inherit of store.js.
   * @param on change() after each step, conflict(film), and saved(film, state, based, slices), where
   *   `based` is the revision that the save followed.
   */
  constructor(server, store, on) {
    this.server = server;
    this.store = store;
    this.on = on;
    this.entries = new Map();
    this.trouble = ""; // why the last try failed
  }

  /** Whether something of a film, or of any film, is unsaved. */
  has(id) {
    return id === undefined ? this.entries.size > 0 : this.entries.has(id);
  }

  /** Returns the state to show: "saved", "saving", "away" or "conflict". */
  get state() {
    if (this.conflicting) return "conflict";
    if (!this.has()) return "saved";
    return this.trouble ? "away" : "saving";
  }

  /** Returns the first {film, conflict} to decide on, or undefined. */
  get conflicting() {
    return [...this.entries.values()].find((entry) => entry.conflict);
  }

  /** Returns {revision} of another window's save, {refused} with the server's words, or null. */
  conflictOf(id) {
    return this.entries.get(id)?.conflict ?? null;
  }

  /** Returns the unsaved mask (0 and 1) of a slice, or null. */
  pending(id, slice) {
    const job = this.entries.get(id)?.masks.get(slice);
    return job ? unpack(job.bits, job.length) : null;
  }

  #entry(film) {
    film.seen ??= film.revision;
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
    // What was decided before is decided on another mask: the server would put it after this one.
    if (entry.verdict) this.#done(entry, entry.verdict);
    this.#later(entry, WAIT);
    this.on.change();
    await this.#keep(film, slice, job);
    if (!entry.masks.has(slice)) this.#forget(film, slice);
  }

  /** Takes a verdict, which follows the masks of the same film. */
  async verdict(film, word, reason) {
    const entry = this.#entry(film);
    const job = { verdict: word, reason };
    entry.verdict = job;
    this.#later(entry, 0);
    this.on.change();
    await this.#keep(film, "verdict", job);
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

  #keep(film, what, job) {
    return this.store.keep(film.id, what, { ...job, revision: film.seen }).catch(() => {});
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
    const [job = entry.verdict] = entry.masks.values();
    const based = film.seen;
    const answer = job.verdict
      ? await this.server.verdict(film.id, job.verdict, job.reason, based)
      : await this.server.putMask(film.id, job.slice, unpack(job.bits, job.length), based);
    this.#saved(entry, [job], answer, based);
  }

  #done(entry, job) {
    const { film, masks } = entry;
    if (entry.verdict === job) {
      entry.verdict = null;
      this.#forget(film, "verdict");
    } else if (masks.get(job.slice) === job) {
      masks.delete(job.slice);
      this.#forget(film, job.slice);
    }
  }

  #saved(entry, jobs, { revision, state }, based) {
    const { film } = entry;
    for (const job of jobs) this.#done(entry, job);
    film.seen = film.revision = revision;
    if (entry.verdict) this.#keep(film, "verdict", entry.verdict);
    entry.tries = 0;
    this.trouble = "";
    const waits = entry.masks.size || entry.verdict; // then the film's state is theirs already
    this.on.saved(film, waits ? film.state : state, based, jobs.map((job) => job.slice));
  }

  async #failed(entry, error) {
    const { status } = error;
    const { film } = entry;
    if (status === 409) {
      const { revision } = error.body;
      const jobs = await this.#findSaved(entry).catch(() => null);
      if (jobs?.length) this.#saved(entry, jobs, { revision, state: film.state }, revision);
      else if (jobs) entry.conflict = { revision };
    } else if (status >= 400 && status < 500) entry.conflict = { refused: error.message };
    else this.trouble = status ? error.message : "the server is away";
    if (entry.conflict) return this.on.conflict(film);
    entry.busy = false;
    entry.tries += 1;
    this.#later(entry, Math.min(250 * 2 ** entry.tries, LONGEST_WAIT));
  }

  /** Finds the jobs that the server has done: an answer was lost, or two windows did the same. */
  async #findSaved({ film, masks, verdict }) {
    const jobs = [...masks.values()];
    for (const job of jobs) {
      const { buffer } = await this.server.layer(film.id, "mask", job.slice, "current");
      const theirs = pack(new Uint8Array(buffer));
      if (!theirs.every((byte, i) => byte === job.bits[i])) return [];
    }
    if (jobs.length) return jobs;
    const { revision, verdict: word, reason } = await this.server.film(film.id);
    // One change since, and it is this one: on the mask that this window shows.
    const isSame = revision === film.seen + 1 && word === verdict.verdict;
    return isSame && reason === verdict.reason.split(/\s+/).join(" ") ? [verdict] : [];
  }

  /** Ends a conflict: keeps this window's over the other's, or gives it up. */
  resolve(film, keep) {
    const entry = this.entries.get(film.id);
    if (!entry?.conflict) return;
    film.seen = entry.conflict.revision ?? film.seen;
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
