/** The film on the screen: its view, strokes and shapes. Knows nothing of a server. */

import * as draw from "./draw.js";
import { Cursor } from "./cursor.js";
import { paste } from "./history.js";
import { watchPointers } from "./pointers.js";
import { fillHoles, isNothing, join, nothing, polygon, sideAt, smooth, stroke } from "./tools.js";

const MOST_PIXELS = 5e6; // of the screen; a larger one is drawn coarser, so that strokes stay quick

export class Viewer {
  /**
   * @param root the element with two canvases, `.shape` (an svg) and `.cursor` in it.
   * @param on edited() of what is shown, scroll(steps), changed() of view, tool or window, say(text).
   */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    [this.base, this.overlay] = root.querySelectorAll("canvas");
    this.shape = root.querySelector(".shape polyline");
    this.film = document.createElement("canvas");
    this.shown = { film: null, entry: null, slice: null, z: 0 };
    this.tool = "brush";
    this.size = 0;
    this.look = { outline: true, fill: false, probability: false, other: true };
    this.points = []; // of the polygon under way, on the film
    this.dirty = nothing();
    new ResizeObserver(() => this.resize()).observe(root);
    this.cursor = new Cursor(this, root.querySelector(".cursor"));
    watchPointers(this);
  }

  get slice() {
    return this.shown.slice;
  }

  get info() {
    return this.shown.entry?.info;
  }

  get z() {
    return this.shown.z;
  }

  get #history() {
    return this.shown.entry.history;
  }

  /** Shows a slice of a film, or an empty screen; a new film is fitted and gets its own window.
   *
   * @param shown {film, entry, slice, z} of screen.js; here alone it changes.
   */
  show(shown, isNew) {
    this.endStroke();
    this.shown = shown;
    if (!isNew && shown.slice) return this.#paintFilm();
    this.points = [];
    this.cursor.point = null;
    if (!shown.slice) return this.redraw();
    const { width, height, low, high } = this.info;
    const short = Math.min(width, height);
    this.size = this.size ? Math.round((this.size * short) / this.short) || 1 : short / 20;
    this.size = Math.max(2, Math.round(this.size));
    this.short = short;
    this.fit();
    this.setWindow(low, high);
  }

  setWindow(low, high) {
    Object.assign(this, { low, high });
    this.#paintFilm();
    this.on.changed();
  }

  #paintFilm() {
    if (!this.slice) return;
    const { width, height, bits, inverted } = this.info;
    const table = draw.windowTable(bits, this.low, this.high, inverted);
    draw.paintFilm(this.film, this.slice.pixels, width, height, table);
    this.redraw();
  }

  resize() {
    const { width, height } = this.root.getBoundingClientRect();
    if (!width || !height) return;
    const before = this.ratio;
    this.ratio = Math.min(devicePixelRatio, 2, Math.sqrt(MOST_PIXELS / (width * height)));
    for (const canvas of [this.base, this.overlay]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    if (this.fitted || before !== this.ratio) this.fit();
    else this.redraw();
  }

  fit() {
    if (!this.info) return this.redraw();
    const { width, height } = this.overlay;
    this.view = draw.fitView(this.info.width, this.info.height, width, height, 8);
    this.fitted = true;
    this.redraw();
  }

  /** Zooms about a point of the screen, or about its middle. */
  zoom(factor, x = this.overlay.width / 2, y = this.overlay.height / 2) {
    this.view = draw.zoomView(this.view, factor, x, y);
    this.fitted = false;
    this.redraw();
  }

  pan(dx, dy) {
    this.view = { ...this.view, x: this.view.x + dx, y: this.view.y + dy };
    this.fitted = false;
    this.redraw();
  }

  redraw() {
    const context = this.base.getContext("2d", { alpha: false });
    if (!this.slice) {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.fillRect(0, 0, this.base.width, this.base.height);
      this.overlay.getContext("2d").clearRect(0, 0, this.overlay.width, this.overlay.height);
    } else {
      draw.drawFilm(context, this.film, this.view);
      this.#drawMask({ x0: 0, y0: 0, x1: this.overlay.width, y1: this.overlay.height });
    }
    this.#drawShape();
    this.cursor.draw();
    this.on.changed();
  }

  #drawMask(rect) {
    const { look, slice } = this;
    const film = {
      width: this.info.width,
      height: this.info.height,
      mask: look.outline || look.fill ? slice.mask : null,
      probability: look.probability ? slice.probability : null,
      other: look.other ? slice.other : null,
    };
    const reach = Math.max(1, Math.round(this.ratio));
    draw.drawMask(this.overlay.getContext("2d"), rect, this.view, film, { ...look, reach });
  }

  /** Draws at the next frame what a stroke has changed since the last one. */
  #later(rect, time) {
    this.dirty = join(this.dirty, rect);
    this.since ??= time;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      const { width, height } = this.overlay;
      if (this.slice && !isNothing(this.dirty)) {
        this.#drawMask(draw.toScreen(this.view, this.dirty, width, height));
      }
      this.dirty = nothing();
      performance.measure("stroke", { start: this.since, end: performance.now() });
      this.since = null;
    });
  }

  toFilm(point) {
    return draw.toFilm(this.view, point.x, point.y);
  }

  beginStroke(point, erase) {
    const { width, height, sides_known } = this.info;
    const side = sides_known ? sideAt(this.slice.mask, width, height, point) : 1;
    this.#history.begin(this.slice.mask);
    this.stroke = { label: erase ? 0 : side, rect: nothing() };
    this.last = point;
    this.strokeTo(point, performance.now());
  }

  strokeTo(point, time) {
    const { width, height } = this.info;
    const { mask } = this.slice;
    const { label } = this.stroke;
    const rect = stroke(mask, width, height, this.last, point, this.size / 2, label);
    this.stroke.rect = join(this.stroke.rect, rect);
    this.last = point;
    this.#later(rect, time);
  }

  endStroke(cancelled) {
    this.cursor.isDown = false;
    if (!this.stroke) return;
    const { rect } = this.stroke;
    this.stroke = null;
    if (cancelled) {
      this.#history.cancel(this.slice.mask);
      this.#later(rect, performance.now());
    } else this.#commit(rect);
  }

  #commit(rect) {
    const changed = this.#history.commit(this.slice.mask, this.info.width, rect, this.z);
    if (changed) this.on.edited();
    return changed;
  }

  /** Runs a change of the whole slice as one step that can be undone. */
  change(run) {
    if (!this.slice) return false;
    this.endStroke();
    this.#history.begin(this.slice.mask);
    const rect = run(this.slice.mask, this.info.width, this.info.height);
    const changed = !isNothing(rect) && this.#commit(rect);
    this.redraw();
    return changed;
  }

  fillHoles() {
    return this.change(fillHoles);
  }

  smooth() {
    const radius = Math.max(1, Math.round(this.short / 150));
    return this.change((mask, width, height) => smooth(mask, width, height, radius));
  }

  /** Pastes a step of the history into the slice shown. */
  applyStep(step) {
    paste(this.slice.mask, this.info.width, step.rect, step.part);
    this.on.edited();
    this.redraw();
  }

  toScreen({ x, y }) {
    const { view } = this;
    return { x: view.x + x * view.scale, y: view.y + y * view.scale };
  }

  /** Returns how far a point of the screen is from one of the film, in pixels of the window. */
  distance(at, point) {
    const there = this.toScreen(point);
    return Math.hypot(at.x - there.x, at.y - there.y) / this.ratio;
  }

  /** Adds a corner; one on the first corner closes the shape. */
  addPoint(point, at) {
    const { points } = this;
    if (at && points.length > 2 && this.distance(at, points[0]) < 9) return this.closeShape();
    this.points.push(point);
    this.#drawShape();
  }

  closeShape() {
    const points = this.points;
    this.points = [];
    this.#drawShape();
    if (points.length < 3 || !this.slice) return false;
    const { sides_known } = this.info;
    return this.change((mask, width, height) => {
      const mean = (axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length;
      const middle = { x: mean("x"), y: mean("y") };
      const side = sides_known ? sideAt(mask, width, height, middle) : 1;
      return polygon(mask, width, height, points, this.tool === "cut" ? 0 : side);
    });
  }

  /** Gives up the shape or stroke under way; returns whether there was one. */
  escape() {
    const had = this.points.length > 0 || Boolean(this.stroke);
    this.points = [];
    this.endStroke(true);
    this.#drawShape();
    return had;
  }

  #drawShape(hover) {
    const points = hover && this.points.length ? [...this.points, hover] : this.points;
    const line = points.map((point) => {
      const { x, y } = this.toScreen(point);
      return `${x / this.ratio},${y / this.ratio}`;
    });
    this.shape.setAttribute("points", line.join(" "));
    this.shape.classList.toggle("cut", this.tool === "cut");
  }

  hover(at, dragging) {
    if (this.points.length && !dragging) this.#drawShape(this.toFilm(at));
    this.cursor.hover(at);
  }

  setTool(tool) {
    this.escape();
    this.tool = tool;
    this.root.dataset.tool = tool;
    this.cursor.draw();
    this.on.changed();
  }

  setSize(size) {
    this.size = Math.min(Math.max(Math.round(size), 1), Math.round(this.short / 2) || 500);
    this.cursor.draw();
    this.on.changed();
  }
}
