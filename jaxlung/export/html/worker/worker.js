// The page's worker: films in, what was found out. One at a time; the page waits with the next.

import { Engine } from "./engine.js";
import { FileError } from "./errors.js";
import { readFilm } from "./film.js";
import { setCodecs } from "./frames.js";
import { inflate } from "./inflate.js";
import { writePng } from "./png.js";
import { predict } from "./predict.js";
import { resizeArea, resizeLinear } from "./resize.js";

const THUMBNAIL = 104; // pixels of the longer side

let model = null;
let engine = null;

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// In one file the parts are base64; on a web site they come as they are.
const toBytes = (part) => (typeof part === "string" ? fromBase64(part.trim()) : new Uint8Array(part));

async function start({ about, arrays, code, decoders, sizes }) {
  model = about;
  const bytes = await inflate(toBytes(arrays), sizes.arrays);
  engine = new Engine(toBytes(code), model.plan, bytes.subarray(0, model.network));
  let at = model.network;
  for (const [name, count] of model.gate.arrays) {
    const values = new Float32Array(bytes.slice(at, at + 4 * count).buffer);
    model.gate[name] = count === 1 ? values[0] : values;
    at += 4 * count;
  }
  setCodecs(async () => {
    const source = await inflate(toBytes(decoders), sizes.decoders);
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    importScripts(address);
    URL.revokeObjectURL(address);
    return self.daikonCodecs;
  });
}

// What is kept of each film: numbers, words, a small picture, and masks as PNG.
async function describe(found) {
  const { labels, image } = found;
  const { height, width } = labels;
  const mask = labels.data.map((label) => (label ? 255 : 0));
  const scale = THUMBNAIL / Math.max(height, width);
  const side = (n) => Math.max(1, Math.round(n * scale));
  const shrink = scale < 1 ? resizeArea : resizeLinear;
  const small = shrink(image, side(height), side(width));
  const area = (count) => Math.round(10 * count * found.spacing[0] * found.spacing[1]) / 10;
  const { pixels } = found;
  return {
    height,
    width,
    confidence: found.confidence,
    warnings: found.warnings,
    degrees: found.degrees,
    inverted: found.inverted,
    sidesKnown: found.sidesKnown,
    spacing: found.spacing,
    mirrored: found.mirrored,
    pixels,
    areas: found.spacing && {
      whole: area(pixels.whole),
      right: area(pixels.right),
      left: area(pixels.left),
    },
    mask: await writePng(mask, height, width),
    sides: await writePng(labels.data, height, width),
    thumbnail: small,
  };
}

async function see({ file, output, shown }) {
  const begun = performance.now();
  const film = await readFilm(file);
  const found = predict(film, model, engine, output);
  const answer = { result: await describe(found) };
  answer.result.seconds = (performance.now() - begun) / 1000;
  if (!shown) return answer;
  const probability = new Uint8Array(found.probability.data.length);
  for (let i = 0; i < probability.length; i++) {
    probability[i] = Math.round(255 * found.probability.data[i]);
  }
  answer.planes = { image: found.image.data, labels: found.labels.data, probability };
  return answer;
}

self.onmessage = async ({ data }) => {
  try {
    if (data.start) {
      await start(data.start);
      self.postMessage({ id: data.id, ready: true });
      return;
    }
    const answer = await see(data);
    const planes = Object.values(answer.planes ?? {}).map((plane) => plane.buffer);
    self.postMessage({ id: data.id, ...answer }, planes);
  } catch (error) {
    const isKnown = error instanceof FileError;
    const unknown = "cannot be read; is it damaged?";
    self.postMessage({ id: data.id, error: isKnown ? error.message : unknown, cause: String(error) });
  }
};
