// Is this an upright frontal chest film? jaxlung/gate/features.py, classifier.py and image.py. `gate`
// has their constants, their words and the classifier's arrays.

import { rotate } from "./canvas.js";
import { measureSpread, quantiles } from "./grey.js";
import { resizeArea, resizeLinear } from "./resize.js";
import { round } from "./round.js";

const [SIDE, CELLS, BINS, THUMB] = [64, 8, 12, 16];
const SMALL = 128;
const PLAIN = 0.08;
const MIRRORED = { "turned 90": "turned 270", "turned 270": "turned 90" };
const NONE = { inverted: false, degrees: 0 };

// A verdict {inverted, degrees, warnings} on a plane of uint8.
export function examine(grey, coloured, gate, turns = true) {
  const { height, width } = grey;
  const warnings = [];
  if (coloured) warnings.push("is in colour, a photograph or a drawing: give the X-ray image itself");
  if (Math.min(height, width) < gate.tiny) {
    warnings.push(`is tiny (${height}x${width} pixels): give the image at its full size`);
  }
  const { square, aspect } = smallSquare(grey);
  const spread = measureSpread(square.data);
  if (spread < gate.low_contrast) {
    const looks = spread < gate.blank ? "is blank or almost so" : "has low contrast";
    return { ...NONE, warnings: [...warnings, `${looks}: check that it is the right picture`] };
  }
  const ratio = Math.max(aspect, 1 / aspect);
  if (ratio > gate.long) {
    const [is, other] = aspect > 1 ? ["wide", "high"] : ["high", "wide"];
    warnings.push(
      `is ${ratio.toFixed(1)} times as ${is} as ${other}, which no frontal chest X-ray is`,
    );
  }
  const found = classify(square, gate, turns);
  return { ...NONE, ...found, warnings: [...warnings, ...found.warnings] };
}

function classify(square, gate, turns) {
  const { words, sure } = gate;
  const { likely, isUsual } = judge(square, gate);
  const name = best(likely, Object.keys(words));
  if (name === "lateral" && likely.lateral >= gate.lateral * likely.upright) {
    return { warnings: [words.lateral] };
  }
  if (likely.upright >= gate.upright) return { warnings: isUsual ? [] : [words.other] };
  if (name === "inverted") return classifyInverted(square, likely.inverted, gate);
  if (name.startsWith("turned") && turns) {
    const degrees = Number(name.split(" ")[1]);
    const after = judge(rotate(square, -degrees), gate);
    if (Math.min(likely[name], after.likely.upright) >= sure && after.isUsual) {
      return { degrees, warnings: [gate.turned[degrees]] };
    }
  }
  return { warnings: [words[name]] };
}

function classifyInverted(square, likely, gate) {
  const { words, sure } = gate;
  const after = judge({ ...square, data: square.data.map((value) => 255 - value) }, gate);
  const name = best(after.likely, gate.classes);
  if (name.startsWith("turned")) {
    return { warnings: ["looks inverted (air is bright): invert it", words[name]] };
  }
  if (name !== "upright" || !after.isUsual) return { warnings: [words.other] };
  if (Math.min(likely, after.likely.upright) < sure) {
    return { warnings: ["may be inverted (air seems bright): invert it if it is"] };
  }
  return { inverted: true, warnings: [words.inverted] };
}

function best(likely, names) {
  return names.reduce((first, name) => (likely[name] > likely[first] ? name : first));
}

// The mean over a picture and its mirror image.
function judge(square, gate) {
  const flipped = new Float32Array(square.data.length);
  for (let i = 0; i < SIDE; i++) {
    flipped.set(square.data.slice(i * SIDE, (i + 1) * SIDE).reverse(), i * SIDE);
  }
  const both = [square, { ...square, data: flipped }].map(features);
  const [own, mirrored] = both.map((values) => probabilities(values, gate));
  const likely = {};
  gate.classes.forEach((name, i) => {
    const other = gate.classes.indexOf(MIRRORED[name] ?? name);
    likely[name] = (own[i] + mirrored[other]) / 2;
  });
  const away = both.map((values) => distance(values, gate));
  return { likely, isUsual: (away[0] + away[1]) / 2 <= gate.limit };
}

// The sums of x by the columns of a matrix [x.length, count], row by row.
function multiply(x, matrix, count) {
  const out = new Float64Array(count);
  for (let i = 0; i < x.length; i++) {
    if (!x[i]) continue;
    for (let j = 0; j < count; j++) out[j] += x[i] * matrix[i * count + j];
  }
  return out;
}

function probabilities(values, { mean, hidden, hidden_bias, weights, bias }) {
  const away = values.map((value, i) => value - mean[i]);
  const inner = multiply(away, hidden, hidden_bias.length).map((sum, i) => sum + hidden_bias[i]);
  const rectified = inner.map((value) => Math.max(value, 0));
  const logits = multiply(rectified, weights, bias.length).map((sum, i) => sum + bias[i]);
  const most = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

function distance(values, { mean, centre, basis }) {
  const away = values.map((value, i) => value - mean[i] - centre[i]);
  const along = multiply(away, basis, basis.length / away.length);
  const squares = (list) => list.reduce((sum, value) => sum + value * value, 0);
  return squares(away) - squares(along);
}

// Without plain borders, resized to a small square; and width over height of what was kept.
function smallSquare(grey) {
  const [height, width] = [Math.min(grey.height, SMALL), Math.min(grey.width, SMALL)];
  const small = resizeArea(grey, height, width);
  const sample = [];
  for (let i = 0; i < height; i += 2) {
    for (let j = 0; j < width; j += 2) sample.push(small.data[i * width + j]);
  }
  const [low, high] = quantiles(Float64Array.from(sample), [0.01, 0.99]);
  const limit = PLAIN * (high - low);
  let kept = { height, width, data: Float32Array.from(small.data) };
  for (let time = 0; time < 2; time++) {
    const rows = inner(kept, limit);
    kept = cut(kept, rows, [0, kept.width]);
    const columns = inner(transpose(kept), limit);
    kept = cut(kept, [0, kept.height], columns);
  }
  const shares = [(kept.width / width) * grey.width, (kept.height / height) * grey.height];
  const shrinks = Math.min(kept.height, kept.width) >= SIDE;
  const square = (shrinks ? resizeArea : resizeLinear)(kept, SIDE, SIDE);
  return { square, aspect: shares[0] / shares[1] };
}

function cut({ width, data }, [top, bottom], [left, right]) {
  const out = new Float32Array((bottom - top) * (right - left));
  for (let i = top; i < bottom; i++) {
    out.set(data.subarray(i * width + left, i * width + right), (i - top) * (right - left));
  }
  return { height: bottom - top, width: right - left, data: out };
}

function transpose({ height, width, data }) {
  const out = new Float32Array(data.length);
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) out[j * height + i] = data[i * width + j];
  }
  return { height: width, width: height, data: out };
}

// The first row that is not plain and the last plus one; all rows where all are plain.
function inner({ height, width, data }, limit) {
  const last = width - 1;
  const [lower, upper] = [round(0.05 * last), round(0.95 * last)];
  let [first, end] = [-1, 0];
  for (let i = 0; i < height; i++) {
    const row = data.slice(i * width, (i + 1) * width).sort();
    if (!(row[upper] - row[lower] > limit)) continue;
    if (first < 0) first = i;
    end = i + 1;
  }
  return first < 0 ? [0, height] : [first, end];
}

// Histograms of directions by cells, and a thumbnail.
export function features(square) {
  const count = SIDE * SIDE;
  let [sum, squares] = [0, 0];
  for (const value of square.data) sum += value;
  for (const value of square.data) squares += (value - sum / count) ** 2;
  const deviation = Math.sqrt(squares / count);
  const plane = square.data.map((value) => (value - sum / count) / (deviation + 1e-3));
  const at = (i, j) => plane[clamp(i) * SIDE + clamp(j)];
  const energy = new Float64Array(CELLS * CELLS * BINS);
  for (let i = 0; i < SIDE; i++) {
    for (let j = 0; j < SIDE; j++) {
      const column = (k) => at(i - 1, k) + 2 * at(i, k) + at(i + 1, k);
      const row = (k) => at(k, j - 1) + 2 * at(k, j) + at(k, j + 1);
      const [dx, dy] = [column(j + 1) - column(j - 1), row(i + 1) - row(i - 1)];
      const weight = Math.sqrt(Math.hypot(dx, dy));
      const turn = Math.atan2(dy, dx) / (2 * Math.PI);
      const place = (turn < 0 ? turn + 1 : turn) * BINS;
      const below = Math.floor(place) % BINS;
      const share = place - Math.floor(place);
      const cell = (((i * CELLS) / SIDE) | 0) * CELLS + (((j * CELLS) / SIDE) | 0);
      energy[cell * BINS + below] += weight * (1 - share);
      energy[cell * BINS + ((below + 1) % BINS)] += weight * share;
    }
  }
  const norms = new Float64Array(CELLS * CELLS);
  energy.forEach((value, i) => (norms[Math.floor(i / BINS)] += value * value));
  const norm = blur(norms.map(Math.sqrt));
  const mean = norm.reduce((a, b) => a + b, 0) / norm.length;
  const cells = energy.map((value, i) => value / (norm[Math.floor(i / BINS)] + 0.1 * mean + 1e-3));
  const thumb = resizeArea({ ...square, data: plane }, THUMB, THUMB);
  return Float64Array.from([...cells, ...thumb.data.map((value) => 0.5 * value)]);
}

function clamp(i) {
  return Math.min(Math.max(i, 0), SIDE - 1);
}

// OpenCV's Gaussian of deviation 1, nine wide, mirrored about the edge's pixels.
function blur(plane) {
  const kernel = [-4, -3, -2, -1, 0, 1, 2, 3, 4].map((k) => Math.exp((-k * k) / 2));
  const sum = kernel.reduce((a, b) => a + b, 0);
  const mirror = (i) => (i < 0 ? -i : i >= CELLS ? 2 * CELLS - 2 - i : i);
  const along = (from, step, other) => {
    const out = new Float64Array(CELLS * CELLS);
    for (let i = 0; i < CELLS; i++) {
      for (let j = 0; j < CELLS; j++) {
        let value = 0;
        kernel.forEach((w, k) => (value += (w / sum) * from[mirror(j + k - 4) * step + i * other]));
        out[j * step + i * other] = value;
      }
    }
    return out;
  };
  return along(along(plane, 1, CELLS), CELLS, 1);
}
