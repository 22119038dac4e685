// Which lung is which: jaxlung/masks/sides.py, whose docstrings say why.

import { bySize, distances, findPieces } from "./pieces.js";
import { resizeArea, resizeLinear } from "./resize.js";
import { round } from "./round.js";

export const [RIGHT, LEFT] = [1, 2];
const SMALL_SIDE = 96;
const LUNG_SHARE = 0.05;
const WIDE = 0.75;

// Labels a mask: uint8 of 0, 1 (the patient's right lung) and 2 (left).
export function labelSides(mask, mirrored) {
  const out = { ...mask, data: new Uint8Array(mask.data.length) };
  const box = boundingBox(mask);
  if (!box) return out;
  const boxed = crop(mask, box);
  const found = findPieces(boxed);
  const cores = findCores(reduce(boxed));
  const halves = cores
    ? byCores(found, boxed, cores)
    : byPlace(found, boxed, mask.width / 2 - box.left);
  const [onLeft, onRight] = mirrored ? [LEFT, RIGHT] : [RIGHT, LEFT];
  for (const [row, first, end, piece] of found.runs) {
    for (let column = first; column < end; column++) {
      const isLeft =
        piece === halves.divided ? halves.isLeft(row, column) : halves.isPieceLeft[piece];
      out.data[(box.top + row) * mask.width + box.left + column] = isLeft ? onLeft : onRight;
    }
  }
  return out;
}

function boundingBox({ height, width, data }) {
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (!data[row * width + column]) continue;
      if (row < top) top = row;
      bottom = row + 1;
      if (column < left) left = column;
      if (column >= right) right = column + 1;
    }
  }
  return right ? { top, bottom, left, right } : null;
}

function crop({ width, data }, { top, bottom, left, right }) {
  const out = new Uint8Array((bottom - top) * (right - left));
  for (let row = top; row < bottom; row++) {
    const part = data.subarray(row * width + left, row * width + right);
    out.set(part, (row - top) * (right - left));
  }
  return { height: bottom - top, width: right - left, data: out };
}

function reduce(mask) {
  const scale = Math.min(SMALL_SIDE / Math.max(mask.height, mask.width), 1);
  const [height, width] = [mask.height, mask.width].map((n) => Math.max(round(n * scale), 1));
  const grey = { ...mask, data: mask.data.map((value) => (value ? 255 : 0)) };
  const small = resizeArea(grey, height, width);
  return { height, width, data: small.data.map((value) => (value > 127 ? 1 : 0)) };
}

// Two pieces side by side after the thinnest erosion that leaves them: [left, right], or null.
function findCores(mask) {
  const { height, width } = mask;
  const framed = { height: height + 2, width: width + 2 };
  framed.data = new Uint8Array(framed.height * framed.width).fill(1);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const at = (row + 1) * framed.width + column + 1;
      framed.data[at] = mask.data[row * width + column] ? 0 : 1;
    }
  }
  const whole = distances(framed);
  let [deepest, count] = [0, 0];
  for (const value of whole.data) deepest = Math.max(deepest, value);
  for (const value of mask.data) count += value;
  const enough = Math.max(LUNG_SHARE * count, 1);
  for (let depth = 0; depth <= Math.floor(deepest); depth++) {
    const eroded = { height, width, data: new Uint8Array(height * width) };
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const away = whole.data[(row + 1) * framed.width + column + 1];
        eroded.data[row * width + column] = away > depth ? 1 : 0;
      }
    }
    const found = findPieces(eroded);
    const { pieces } = found;
    const large = bySize(pieces).filter((index) => pieces[index].area >= enough);
    if (!large.length) break;
    const first = pieces[large[0]];
    const other = large.find((index) => isBeside(pieces[index], first));
    if (other === undefined) continue;
    const pair = middle(first) < middle(pieces[other]) ? [large[0], other] : [other, large[0]];
    return pair.map((index) => only(found, index, height, width));
  }
  return null;
}

function middle({ left, right }) {
  return left + (right - left) / 2;
}

function isBeside(piece, first) {
  const widest = Math.max(piece.right - piece.left, first.right - first.left);
  const least = Math.min(piece.bottom - piece.top, first.bottom - first.top);
  const shared = Math.min(piece.bottom, first.bottom) - Math.max(piece.top, first.top);
  return Math.abs(middle(piece) - middle(first)) > widest / 2 && shared >= least / 2;
}

function only({ runs }, index, height, width) {
  const data = new Uint8Array(height * width);
  for (const [row, first, end, piece] of runs) {
    if (piece === index) data.fill(1, row * width + first, row * width + end);
  }
  return { height, width, data };
}

// Sorts pieces by the cores that they hold or are near to; the cores' grid may be smaller.
function byCores({ runs, pieces }, { height, width }, [left, right]) {
  const [small, full] = [[left.height, left.width], [height, width]];
  const held = [left, right].map((core) => pieceOf(runs, pieces, core, full));
  const [toLeft, toRight] = [distances(left), distances(right)];
  const nearer = { ...toLeft, data: toLeft.data.map((away, i) => away - toRight.data[i]) };
  const isPieceLeft = pieces.map(({ area, rows, columns }) => {
    const down = Math.floor((rows / area + 0.5) * (small[0] / full[0]));
    const across = Math.floor((columns / area + 0.5) * (small[1] / full[1]));
    return nearer.data[down * small[1] + across] < 0;
  });
  if (held[0] >= 0) isPieceLeft[held[0]] = true;
  if (held[1] >= 0) isPieceLeft[held[1]] = false;
  if (held[0] !== held[1] || held[0] < 0) return { isPieceLeft, divided: -1 };
  const wide = resizeLinear(nearer, height, width);
  const isLeft = (row, column) => wide.data[row * width + column] < -1e-3;
  return { isPieceLeft, divided: held[0], isLeft };
}

// The piece that most of a core's pixels lie on; -1 for the background.
function pieceOf(runs, pieces, core, [height, width]) {
  const ofRow = new Map();
  for (const run of runs) {
    if (!ofRow.has(run[0])) ofRow.set(run[0], []);
    ofRow.get(run[0]).push(run);
  }
  const counts = new Array(pieces.length + 1).fill(0); // of the background first
  for (let i = 0; i < core.height; i++) {
    const row = Math.floor((i + 0.5) * (height / core.height));
    const line = ofRow.get(row) ?? [];
    for (let j = 0; j < core.width; j++) {
      if (!core.data[i * core.width + j]) continue;
      const column = Math.floor((j + 0.5) * (width / core.width));
      const run = line.find(([, first, end]) => first <= column && column < end);
      counts[run ? run[3] + 1 : 0]++;
    }
  }
  return counts.indexOf(Math.max(...counts)) - 1;
}

// Sorts pieces by the side of the picture's middle column on which their centroids lie.
function byPlace({ runs, pieces }, boxed, middleColumn) {
  const isPieceLeft = pieces.map(({ area, columns }) => columns / area + 0.5 < middleColumn);
  const [largest] = bySize(pieces);
  const { left, right, top, bottom } = pieces[largest];
  const [width, height] = [right - left, bottom - top];
  const nearerEnd = Math.min(middleColumn - left, right - middleColumn);
  if (width < WIDE * height || nearerEnd < width / 4) return { isPieceLeft, divided: -1 };
  const third = Math.floor(width / 3);
  const pixels = new Float64Array(boxed.width);
  for (const [, first, end, piece] of runs) {
    if (piece === largest) for (let column = first; column < end; column++) pixels[column]++;
  }
  let [cut, least] = [left + third, Infinity];
  for (let column = left + third; column < right - third; column++) {
    const cost = pixels[column] + Math.abs(column + 0.5 - (left + width / 2));
    if (cost < least) [cut, least] = [column, cost];
  }
  return { isPieceLeft, divided: largest, isLeft: (_, column) => column < cut };
}
