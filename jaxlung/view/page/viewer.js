/** The film on the screen: what pointers and keys do to it. Knows nothing of a server. */

import * as draw from "./draw.js";
import { paste } from "./history.js";
import { fillHoles, isNothing, join, nothing, polygon, sideAt, smooth, stroke } from "./tools.js";

const MOST_PIXELS = 5e6; // of the screen; a larger one is drawn coarser, so that strokes stay quick

export class Viewer {
  /**
   * @param root the element with two canvases, `.shape` (an svg) and `.cursor` in it.
   * @param on edited(slice), scroll(steps), changed() of view, tool or window, say(text).
   */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    [this.base, this.overlay] = root.querySelectorAll("canvas");
    this.shape = root.querySelector(".shape polyline");
    this.cursorElement = root.querySelector(".cursor");
    this.film = document.createElement("canvas");
    this.tool = "brush";
    this.size = 0;
    this.look = { outline: true, fill: false, probability: false, other: true };
    this.points = []; // of the polygon under way, on the film
    this.pointers = new Map();
    this.dirty = nothing();
    new ResizeObserver(() => this.resize()).observe(root);
    const runs = {
      pointerdown: (event) => this.#down(event),
      pointermove: (event) => this.#move(event),
      pointerup: (event) => this.#up(event),
      pointercancel: (event) => this.#up(event, true),
      pointerleave: () => this.pointers.size || (this.cursorElement.hidden = true),
      wheel: (event) => this.#wheel(event),
      dblclick: () => this.closeShape(),
      contextmenu: (event) => event.preventDefault(),
      keyup: (event) => event.key === " " && !this.penDown && this.#endStroke(),
      blur: () => this.#endStroke(),
    };
    for (const [name, run] of Object.entries(runs)) {
      root.addEventListener(name, run, { passive: false });
    }
  }

  /** Shows a slice of a film; a new film is fitted and gets its own window. */
  show(info, slice, history, z, isNew) {
    this.#endStroke();
    Object.assign(this, { info, slice, history, z });
    const short = Math.min(info.width, info.height);
    if (isNew) {
      this.size = this.size ? Math.round((this.size * short) / this.short) || 1 : short / 20;
      this.size = Math.max(2, Math.round(this.size));
      this.short = short;
      this.points = [];
      this.cursor = null;
      this.fit();
      this.setWindow(info.low, info.high);
    } else this.#paintFilm();
  }

  /** Shows an empty screen. */
  clear() {
    this.#endStroke();
    this.info = this.slice = null;
    this.points = [];
    this.redraw();
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
    this.#drawCursor();
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

  /** Returns the point of the screen (in its pixels) where an event is. */
  #at(event) {
    const box = this.overlay.getBoundingClientRect();
    return { x: (event.clientX - box.left) * this.ratio, y: (event.clientY - box.top) * this.ratio };
  }

  #toFilm(point) {
    return draw.toFilm(this.view, point.x, point.y);
  }

  #down(event) {
    if (!this.slice) return;
    this.root.focus({ preventScroll: true });
    event.preventDefault();
    if (this.cursor) this.cursor = this.penDown = null;
    const at = this.#at(event);
    if (event.pointerType === "pen") this.hasPen = true;
    this.pointers.set(event.pointerId, at);
    try {
      this.root.setPointerCapture(event.pointerId);
    } catch {} // a pointer that is gone already
    if (this.pointers.size === 2) {
      // A second finger: what the first one began was no stroke.
      if (this.dragging === "shape") this.points.pop();
      this.#endStroke(true);
      this.dragging = "pinch";
    }
    if (this.pointers.size > 1) return;
    const finger = event.pointerType === "touch" && this.hasPen; // beside a pen, the hand moves
    if (event.button === 1 || finger || this.tool === "pan") this.dragging = "pan";
    else if (event.button === 2 || this.tool === "window") this.dragging = "window";
    else if (this.tool === "add" || this.tool === "cut") {
      this.dragging = "shape";
      this.#addPoint(this.#toFilm(at), at);
    } else {
      const erase = this.tool === "eraser" || event.buttons & 32; // the other end of a pen
      const line = event.shiftKey && this.last;
      this.#beginStroke(line || this.#toFilm(at), erase);
      if (line) this.#strokeTo(this.#toFilm(at), event.timeStamp);
    }
    this.moved = 0;
  }

  #move(event) {
    const at = this.#at(event);
    if (this.slice && event.pointerType !== "touch") this.#hover(at);
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.dragging === "pinch" && this.pointers.size === 2) {
      const [other] = [...this.pointers].find(([id]) => id !== event.pointerId).slice(1);
      const distance = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
      const middle = { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 };
      this.view.x += (at.x - before.x) / 2;
      this.view.y += (at.y - before.y) / 2;
      this.zoom(distance(at) / distance(before), middle.x, middle.y);
    } else if (this.dragging === "pan") this.pan(at.x - before.x, at.y - before.y);
    else if (this.dragging === "window") this.#dragWindow(at.x - before.x, at.y - before.y);
    else if (this.dragging === "shape") {
      const last = this.points.at(-1);
      if (last && this.#distance(at, last) > 6) this.#addPoint(this.#toFilm(at));
    } else if (this.stroke) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) {
        this.#strokeTo(this.#toFilm(this.#at(one)), one.timeStamp);
      }
    }
    this.moved += Math.abs(at.x - before.x) + Math.abs(at.y - before.y);
    this.pointers.set(event.pointerId, at);
  }

  #up(event, cancelled) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.stroke) this.#endStroke(cancelled);
    if (this.dragging === "pan" && this.tool === "pan" && this.moved < 3) {
      // A click with the hand brings the place to the middle: nothing needs a drag.
      const at = this.#at(event);
      this.pan(this.overlay.width / 2 - at.x, this.overlay.height / 2 - at.y);
    }
    if (!this.pointers.size) this.dragging = null;
  }

  #wheel(event) {
    event.preventDefault();
    if (!this.slice) return;
    const isZoom = event.ctrlKey || this.info.slices === 1;
    const at = this.#at(event);
    if (isZoom) this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), at.x, at.y);
    else this.on.scroll(Math.sign(event.deltaY));
  }

  /** Across is the width, down is the level, as on workstations. */
  #dragWindow(dx, dy) {
    const { low, high } = this.info;
    const step = (high - low) / 400 / this.ratio;
    const width = Math.max(this.high - this.low + dx * step, (high - low) / 200);
    const level = (this.high + this.low) / 2 + dy * step;
    this.setWindow(level - width / 2, level + width / 2);
  }

  #beginStroke(point, erase) {
    const { width, height, sides_known } = this.info;
    const side = sides_known ? sideAt(this.slice.mask, width, height, point) : 1;
    this.history.begin(this.slice.mask);
    this.stroke = { label: erase ? 0 : side, rect: nothing() };
    this.last = point;
    this.#strokeTo(point, performance.now());
  }

  #strokeTo(point, time) {
    const { width, height } = this.info;
    const { mask } = this.slice;
    const { label } = this.stroke;
    const rect = stroke(mask, width, height, this.last, point, this.size / 2, label);
    this.stroke.rect = join(this.stroke.rect, rect);
    this.last = point;
    this.#later(rect, time);
  }

  #endStroke(cancelled) {
    this.penDown = false;
    if (!this.stroke) return;
    const { rect } = this.stroke;
    this.stroke = null;
    if (cancelled) {
      this.history.cancel(this.slice.mask);
      this.#later(rect, performance.now());
    } else this.#commit(rect);
  }

  #commit(rect) {
    const changed = this.history.commit(this.slice.mask, this.info.width, rect, this.z);
    if (changed) this.on.edited(this.z);
    return changed;
  }

  /** Runs a change of the whole slice as one step that can be undone. */
  change(run) {
    if (!this.slice) return false;
    this.#endStroke();
    this.history.begin(this.slice.mask);
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
    this.on.edited(this.z);
    this.redraw();
  }

  #toScreen({ x, y }) {
    const { view } = this;
    return { x: view.x + x * view.scale, y: view.y + y * view.scale };
  }

  /** Returns how far a point of the screen is from one of the film, in pixels of the window. */
  #distance(at, point) {
    const there = this.#toScreen(point);
    return Math.hypot(at.x - there.x, at.y - there.y) / this.ratio;
  }

  /** Adds a corner; one on the first corner closes the shape. */
  #addPoint(point, at) {
    const { points } = this;
    if (at && points.length > 2 && this.#distance(at, points[0]) < 9) return this.closeShape();
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
    this.#endStroke(true);
    this.#drawShape();
    return had;
  }

  #drawShape(hover) {
    const points = hover && this.points.length ? [...this.points, hover] : this.points;
    const line = points.map((point) => {
      const { x, y } = this.#toScreen(point);
      return `${x / this.ratio},${y / this.ratio}`;
    });
    this.shape.setAttribute("points", line.join(" "));
    this.shape.classList.toggle("cut", this.tool === "cut");
  }

  #hover(at) {
    this.hovered = at;
    if (this.points.length && !this.dragging) this.#drawShape(this.#toFilm(at));
    this.#drawCursor();
  }

  /** A ring as large as the brush, at the pointer or at the keyboard's cursor. */
  #drawCursor() {
    const element = this.cursorElement;
    const at = this.cursor ? this.#toScreen(this.cursor) : this.hovered;
    const draws = this.tool === "brush" || this.tool === "eraser";
    element.hidden = !this.slice || !at || (!this.cursor && !draws);
    if (element.hidden) return;
    const size = draws ? Math.max((this.size * this.view.scale) / this.ratio, 3) : 9;
    element.classList.toggle("keyboard", Boolean(this.cursor));
    element.style.width = element.style.height = `${size}px`;
    const [x, y] = [at.x, at.y].map((value) => value / this.ratio - size / 2);
    element.style.transform = `translate(${x}px, ${y}px)`;
  }

  /** Moves the keyboard's cursor by pixels of the film, and paints where the pen is down. */
  moveCursor(dx, dy) {
    if (!this.slice) return;
    const { width, height } = this.info;
    const from = this.#cursorPoint();
    const clamp = (value, most) => Math.min(Math.max(value, 0.5), most - 0.5);
    this.cursor = { x: clamp(from.x + dx, width), y: clamp(from.y + dy, height) };
    if (this.stroke) this.#strokeTo(this.cursor, performance.now());
    const { x, y } = this.#toScreen(this.cursor);
    const beyond = (value, most) => Math.max(20 - value, 0) - Math.max(value - most + 20, 0);
    const push = [beyond(x, this.overlay.width), beyond(y, this.overlay.height)];
    if (push[0] || push[1]) this.pan(...push);
    this.#drawCursor();
    this.on.changed();
  }

  #cursorPoint() {
    const middle = { x: this.info.width / 2, y: this.info.height / 2 };
    const point = this.cursor ?? (this.hovered ? this.#toFilm(this.hovered) : middle);
    return { x: Math.floor(point.x) + 0.5, y: Math.floor(point.y) + 0.5 };
  }

  /** What Space does: a dab or the start of a stroke, or a corner. `hold` keeps the pen down. */
  press(hold) {
    if (!this.slice) return;
    this.cursor = this.#cursorPoint();
    if (this.tool === "add" || this.tool === "cut") {
      this.#addPoint(this.cursor);
      this.on.say(`Corner ${this.points.length}`);
    } else if (hold && this.penDown) {
      this.#endStroke();
      this.on.say("Pen up");
    } else if (!this.stroke && (this.tool === "brush" || this.tool === "eraser")) {
      this.#beginStroke(this.cursor, this.tool === "eraser");
      this.penDown = hold;
      if (hold) this.on.say("Pen down");
    }
    this.#drawCursor();
  }

  setTool(tool) {
    this.escape();
    this.tool = tool;
    this.root.dataset.tool = tool;
    this.#drawCursor();
    this.on.changed();
  }

  setSize(size) {
    this.size = Math.min(Math.max(Math.round(size), 1), Math.round(this.short / 2) || 500);
    this.#drawCursor();
    this.on.changed();
  }
}
