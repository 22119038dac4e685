// OpenCV's resize, written out so that a film has the same pixels here as in Python. Planes are
// {height, width, data}, data a Uint8Array or a Float32Array; results are of the same kind.

import { round } from "./round.js";

const { fround } = Math;
const FIXED = 2048; // weights of uint8 have 11 bits

// Averages areas along an axis that shrinks, interpolates along one that grows: as _resize of
// jaxlung/preprocess.py.
export function resize(plane, height, width) {
  const shrinksRows = height < plane.height;
  const shrinksColumns = width < plane.width;
  if (shrinksRows && shrinksColumns) return resizeArea(plane, height, width);
  if (shrinksRows) plane = resizeArea(plane, height, plane.width);
  else if (shrinksColumns) plane = resizeArea(plane, plane.height, width);
  return resizeLinear(plane, height, width);
}

// INTER_AREA; neither axis grows.
export function resizeArea(plane, height, width) {
  if (height === plane.height && width === plane.width) return plane;
  const [scaleY, scaleX] = [1 / (height / plane.height), 1 / (width / plane.width)];
  const whole = [scaleY, scaleX].every((s) => Math.abs(s - Math.round(s)) < Number.EPSILON);
  return whole
    ? averageBlocks(plane, height, width, Math.round(scaleY), Math.round(scaleX))
    : averageAreas(plane, height, width, scaleY, scaleX);
}

function averageBlocks(plane, height, width, rows, columns) {
  const data = new plane.data.constructor(height * width);
  const isByte = data instanceof Uint8Array;
  const factor = fround(1 / (rows * columns));
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to++) {
      let sum = 0;
      for (let i = 0; i < rows; i++) {
        const from = (y * rows + i) * plane.width + x * columns;
        for (let j = 0; j < columns; j++) sum += plane.data[from + j];
      }
      if (!isByte) data[to] = fround(sum) * factor;
      else if (rows === 2 && columns === 2) data[to] = (sum + 2) >> 2; // rounds halves up
      else data[to] = round(fround(sum * factor));
    }
  }
  return { height, width, data };
}

// Which pixels make up each pixel of the result along an axis, and their shares.
function areas(source, target, scale) {
  const [to, from, share] = [[], [], []];
  const add = (i, k, value) => {
    to.push(i);
    from.push(k);
    share.push(fround(value));
  };
  for (let i = 0; i < target; i++) {
    const start = i * scale;
    const end = start + scale;
    const cell = Math.min(scale, source - start);
    const last = Math.min(Math.floor(end), source - 1);
    const first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) add(i, first - 1, (first - start) / cell);
    for (let k = first; k < last; k++) add(i, k, 1 / cell);
    if (end - last > 1e-3) add(i, last, Math.min(Math.min(end - last, 1), cell) / cell);
  }
  return { to: Int32Array.from(to), from: Int32Array.from(from), share: Float32Array.from(share) };
}

function averageAreas(plane, height, width, scaleY, scaleX) {
  const rows = areas(plane.height, height, scaleY);
  const columns = areas(plane.width, width, scaleX);
  const data = new plane.data.constructor(height * width);
  const isByte = data instanceof Uint8Array;
  const [row, sum] = [new Float32Array(width), new Float32Array(width)];
  for (let j = 0; j < rows.to.length; j++) {
    const start = rows.from[j] * plane.width;
    row.fill(0);
    for (let k = 0; k < columns.to.length; k++) {
      row[columns.to[k]] += fround(plane.data[start + columns.from[k]] * columns.share[k]);
    }
    const share = rows.share[j];
    const y = rows.to[j];
    const isFirst = j === 0 || rows.to[j - 1] !== y;
    for (let x = 0; x < width; x++) {
      const part = fround(share * row[x]);
      sum[x] = isFirst ? part : sum[x] + part;
    }
    if (j + 1 === rows.to.length || rows.to[j + 1] !== y) {
      for (let x = 0; x < width; x++) data[y * width + x] = isByte ? round(sum[x]) : sum[x];
    }
  }
  return { height, width, data };
}

// For each pixel of the result along an axis the pixel before it, and the share of the next one.
function neighbours(source, target, isByte) {
  const scale = 1 / (target / source);
  const before = new Int32Array(target);
  const share = new Float32Array(target);
  for (let i = 0; i < target; i++) {
    const exact = (i + 0.5) * scale - 0.5;
    const place = isByte ? fround(exact) : exact; // as OpenCV has them
    before[i] = Math.floor(place);
    share[i] = place - before[i];
  }
  return { before, share };
}

// INTER_LINEAR, along both axes.
export function resizeLinear(plane, height, width) {
  if (height === plane.height && width === plane.width) return plane;
  const isByte = plane.data instanceof Uint8Array;
  const rows = neighbours(plane.height, height, isByte);
  const columns = neighbours(plane.width, width, isByte);
  for (let x = 0; x < width; x++) {
    // Rows beyond the edge repeat it; columns lie on it.
    const last = plane.width - 1;
    if (columns.before[x] < 0) [columns.before[x], columns.share[x]] = [0, 0];
    else if (columns.before[x] >= last) [columns.before[x], columns.share[x]] = [last, 0];
  }
  const weigh = (share) => [1 - share, share].map((w) => (isByte ? round(fround(w) * FIXED) : fround(w)));
  const [left, right] = [0, 1].map((k) => Float32Array.from(columns.share, (s) => weigh(s)[k]));
  const Row = isByte ? Int32Array : Float32Array;
  const kept = [
    { of: -1, data: new Row(width) },
    { of: -1, data: new Row(width) },
  ];
  // A row of the source, interpolated along its columns; the last two are kept.
  const rowOf = (i, other) => {
    const y = Math.min(Math.max(i, 0), plane.height - 1);
    let one = kept.find((each) => each.of === y);
    if (one) return one;
    one = kept[0] === other ? kept[1] : kept[0];
    one.of = y;
    const start = y * plane.width;
    const { data } = plane;
    for (let x = 0; x < width; x++) {
      const at = start + columns.before[x];
      const next = columns.before[x] + 1 < plane.width ? data[at + 1] : 0;
      one.data[x] = isByte
        ? data[at] * left[x] + next * right[x]
        : fround(data[at] * left[x]) + fround(next * right[x]);
    }
    return one;
  };
  const data = new plane.data.constructor(height * width);
  for (let y = 0, to = 0; y < height; y++) {
    const [above, below] = weigh(rows.share[y]);
    const one = rowOf(rows.before[y], null);
    const other = rowOf(rows.before[y] + 1, one);
    const [a, b] = [one.data, other.data];
    if (isByte) {
      for (let x = 0; x < width; x++, to++) {
        data[to] = (((above * (a[x] >> 4)) >> 16) + ((below * (b[x] >> 4)) >> 16) + 2) >> 2;
      }
    } else {
      for (let x = 0; x < width; x++, to++) data[to] = fround(a[x] * above) + fround(b[x] * below);
    }
  }
  return { height, width, data };
}
