/** Keeps what the server has not got yet in this browser, so that closing it loses nothing.
 *
 * A record is {key, review, window, film, revision, slice, bits, length} or {..., verdict, reason}.
 * Where the browser gives no IndexedDB (a private window of some), records last as long as the page.
 */

const asPromise = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Store {
  constructor(review) {
    this.review = review;
    this.window = `${Date.now()}-${Math.random()}`;
    this.database = this.#open();
    // Held as long as this window lives: another one then leaves its records alone.
    navigator.locks?.request(this.#lock(this.window), () => new Promise(() => {}));
  }

  #lock(window) {
    return `jaxlung ${window}`;
  }

  async #open() {
    try {
      const request = indexedDB.open("jaxlung", 1);
      request.onupgradeneeded = () =>
        request.result.createObjectStore("unsaved", { keyPath: "key" });
      return await asPromise(request);
    } catch {
      return null;
    }
  }

  async #records(mode) {
    const database = await this.database;
    // The default of browsers lets a record wait in memory of the system; this one is for power cuts.
    const transaction = database?.transaction("unsaved", mode, { durability: "strict" });
    return transaction?.objectStore("unsaved");
  }

  #key(film, what) {
    return [this.review, this.window, film, what].join("\n");
  }

  /** Keeps a record until `drop` of the same film and slice (or "verdict"). */
  async keep(film, what, record) {
    const records = await this.#records("readwrite");
    const key = this.#key(film, what);
    const owner = { key, review: this.review, window: this.window, film };
    return records && asPromise(records.put({ ...record, ...owner }));
  }

  async drop(film, what) {
    const records = await this.#records("readwrite");
    return records && asPromise(records.delete(this.#key(film, what)));
  }

  /** Takes over the records of this review whose windows are gone. */
  async inherit() {
    const records = await this.#records("readonly");
    if (!records) return [];
    const all = await asPromise(records.getAll());
    const held = (await navigator.locks?.query())?.held.map((lock) => lock.name) ?? [];
    const mine = all.filter((record) => {
      return record.review === this.review && !held.includes(this.#lock(record.window));
    });
    for (const record of mine) {
      await this.keep(record.film, record.verdict ? "verdict" : record.slice, record);
      if (record.window !== this.window) {
        await asPromise((await this.#records("readwrite")).delete(record.key));
      }
    }
    return mine;
  }
}
