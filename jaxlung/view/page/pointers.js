/** What mouse, pen and fingers do to the film. */

/** Listens to the pointers of a viewer. */
export function watchPointers(viewer) {
  const held = new Map(); // by id, where it was last
  let dragging = null; // what the drag under way does
  let hasPen = false;
  let moved = 0;

  /** Returns the point of the screen (in its pixels) where an event is. */
  function pointOf(event) {
    const box = viewer.overlay.getBoundingClientRect();
    return { x: (event.clientX - box.left) * viewer.ratio, y: (event.clientY - box.top) * viewer.ratio };
  }

  function down(event) {
    if (!viewer.slice) return;
    viewer.root.focus({ preventScroll: true });
    event.preventDefault();
    viewer.cursor.leave();
    const at = pointOf(event);
    if (event.pointerType === "pen") hasPen = true;
    held.set(event.pointerId, at);
    try {
      viewer.root.setPointerCapture(event.pointerId);
    } catch {} // a pointer that is gone already
    if (held.size === 2) {
      // A second finger: what the first one began was no stroke.
      if (dragging === "shape") viewer.points.pop();
      viewer.endStroke(true);
      dragging = "pinch";
    }
    if (held.size > 1) return;
    const finger = event.pointerType === "touch" && hasPen; // beside a pen, the hand moves
    if (event.button === 1 || finger || viewer.tool === "pan") dragging = "pan";
    else if (event.button === 2 || viewer.tool === "window") dragging = "window";
    else if (viewer.tool === "add" || viewer.tool === "cut") {
      dragging = "shape";
      viewer.addPoint(viewer.toFilm(at), at);
    } else {
      const erase = viewer.tool === "eraser" || event.buttons & 32; // the other end of a pen
      const line = event.shiftKey && viewer.last;
      viewer.beginStroke(line || viewer.toFilm(at), erase);
      if (line) viewer.strokeTo(viewer.toFilm(at), event.timeStamp);
    }
    moved = 0;
  }

  function move(event) {
    const at = pointOf(event);
    if (viewer.slice && event.pointerType !== "touch") viewer.hover(at, dragging);
    const before = held.get(event.pointerId);
    if (!before) return;
    if (dragging === "pinch" && held.size === 2) {
      const [other] = [...held].find(([id]) => id !== event.pointerId).slice(1);
      const distance = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
      const middle = { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 };
      viewer.view.x += (at.x - before.x) / 2;
      viewer.view.y += (at.y - before.y) / 2;
      viewer.zoom(distance(at) / distance(before), middle.x, middle.y);
    } else if (dragging === "pan") viewer.pan(at.x - before.x, at.y - before.y);
    else if (dragging === "window") dragWindow(at.x - before.x, at.y - before.y);
    else if (dragging === "shape") {
      const last = viewer.points.at(-1);
      if (last && viewer.distance(at, last) > 6) viewer.addPoint(viewer.toFilm(at));
    } else if (viewer.stroke) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) {
        viewer.strokeTo(viewer.toFilm(pointOf(one)), one.timeStamp);
      }
    }
    moved += Math.abs(at.x - before.x) + Math.abs(at.y - before.y);
    held.set(event.pointerId, at);
  }

  function up(event, cancelled) {
    if (!held.delete(event.pointerId)) return;
    if (viewer.stroke) viewer.endStroke(cancelled);
    if (dragging === "pan" && viewer.tool === "pan" && moved < 3) {
      // A click with the hand brings the place to the middle: nothing needs a drag.
      const at = pointOf(event);
      viewer.pan(viewer.overlay.width / 2 - at.x, viewer.overlay.height / 2 - at.y);
    }
    if (!held.size) dragging = null;
  }

  function wheel(event) {
    event.preventDefault();
    if (!viewer.slice) return;
    const isZoom = event.ctrlKey || viewer.info.slices === 1;
    const at = pointOf(event);
    if (isZoom) viewer.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), at.x, at.y);
    else viewer.on.scroll(Math.sign(event.deltaY));
  }

  /** Across is the width, down is the level, as on workstations. */
  function dragWindow(dx, dy) {
    const { low, high } = viewer.info;
    const step = (high - low) / 400 / viewer.ratio;
    const width = Math.max(viewer.high - viewer.low + dx * step, (high - low) / 200);
    const level = (viewer.high + viewer.low) / 2 + dy * step;
    viewer.setWindow(level - width / 2, level + width / 2);
  }

  const runs = {
    pointerdown: down,
    pointermove: move,
    pointerup: up,
    pointercancel: (event) => up(event, true),
    pointerleave: () => held.size || viewer.cursor.hide(),
    wheel,
    dblclick: () => viewer.closeShape(),
    contextmenu: (event) => event.preventDefault(),
  };
  for (const [name, run] of Object.entries(runs)) {
    viewer.root.addEventListener(name, run, { passive: false });
  }
}
