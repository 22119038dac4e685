// From DICOM's stored values to what a screen shows: jaxlung/io/dicom/display.py, whose docstrings have
// the paragraphs of the standard.

import { FileError } from "./errors.js";
import { findRange } from "./grey.js";
import { round } from "./round.js";

const TINY = 2.2250738585072014e-308;

// Every value of a decimal attribute; [] where it is absent or not finite. A comma is a point.
export function readNumbers(dataset, name) {
  const values = (dataset.text(name) ?? "")
    .split("\\")
    .map((value) => value.trim())
    .filter((value) => value !== "")
    .map((value) => {
      const number = Number(value.replace(",", "."));
      if (Number.isNaN(number) && !/nan/i.test(value)) throw new Error("no number");
      return number;
    });
  return values.every(Number.isFinite) ? values : [];
}

export function applyDisplay({ height, width, data: stored }, dataset) {
  const inverted =
    dataset.text("PhotometricInterpretation") === "MONOCHROME1" ||
    dataset.text("PresentationLUTShape") === "INVERSE";
  const { values, signed } = applyRescale(stored, dataset);
  const padding = findPadding(stored, dataset);
  const [center] = readNumbers(dataset, "WindowCenter");
  const [size] = readNumbers(dataset, "WindowWidth");
  const kind = dataset.text("VOILUTFunction") ?? "LINEAR";
  const hasWindow =
    center !== undefined && size !== undefined && size >= (kind === "LINEAR" ? 1 : TINY);
  const lut = dataset.item("VOILUTSequence");
  let show;
  if (lut) {
    const table = readTable(lut, signed);
    show = (value) => table.look(value) / (2 ** table.bits - 1);
  } else if (hasWindow) show = makeWindow(center, size, kind);
  else {
    if (values === stored && stored instanceof Uint8Array && dataset.number("BitsStored") === 8) {
      const data = new Uint8Array(stored.length);
      for (let i = 0; i < data.length; i++) {
        data[i] = padding && padding[i] ? 0 : inverted ? 255 - stored[i] : stored[i];
      }
      return { height, width, channels: 1, data };
    }
    const [low, high] = findRange(padding ? withoutPadding(values, padding) : values);
    const span = Math.max(high - low, TINY);
    show = (value) => Math.min(Math.max((value - low) / span, 0), 1);
  }
  const data = new Float32Array(values.length);
  let [least, most, isFlat] = [Infinity, -Infinity, true];
  for (let i = 0; i < data.length; i++) {
    const shown = show(values[i]);
    if (shown < least) least = shown;
    if (shown > most) most = shown;
    if (values[i] !== values[0]) isFlat = false;
    data[i] = inverted ? 1 - shown : shown;
  }
  if (least === most && !isFlat) {
    throw new FileError(
      "its window or VOI LUT turns the whole image into a single grey; correct or remove it",
    );
  }
  if (padding) for (let i = 0; i < data.length; i++) if (padding[i]) data[i] = 0;
  return { height, width, channels: 1, data };
}

function withoutPadding(values, padding) {
  const kept = values.filter((_, i) => !padding[i]);
  return kept.length ? kept : values;
}

// Which stored values only fill the frame; null where the file names none.
function findPadding(stored, dataset) {
  let ends = ["PixelPaddingValue", "PixelPaddingRangeLimit"].flatMap((name) =>
    dataset.numbers(name).slice(0, 1),
  );
  if (!ends.length) return null;
  const isSigned = stored instanceof Int16Array || stored instanceof Int8Array;
  if (isSigned) ends = ends.map((end) => (end >= 2 ** 15 ? end - 2 ** 16 : end));
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  return mapValues(Uint8Array, stored, (value) => (value >= low && value <= high ? 1 : 0));
}

function applyRescale(stored, dataset) {
  const signed = dataset.number("PixelRepresentation", 0) === 1;
  const lut = dataset.item("ModalityLUTSequence");
  if (lut) {
    const table = readTable(lut, signed);
    return { values: mapValues(Float64Array, stored, table.look), signed: false };
  }
  const [slope = 1] = readNumbers(dataset, "RescaleSlope");
  const [intercept = 0] = readNumbers(dataset, "RescaleIntercept");
  if (slope === 0) {
    throw new FileError("has a RescaleSlope of 0, which leaves no image; correct it");
  }
  if (slope === 1 && intercept === 0) return { values: stored, signed };
  const span = 2 ** dataset.number("BitsStored");
  const [lowest, highest] = signed ? [-span / 2, span / 2 - 1] : [0, span - 1];
  const negative = Math.min(lowest * slope, highest * slope) + intercept < 0;
  const rescale = (value) => value * slope + intercept;
  return { values: mapValues(Float64Array, stored, rescale), signed: negative };
}

// An array of another kind of each value: a loop is many times as fast as Kind.from.
function mapValues(Kind, values, look) {
  const out = new Kind(values.length);
  for (let i = 0; i < out.length; i++) out[i] = look(values[i]);
  return out;
}

// A table of values: {look, bits}.
function readTable(item, signed) {
  const [entries, start, bits] = item.numbers("LUTDescriptor").map((n) => (n + 2 ** 16) % 2 ** 16);
  const count = entries || 2 ** 16;
  const first = signed && start >= 2 ** 15 ? start - 2 ** 16 : start;
  let words = item.numbers("LUTData").map((n) => (n + 2 ** 16) % 2 ** 16);
  if (bits <= 8 && words.length < count) words = words.flatMap((word) => [word & 255, word >> 8]);
  if (words.length < count || !(bits >= 1 && bits <= 16)) {
    throw new FileError("has a damaged look-up table; export it from the archive again");
  }
  const look = (value) => words[Math.min(Math.max(round(value) - first, 0), count - 1)];
  return { look, bits };
}

function makeWindow(center, size, kind) {
  const clip = (value) => Math.min(Math.max(value, 0), 1);
  if (kind === "SIGMOID") return (value) => 1 / (1 + Math.exp((-4 * (value - center)) / size));
  if (kind === "LINEAR_EXACT") return (value) => clip((value - center) / size + 0.5);
  if (kind === "LINEAR") {
    if (size === 1) return (value) => (value > center - 0.5 ? 1 : 0);
    return (value) => clip((value - (center - 0.5)) / (size - 1) + 0.5);
  }
  throw new FileError("has an unknown VOILUTFunction; expected LINEAR, LINEAR_EXACT or SIGMOID");
}
