// JPEG, decoded by the browser: its library is that of Pillow, and gives the same pixels. What would
// have the browser do more than decode is taken out before: Exif, which turns, and colour profiles.

import { DAMAGED, FileError, checkSize } from "./errors.js";
import { readOrientation } from "./exif.js";

const MOST_SCANS = 100; // as in jaxlung/io/effort.py
const [SOS, EOI, APP1, APP2, APP14, DHT, JPG, DAC] = [
  0xda, 0xd9, 0xe1, 0xe2, 0xee, 0xc4, 0xc8, 0xcc,
];

export function isJpeg(bytes) {
  return bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
}

// The segments before the first scan: {height, width, channels, exif, kept: parts without APP1 and
// APP2}.
function readSegments(bytes, hasAdobe) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = { kept: [bytes.subarray(0, 2)], frame: null, exif: null };
  let at = 2;
  for (;;) {
    while (bytes[at] === 0xff && bytes[at + 1] === 0xff) at++; // fill bytes
    if (at + 4 > bytes.length || bytes[at] !== 0xff) throw new FileError(DAMAGED);
    const marker = bytes[at + 1];
    const end = at + 2 + view.getUint16(at + 2);
    if (end > bytes.length) throw new FileError(DAMAGED);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![DHT, JPG, DAC].includes(marker);
    if (isFrame && !found.frame) {
      found.frame = { marker, bits: bytes[at + 4], channels: bytes[at + 9] };
      [found.height, found.width] = [view.getUint16(at + 5), view.getUint16(at + 7)];
    }
    if (marker === APP1 && !found.exif && bytes[at + 4] === 0x45) {
      found.exif = bytes.subarray(at + 4, end);
    }
    const drops = marker === APP1 || marker === APP2 || (marker === APP14 && hasAdobe);
    if (!drops) found.kept.push(marker === SOS ? bytes.subarray(at) : bytes.subarray(at, end));
    if (marker === SOS) break;
    at = end;
  }
  if (!found.frame) throw new FileError(DAMAGED);
  checkScans(bytes, at);
  return found;
}

// A browser shows what there is of a truncated file. Its end has to be there.
function checkScans(bytes, start) {
  let scans = 0;
  for (let at = bytes.indexOf(0xff, start); at >= 0; at = bytes.indexOf(0xff, at + 1)) {
    if (bytes[at + 1] === EOI) return;
    if (bytes[at + 1] === SOS && ++scans > MOST_SCANS) {
      throw new FileError(`has more than ${MOST_SCANS} scans; save it again`);
    }
  }
  throw new FileError(DAMAGED);
}

// Returns {height, width, channels, data, orientation}. `colours` may say what three channels are,
// "rgb" or "ybr", as a DICOM header does; a JPEG's own marker says so otherwise.
export async function readJpeg(bytes, colours = "") {
  const { height, width, frame, kept, exif } = readSegments(bytes, colours !== "");
  checkSize(height, width);
  if (frame.bits !== 8 || frame.marker > 0xc2) {
    throw new FileError("is a JPEG of a rare kind, which browsers do not read; save it as PNG");
  }
  if (colours) {
    // Adobe's marker with its last byte 0 for RGB, 1 for luma and chroma.
    const adobe = [0xff, APP14, 0, 14, 65, 100, 111, 98, 101, 0, 100, 0, 0, 0, 0];
    kept.splice(1, 0, new Uint8Array([...adobe, colours === "rgb" ? 0 : 1]));
  }
  let pixels;
  try {
    // Firefox decodes no picture of a blob of several parts.
    const whole = await new Blob(kept).arrayBuffer();
    pixels = await decodeInBrowser(new Blob([whole], { type: "image/jpeg" }), height, width);
  } catch (error) {
    throw error instanceof FileError ? error : new FileError(DAMAGED);
  }
  const channels = frame.channels === 1 ? 1 : 3;
  const data = new Uint8Array(height * width * channels);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < channels; c++) data[i * channels + c] = pixels[4 * i + c];
  }
  return { height, width, channels, data, orientation: exif ? readOrientation(exif) : 1 };
}

async function decodeInBrowser(blob, height, width) {
  const picture = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  if (picture.height !== height || picture.width !== width) throw new FileError(DAMAGED);
  const canvas = new OffscreenCanvas(width, height);
  // Read back once: without this it would go by a graphics card.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  checkHonesty(context);
  context.drawImage(picture, 0, 0);
  picture.close();
  return context.getImageData(0, 0, width, height).data;
}

// Browsers that hide who uses them may change the pixels that a canvas gives back.
function checkHonesty(context) {
  const sides = [Math.min(context.canvas.width, 32), Math.min(context.canvas.height, 32)];
  const drawn = new ImageData(...sides);
  for (let i = 0; i < drawn.data.length; i++) drawn.data[i] = i % 4 === 3 ? 255 : (i * 37) % 256;
  context.putImageData(drawn, 0, 0);
  const { data } = context.getImageData(0, 0, ...sides);
  if (!data.every((value, i) => value === drawn.data[i])) {
    throw new FileError(
      "is a JPEG, of which this browser hides the pixels; allow this page to read canvases, or " +
        "save it as PNG",
    );
  }
}
