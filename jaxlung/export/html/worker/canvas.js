// From a film of any size to the network's canvas, and back: jaxlung/preprocess.py.

import { resize } from "./resize.js";
import { round } from "./round.js";

export function canvasGeometry(height, width, size, fit) {
  if (fit === "stretch") return { height, width, size, top: 0, left: 0, boxHeight: size, boxWidth: size };
  const scale = size / Math.max(height, width);
  const boxHeight = Math.min(size, Math.max(1, round(height * scale)));
  const boxWidth = Math.min(size, Math.max(1, round(width * scale)));
  const top = Math.floor((size - boxHeight) / 2);
  const left = Math.floor((size - boxWidth) / 2);
  return { height, width, size, top, left, boxHeight, boxWidth };
}

// A plane of uint8 to uint8 [size, size].
export function toCanvas(plane, geometry) {
  const { size, top, left, boxHeight, boxWidth } = geometry;
  const box = resize(plane, boxHeight, boxWidth);
  const canvas = new Uint8Array(size * size);
  for (let i = 0; i < boxHeight; i++) {
    const row = box.data.subarray(i * boxWidth, (i + 1) * boxWidth);
    canvas.set(row, (top + i) * size + left);
  }
  return canvas;
}

// Probabilities float32 [size, size] to the film's own grid, within their own range.
export function fromCanvas(canvas, geometry) {
  const { height, width, size, top, left, boxHeight, boxWidth } = geometry;
  const box = new Float32Array(boxHeight * boxWidth);
  for (let i = 0; i < boxHeight; i++) {
    const start = (top + i) * size + left;
    box.set(canvas.subarray(start, start + boxWidth), i * boxWidth);
  }
  let [low, high] = [Infinity, -Infinity];
  for (const value of box) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const plane = resize({ height: boxHeight, width: boxWidth, data: box }, height, width);
  const { data } = plane;
  for (let i = 0; i < data.length; i++) {
    if (data[i] < low) data[i] = low;
    else if (data[i] > high) data[i] = high;
  }
  return plane;
}

// Turns a plane clockwise by a multiple of 90 degrees.
export function rotate(plane, degrees) {
  const quarter = (((degrees / 90) % 4) + 4) % 4;
  if (quarter === 0) return plane;
  const [h, w] = [plane.height, plane.width];
  const [height, width] = quarter % 2 ? [w, h] : [h, w];
  const data = new plane.data.constructor(plane.data.length);
  for (let i = 0, to = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      let from;
      if (quarter === 1) from = (h - 1 - j) * w + i;
      else if (quarter === 2) from = (h - 1 - i) * w + (w - 1 - j);
      else from = j * w + (w - 1 - i);
      data[to++] = plane.data[from];
    }
  }
  return { height, width, data };
}
