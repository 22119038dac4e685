/** The keyboard's cursor on the film, and the ring as large as the brush. */

export class Cursor {
  constructor(viewer, element) {
    this.viewer = viewer;
    this.element = element;
    this.point = null; // of the film, once a key has moved it
    this.isDown = false; // the pen stays down, so that arrows draw
    viewer.root.addEventListener("keyup", (event) => {
      if (event.key === " " && !this.isDown) viewer.endStroke();
    });
    viewer.root.addEventListener("blur", () => viewer.endStroke());
  }

  hide() {
    this.element.hidden = true;
  }

  /** Gives way to the pointer. */
  leave() {
    if (this.point) this.point = this.isDown = null;
  }

  hover(at) {
    this.hovered = at;
    this.draw();
  }

  /** Draws the ring at the pointer, or at the cursor. */
  draw() {
    const { viewer, element, point } = this;
    const { tool, view, ratio } = viewer;
    const at = point ? viewer.toScreen(point) : this.hovered;
    const draws = tool === "brush" || tool === "eraser";
    element.hidden = !viewer.slice || !at || (!point && !draws);
    if (element.hidden) return;
    const size = draws ? Math.max((viewer.size * view.scale) / ratio, 3) : 9;
    element.classList.toggle("keyboard", Boolean(point));
    element.style.width = element.style.height = `${size}px`;
    const [x, y] = [at.x, at.y].map((value) => value / ratio - size / 2);
    element.style.transform = `translate(${x}px, ${y}px)`;
  }

  /** Moves by pixels of the film, and paints where the pen is down. */
  move(dx, dy) {
    const { viewer } = this;
    const { width, height } = viewer.info;
    const from = this.#start();
    const clamp = (value, most) => Math.min(Math.max(value, 0.5), most - 0.5);
    this.point = { x: clamp(from.x + dx, width), y: clamp(from.y + dy, height) };
    if (viewer.stroke) viewer.strokeTo(this.point, performance.now());
    const { x, y } = viewer.toScreen(this.point);
    const beyond = (value, most) => Math.max(20 - value, 0) - Math.max(value - most + 20, 0);
    const push = [beyond(x, viewer.overlay.width), beyond(y, viewer.overlay.height)];
    if (push[0] || push[1]) viewer.pan(...push);
    this.draw();
    viewer.on.changed();
  }

  /** Returns where the cursor is or comes up, at the centre of a pixel. */
  #start() {
    const { viewer, hovered } = this;
    const middle = { x: viewer.info.width / 2, y: viewer.info.height / 2 };
    const point = this.point ?? (hovered ? viewer.toFilm(hovered) : middle);
    return { x: Math.floor(point.x) + 0.5, y: Math.floor(point.y) + 0.5 };
  }

  /** What Space does: a dab or the start of a stroke, or a corner. `hold` keeps the pen down. */
  press(hold) {
    const { viewer } = this;
    const { tool } = viewer;
    this.point = this.#start();
    if (tool === "add" || tool === "cut") {
      viewer.addPoint(this.point);
      viewer.on.say(`Corner ${viewer.points.length}`);
    } else if (hold && this.isDown) {
      viewer.endStroke();
      viewer.on.say("Pen up");
    } else if (!viewer.stroke && (tool === "brush" || tool === "eraser")) {
      viewer.beginStroke(this.point, tool === "eraser");
      this.isDown = hold;
      if (hold) viewer.on.say("Pen down");
    }
    this.draw();
  }
}
