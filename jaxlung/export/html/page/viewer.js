// Shows one film with its mask: zoom, moving, and what is drawn over it.

import { drawFilm, drawMask, fitView, paintFilm, windowTable, zoomView } from "./draw.js";

const GREYS = windowTable(8, 0, 255, false);
const MOST_PIXELS = 4e6; // of the screen's canvas

export class FilmViewer {
  constructor(root) {
    this.root = root;
    [this.base, this.over] = root.querySelectorAll("canvas");
    this.film = null;
    this.canvas = document.createElement("canvas");
    this.look = { outline: true, fill: false, heat: false };
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(root);
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    root.addEventListener("pointerdown", (event) => this.#down(event));
    root.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      root.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
  }

  // film: {height, width, image, labels, probability}, or null.
  show(film) {
    const isSame = film && this.film && film.key === this.film.key;
    this.film = film;
    if (film) paintFilm(this.canvas, film.image, film.width, film.height, GREYS);
    if (!isSame) this.fit();
    else this.redraw();
  }

  resize() {
    const { width, height } = this.root.getBoundingClientRect();
    if (!width || !height) return;
    this.ratio = Math.min(devicePixelRatio, 2, Math.sqrt(MOST_PIXELS / (width * height)));
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    this.fit();
  }

  fit() {
    if (!this.film) return this.redraw();
    this.view = fitView(this.film.width, this.film.height, this.base.width, this.base.height, 8);
    return this.redraw();
  }

  zoom(factor, x = this.base.width / 2, y = this.base.height / 2) {
    if (!this.film) return;
    this.view = zoomView(this.view, factor, x, y);
    this.redraw();
  }

  pan(dx, dy) {
    if (!this.film) return;
    this.view = { ...this.view, x: this.view.x + dx, y: this.view.y + dy };
    this.redraw();
  }

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#draw();
    });
  }

  #draw() {
    const over = this.over.getContext("2d");
    const base = this.base.getContext("2d", { alpha: false });
    if (!this.film) {
      over.clearRect(0, 0, this.over.width, this.over.height);
      base.setTransform(1, 0, 0, 1, 0, 0);
      base.fillRect(0, 0, this.base.width, this.base.height);
      return;
    }
    drawFilm(base, this.canvas, this.view);
    const rect = { x0: 0, y0: 0, x1: this.over.width, y1: this.over.height };
    drawMask(over, rect, this.view, this.#drawn(), this.#look(Math.max(1, Math.round(this.ratio))));
  }

  #drawn() {
    const { width, height, labels, probability } = this.film;
    const { outline, fill, heat } = this.look;
    const mask = outline || fill ? labels : null;
    return { width, height, mask, probability: heat ? probability : null, other: null };
  }

  #look(reach) {
    return { outline: this.look.outline, fill: this.look.fill, reach };
  }

  // The film at its own size with what is drawn over it, as PNG.
  async overlay() {
    const { width, height, image } = this.film;
    const [base, over] = [0, 1].map(() => document.createElement("canvas"));
    paintFilm(base, image, width, height, GREYS);
    Object.assign(over, { width, height });
    const reach = Math.max(1, Math.round(Math.max(width, height) / 800));
    const rect = { x0: 0, y0: 0, x1: width, y1: height };
    const look = this.look.outline || this.look.fill || this.look.heat ? this.look : { outline: true };
    const drawn = { ...this.#drawn(), mask: this.film.labels };
    drawMask(over.getContext("2d"), rect, { scale: 1, x: 0, y: 0 }, drawn, { ...look, reach });
    base.getContext("2d").drawImage(over, 0, 0);
    return new Promise((resolve) => base.toBlob(resolve, "image/png"));
  }

  #at(event) {
    const box = this.base.getBoundingClientRect();
    return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
  }

  #wheel(event) {
    if (!this.film) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), ...this.#at(event));
  }

  #down(event) {
    if (!this.film) return;
    this.pointers.set(event.pointerId, this.#at(event));
    this.root.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const at = this.#at(event);
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    const share = others.length ? 0.5 : 1;
    this.pan(share * (at[0] - before[0]), share * (at[1] - before[1]));
    if (others.length) {
      const [other] = others.map(([, place]) => place);
      const away = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
      this.zoom(away(at) / away(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
    }
    this.pointers.set(event.pointerId, at);
  }
}
