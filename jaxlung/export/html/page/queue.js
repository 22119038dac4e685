// Films wait here for the worker, which sees one at a time. A film to be shown goes before those of the
// list. A worker that hangs or dies on a file is replaced, and the others go on.

const PATIENCE = 180_000; // ms for a film: phones take some seconds for large ones
const TOO_LONG = "took longer than three minutes; export it again, or make it smaller";
const DIED = "is too much for this browser; make it smaller";

export class WorkQueue {
  // make() returns a worker, and start() what it is to be told first.
  constructor(make, start) {
    Object.assign(this, { make, start });
    this.waiting = [];
    this.current = null;
    this.next = 0;
    this.begin();
  }

  begin() {
    this.worker = this.make();
    this.worker.onmessage = ({ data }) => this.#answer(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.#giveUp(DIED);
    };
    this.ready = new Promise((resolve, reject) => {
      this.current = { resolve, reject, id: this.next++ };
    });
    this.ready.catch(() => {});
    Promise.resolve(this.start()).then(
      (start) => this.worker.postMessage({ id: this.current.id, start }),
      (error) => this.#answer({ id: this.current.id, error: String(error) }),
    );
  }

  // Returns what the worker answers; `first` goes before all that wait.
  ask(message, first = false) {
    return new Promise((resolve, reject) => {
      const entry = { message, resolve, reject, id: this.next++ };
      if (first) this.waiting.unshift(entry);
      else this.waiting.push(entry);
      this.#send();
    });
  }

  // Drops what waits; the film under way is finished and forgotten.
  clear() {
    this.waiting = [];
  }

  #send() {
    if (this.current || !this.waiting.length) return;
    this.current = this.waiting.shift();
    const { id, message } = this.current;
    this.timer = setTimeout(() => this.#giveUp(TOO_LONG), PATIENCE);
    this.worker.postMessage({ id, ...message });
  }

  #answer(data) {
    const entry = this.current;
    if (!entry || entry.id !== data.id) return;
    clearTimeout(this.timer);
    this.current = null;
    if (data.error) entry.reject(new Error(data.error, { cause: data.cause }));
    else entry.resolve(data);
    this.#send();
  }

  #giveUp(reason) {
    clearTimeout(this.timer);
    this.worker.terminate();
    const entry = this.current;
    const wasStart = entry && !entry.message;
    this.current = null;
    entry?.reject(new Error(reason));
    if (wasStart) return; // it would die again
    this.begin();
  }
}
