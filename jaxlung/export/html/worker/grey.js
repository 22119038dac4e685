// Any pixels to 8-bit grey: jaxlung/io/grey.py, and the gate's look for colour.

import { round } from "./round.js";
import { FileError } from "./errors.js";

const OUTLIERS = 0.05;
const FEW = 0.005;
const SAMPLE = 2 ** 16;

// Picture {height, width, channels, data}; uint8 is taken as it is, others are scaled from the range
// of their values. `isByte` says that uint8 of colour becomes uint8; floats stay floats.
export function toGrey8({ height, width, channels, data }) {
  const grey = dropColour(data, height * width, channels);
  if (grey instanceof Uint8Array) return grey;
  const [low, high] = findRange(grey);
  const out = new Uint8Array(grey.length);
  if (high > low) {
    const span = high / 2 - low / 2;
    for (let i = 0; i < grey.length; i++) {
      const value = Math.min(Math.max(grey[i], low), high);
      out[i] = round(((value / 2 - low / 2) / span) * 255);
    }
  }
  return out;
}

// Grey that is stored as colour stays exactly; of other colours the luma is taken (BT.601).
function dropColour(data, count, channels) {
  if (channels === 1) return data;
  let isGrey = true;
  for (let i = 0; i < count && isGrey; i++) {
    const at = i * channels;
    isGrey = data[at] === data[at + 1] && data[at] === data[at + 2];
  }
  const isByte = data instanceof Uint8Array;
  const out = new (isGrey ? data.constructor : isByte ? Uint8Array : Float64Array)(count);
  for (let i = 0; i < count; i++) {
    const at = i * channels;
    if (isGrey) out[i] = data[at];
    else {
      const luma = data[at] * 0.299 + data[at + 1] * 0.587 + data[at + 2] * 0.114;
      out[i] = isByte ? round(luma) : luma;
    }
  }
  return out;
}

// The lowest and highest value to show: minimum and maximum, but for outliers behind a gap.
export function findRange(values) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value < low) low = value;
    if (value > high) high = value;
    if (value !== value) low = high = NaN;
  }
  if (!Number.isFinite(low) || !Number.isFinite(high)) {
    throw new FileError("holds NaN or infinite values; replace them first");
  }
  const step = Math.floor(values.length / SAMPLE) | 1;
  const sample = new Float64Array(Math.ceil(values.length / step));
  for (let i = 0; i < sample.length; i++) sample[i] = values[i * step];
  sample.sort();
  const count = Math.floor(OUTLIERS * sample.length);
  const innerLow = sample[count];
  const innerHigh = sample[sample.length - 1 - count];
  const inner = innerHigh - innerLow;
  if (!(inner > 0 && inner < Math.max(high - innerHigh, innerLow - low))) return [low, high];
  const few = Math.floor(FEW * values.length);
  const below = countValues(values, (value) => (value <= innerLow ? -value : null));
  const above = countValues(values, (value) => (value >= innerHigh ? value : null));
  const firstLow = -endOfFilm(below, -innerHigh, few);
  const firstHigh = endOfFilm(above, innerLow, few);
  return [-endOfFilm(below, -firstHigh, few), endOfFilm(above, firstLow, few)];
}

// The values that `pick` returns, each once and rising, and how many there are of each.
function countValues(values, pick) {
  const counts = new Map();
  for (const value of values) {
    const picked = pick(value);
    if (picked !== null) counts.set(picked, (counts.get(picked) ?? 0) + 1);
  }
  const rising = Float64Array.from(counts.keys()).sort();
  return { rising, counts: Array.from(rising, (value) => counts.get(value)) };
}

function endOfFilm({ rising, counts }, other, few) {
  const last = rising.length - 1;
  let sum = 0;
  const upTo = counts.map((count) => (sum += count));
  // For once and twice the film's width: is the gap within the tail, and what lies in it.
  const between = [1, 2].map((times) => {
    let k = 0;
    return Array.from(rising, (value, i) => {
      const end = value + times * (value - other);
      k = Math.max(k, i);
      while (k < last && rising[k + 1] <= end) k++;
      return end < rising[last] ? upTo[k] - upTo[i] : null;
    });
  });
  const least = between[1].reduce((m, n) => (n === null ? m : Math.min(m, n)), few + 1);
  for (let i = 0; i <= last; i++) {
    const [once, twice] = [between[0][i], between[1][i]];
    if (once === 0 || (least <= few && twice !== null && twice <= 2 * least)) return rising[i];
  }
  return rising[last];
}

// The grey level at a share of the values, as numpy.quantile finds it; sorts `values` in place.
export function quantiles(values, shares) {
  values.sort();
  return shares.map((share) => {
    const place = share * (values.length - 1);
    const below = Math.floor(place);
    const next = values[Math.min(below + 1, values.length - 1)];
    return values[below] + (next - values[below]) * (place - below);
  });
}

// Grey levels between the 1st and the 99th percentile.
export function measureSpread(grey) {
  const [low, high] = quantiles(Float64Array.from(grey), [0.01, 0.99]);
  return high - low;
}

// Says whether the channels differ by more than a tint or a few drawn marks: jaxlung/gate/image.py.
export function isColoured({ height, width, channels, data }, { colour, coloured_share }) {
  if (channels < 3) return false;
  const rows = Math.max(1, Math.floor(height / 128));
  const columns = Math.max(1, Math.floor(width / 128));
  const planes = [[], [], []];
  for (let i = 0; i < height; i += rows) {
    for (let j = 0; j < width; j += columns) {
      for (let c = 0; c < 3; c++) planes[c].push(data[(i * width + j) * channels + c]);
    }
  }
  if (!(data instanceof Uint8Array)) {
    let [low, high] = [Infinity, -Infinity];
    for (const plane of planes) {
      for (const value of plane) [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
    const factor = high > low ? 255 / (high - low) : 0;
    for (const plane of planes) plane.forEach((value, i) => (plane[i] = (value - low) * factor));
  }
  const away = [0, 2].map((c) => distancesFromLine(planes[1], planes[c]));
  const far = away[0].filter((value, i) => Math.max(value, away[1][i]) > colour).length;
  return far / away[0].length > coloured_share;
}

function distancesFromLine(x, y) {
  const n = x.length;
  const mean = (values) => values.reduce((a, b) => a + b, 0) / n;
  const [mx, my] = [mean(x), mean(y)];
  let [xx, xy] = [0, 0];
  for (let i = 0; i < n; i++) {
    xx += (x[i] - mx) ** 2;
    xy += (x[i] - mx) * (y[i] - my);
  }
  // Of a plain green the least solution has slope and offset in the ratio of green to 1; the line
  // passes through the mean all the same.
  const slope = xx > 0 ? xy / xx : 0;
  return x.map((value, i) => Math.abs(y[i] - my - slope * (value - mx)));
}
