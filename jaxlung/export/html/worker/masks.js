// From probabilities to a mask and what is odd about it: jaxlung/masks/postprocess.py,
// jaxlung/metrics/calibration.py and jaxlung/gate/mask.py. `rules` are their constants.

import { bySize, cutOut, findPieces } from "./pieces.js";
import { resizeArea } from "./resize.js";
import { round } from "./round.js";

// Keeps the `count` largest pieces and fills their holes; a second one may be too small.
export function keepPieces(mask, count, secondLung) {
  const found = findPieces(mask);
  const kept = bySize(found.pieces).slice(0, count);
  const pieces = kept.map((index) => ({ box: found.pieces[index], filled: fill(cutOut(found, index)) }));
  const enough = secondLung * Math.max(0, ...pieces.map(({ filled }) => filled.area));
  const out = { ...mask, data: new Uint8Array(mask.data.length) };
  for (const { box, filled } of pieces) {
    if (filled.area < enough) continue;
    for (let i = 0; i < filled.height; i++) {
      const to = (box.top + i) * mask.width + box.left;
      for (let j = 0; j < filled.width; j++) out.data[to + j] |= filled.data[i * filled.width + j];
    }
  }
  return out;
}

function fill(piece) {
  const { height, width, data } = piece;
  const { runs, pieces } = findPieces(piece, { marked: false });
  const isHole = pieces.map(
    ({ left, right, top, bottom }) => left > 0 && right < width && top > 0 && bottom < height,
  );
  for (const [row, first, end, index] of runs) {
    if (isHole[index]) data.fill(1, row * width + first, row * width + end);
  }
  let area = 0;
  for (const value of data) area += value;
  return { height, width, data, area };
}

// The Dice to expect of a mask, on a model's scale: `line` is its slope, intercept and least.
export function expectDice(probability, mask, line) {
  let [both, all, count] = [0, 0, 0];
  for (let i = 0; i < mask.data.length; i++) {
    all += probability.data[i];
    if (mask.data[i]) {
      both += probability.data[i];
      count++;
    }
  }
  const expected = both ? (2 * both) / (all + count) : 0;
  return expected ? Math.min(Math.max(line.intercept + line.slope * expected, 0), 1) : 0;
}

export function checkMask(mask, confidence, least, structure, rules) {
  if (!mask.data.some((value) => value)) {
    return [`no ${structure} was found: check that the image shows a chest`];
  }
  const warnings = structure === "lung" ? checkLungs(mask, rules) : [];
  if (least !== null && confidence < least) {
    warnings.push(
      `the outlines are uncertain (expected Dice ${confidence.toFixed(2)}): check the mask`,
    );
  }
  return warnings;
}

function checkLungs(mask, rules) {
  const shape = measureShape(mask, rules);
  const warnings = [];
  if (shape.pieces === 1 && shape.lesserHalf < rules.one_lung) {
    warnings.push("only one lung was found: check the other side");
  }
  if (!(rules.small_lungs <= shape.coverage && shape.coverage <= rules.large_lungs)) {
    const size = shape.coverage < rules.small_lungs ? "small" : "large";
    warnings.push(`the lungs are implausibly ${size} for the picture: check the mask`);
  }
  const { first, second } = shape;
  if (second && first > rules.lung_ratio * second) {
    warnings.push(`one lung is ${(first / second).toFixed(1)} times the other's size: check the mask`);
  }
  return warnings;
}

function measureShape(mask, rules) {
  const scale = Math.min(1, rules.shape_side / Math.max(mask.height, mask.width));
  const [height, width] = [mask.height, mask.width].map((side) => Math.max(1, round(side * scale)));
  const grey = { ...mask, data: mask.data.map((value) => (value ? 255 : 0)) };
  const small = resizeArea(grey, height, width);
  small.data = small.data.map((value) => (value > 127 ? 1 : 0));
  const { runs, pieces } = findPieces(small, { diagonal: true });
  if (!pieces.length) return { pieces: 0, lesserHalf: 0, coverage: 0, first: 1, second: 0 };
  let [area, left] = [0, 0];
  const half = Math.floor(width / 2);
  for (const [, first, end] of runs) {
    area += end - first;
    left += Math.max(0, Math.min(end, half) - first);
  }
  const [first, second] = bySize(pieces).map((index) => pieces[index].area / area);
  return {
    pieces: pieces.length,
    lesserHalf: Math.min(left, area - left) / area,
    coverage: area / (height * width),
    first,
    second: second ?? 0,
  };
}
