/** The list of films: only the rows in sight are on the page, so that thousands are light. */

export const STATES = { open: "To look at", accepted: "Accepted", corrected: "Corrected", rejected: "Rejected" };

/** Returns in a few words why a film deserves eyes, or how sure the model was. */
export function reasonOf(film) {
  if (film.error) return "Cannot be read";
  if (!film.ready) return "Being predicted";
  if (film.warnings.length) return film.warnings[0];
  if (film.given_dice !== null && film.given_dice < 0.9) {
    return `Dice to the given mask ${film.given_dice.toFixed(2)}`;
  }
  return film.confidence === null ? "" : `Confidence ${film.confidence.toFixed(2)}`;
}

/** Orders films: what needs eyes most first; what is not predicted yet last. */
export function order(films) {
  const rank = (film) => (film.ready || film.error ? film.attention : -Infinity);
  return [...films].sort((a, b) => rank(b) - rank(a) || a.index - b.index);
}

export class List {
  /** @param on open(id, picked by a click), thumbnail(id) to an address, unsaved(id) to whether it waits. */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.films = [];
    this.rows = new Map();
    this.space = document.createElement("div");
    this.space.setAttribute("role", "presentation");
    root.append(this.space);
    root.addEventListener("scroll", () => this.draw(), { passive: true });
    root.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) this.on.open(row.dataset.id, true);
    });
    root.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw()).observe(root);
  }

  get height() {
    return matchMedia("(pointer: coarse)").matches ? 76 : 68;
  }

  set(films, current) {
    this.films = films;
    this.select(current, false);
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.root.clientHeight / this.height) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    if (!(event.key in steps) || !this.films.length) return;
    event.preventDefault();
    event.stopPropagation();
    const at = this.films.findIndex((film) => film.id === this.current);
    const next = Math.min(Math.max(at + steps[event.key], 0), this.films.length - 1);
    this.on.open(this.films[next].id);
  }

  select(id, reveal = true) {
    this.current = id;
    const at = this.films.findIndex((film) => film.id === id);
    if (reveal && at >= 0) {
      const top = at * this.height;
      const { scrollTop, clientHeight } = this.root;
      if (top < scrollTop) this.root.scrollTop = top;
      else if (top + this.height > scrollTop + clientHeight) {
        this.root.scrollTop = top + this.height - clientHeight;
      }
    }
    this.draw();
  }

  draw() {
    const { height } = this;
    this.space.style.height = `${this.films.length * height}px`;
    const first = Math.max(0, Math.floor(this.root.scrollTop / height) - 3);
    const end = Math.min(
      this.films.length,
      Math.ceil((this.root.scrollTop + this.root.clientHeight) / height) + 3,
    );
    const shown = new Map();
    for (let i = first; i < end; i++) shown.set(this.films[i].id, i);
    for (const [id, row] of this.rows) {
      if (!shown.has(id)) {
        row.remove();
        this.rows.delete(id);
      }
    }
    for (const [id, i] of shown) this.#row(this.films[i], i, height);
    const isHere = this.rows.has(this.current);
    if (isHere) this.root.setAttribute("aria-activedescendant", `film-${this.current}`);
    else this.root.removeAttribute("aria-activedescendant");
  }

  #row(film, i, height) {
    let row = this.rows.get(film.id);
    if (!row) {
      row = document.getElementById("row").content.firstElementChild.cloneNode(true);
      row.id = `film-${film.id}`;
      row.dataset.id = film.id;
      this.space.append(row);
      this.rows.set(film.id, row);
    }
    const [image, name, reason, state] = row.querySelectorAll("img, .name, .reason, .state");
    const address = this.on.thumbnail(film.id);
    if ((film.ready || film.error) && image.getAttribute("src") !== address && !film.error) {
      image.src = address;
      image.hidden = false;
    }
    const unsaved = this.on.unsaved(film.id);
    name.textContent = film.name;
    name.title = film.name;
    reason.textContent = film.state === "rejected" && film.reason ? film.reason : reasonOf(film);
    reason.classList.toggle("warn", Boolean(film.error || film.warnings.length));
    state.textContent = STATES[film.state] + (unsaved ? ", not saved yet" : "");
    row.dataset.state = film.state;
    row.classList.toggle("unsaved", unsaved);
    row.style.transform = `translateY(${i * height}px)`;
    row.setAttribute("aria-selected", film.id === this.current);
    row.setAttribute("aria-posinset", i + 1);
    row.setAttribute("aria-setsize", this.films.length);
  }
}
