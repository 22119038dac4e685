// Decodes the stored values of a DICOM image: jaxlung/io/dicom/pixels.py. JPEG of 8 bits goes to the
// browser, other JPEGs to daikon's decoders, which are loaded when the first such file comes.

import { BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT } from "./dicomheader.js";
import { FileError, checkSize } from "./errors.js";
import { readJpeg } from "./jpeg.js";

const NATIVE = [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN];
const RLE = "1.2.840.10008.1.2.5";
const JPEG = "1.2.840.10008.1.2.4.";
const DAMAGED_PIXELS = "has damaged or truncated pixel data; copy or export it again";

let codecs = null;

// Sets where the decoders come from: a function that returns them.
export function setCodecs(load) {
  codecs = { load, loaded: null };
}

// Returns {height, width, channels, data}: the bits of the values alone.
export async function readStoredValues(dataset) {
  const frames = Number(dataset.text("NumberOfFrames") ?? 1) || 1;
  if (frames > 1) throw new FileError(`has ${frames} frames; expected one image`);
  const about = {
    height: dataset.number("Rows"),
    width: dataset.number("Columns"),
    channels: dataset.number("SamplesPerPixel", 1),
    allocated: dataset.number("BitsAllocated"),
    stored: dataset.number("BitsStored"),
    signed: dataset.number("PixelRepresentation", 0) === 1,
    planar: dataset.number("PlanarConfiguration", 0) === 1,
    photometric: dataset.text("PhotometricInterpretation") ?? "",
  };
  about.highBit = dataset.number("HighBit", about.stored - 1);
  checkSize(about.height, about.width);
  const { allocated, stored, highBit, channels } = about;
  if (!(stored > 0 && stored <= highBit + 1 && highBit + 1 <= allocated)) {
    throw new FileError("has a damaged header (bits allocated, bits stored, high bit)");
  }
  if ((allocated !== 8 && allocated !== 16) || (channels !== 1 && channels !== 3)) {
    throw new FileError("has pixels of a rare kind, which this page does not read; save it as PNG");
  }
  const { data, isRgb, shift } = await decodePixels(dataset, about).catch((error) => {
    if (error instanceof FileError) throw error;
    throw new FileError(DAMAGED_PIXELS);
  });
  const count = about.height * about.width * channels;
  if (data.length !== count) throw new FileError(DAMAGED_PIXELS);
  cutBits(data, about, shift);
  const rgb = channels === 3 && !isRgb && about.photometric.startsWith("YBR_FULL");
  return {
    height: about.height,
    width: about.width,
    channels,
    data: rgb ? toRgb(data) : data,
  };
}

// Values without the bits beside them, in place, signed where they are.
function cutBits(data, { allocated, stored, signed, highBit }, shift) {
  if (allocated === stored) return;
  const down = shift ? highBit + 1 - stored : 0;
  const mask = 2 ** stored - 1;
  const half = 2 ** (stored - 1);
  for (let i = 0; i < data.length; i++) {
    const value = (data[i] >> down) & mask;
    data[i] = signed && value >= half ? value - 2 ** stored : value;
  }
}

// {data, isRgb, shift}: `shift` says that bits lie where HighBit says, and not lowest.
async function decodePixels(dataset, about) {
  const { syntax } = dataset;
  const element = dataset.element("PixelData");
  const kinds = about.signed ? [Int8Array, Int16Array] : [Uint8Array, Uint16Array];
  const Values = kinds[about.allocated === 8 ? 0 : 1];
  if (NATIVE.includes(syntax)) {
    if (!element.isWhole) throw new FileError(DAMAGED_PIXELS);
    const isWord = element.kind !== "OB"; // of 8 bits in big endian words, two are exchanged
    const data = readWords(dataset.bytes("PixelData"), about, Values, syntax !== BIG_ENDIAN, isWord);
    return { data: interleave(data, about, about.planar), shift: true };
  }
  if (!element.fragments) throw new FileError(DAMAGED_PIXELS);
  const frame = new Uint8Array(await new Blob(element.fragments).arrayBuffer());
  if (syntax === RLE) {
    return { data: interleave(readRle(frame, about, Values), about, true), shift: true };
  }
  if (!syntax.startsWith(JPEG)) throw refuse(syntax);
  const kind = Number(syntax.slice(JPEG.length));
  const header = readStreamHeader(frame);
  const same = ["height", "width", "channels"].every((name) => header[name] === about[name]);
  if (!same || header.bits > about.allocated) throw new FileError(DAMAGED_PIXELS);
  if ((kind === 50 || kind === 51) && header.bits === 8) {
    const colours = about.channels === 1 ? "" : about.photometric === "RGB" ? "rgb" : "ybr";
    const { data } = await readJpeg(frame, colours);
    return { data: Values.from(data), isRgb: true, shift: false };
  }
  const data = await decodeByDaikon(kind, frame, about, syntax);
  const isRgb = kind === 90 || kind === 91;
  return { data: Values.from(data), isRgb, shift: false };
}

function refuse(syntax) {
  const name = /^[0-9.]+$/.test(syntax) ? syntax : "an unknown one";
  return new FileError(
    `has transfer syntax ${name}, which cannot be decoded here; export it uncompressed`,
  );
}

async function decodeByDaikon(kind, frame, about, syntax) {
  if (![51, 57, 70, 80, 81, 90, 91].includes(kind)) throw refuse(syntax);
  codecs.loaded ??= await codecs.load();
  const { JpegImage, JpegLossless, JpegLs, JpxImage } = codecs.loaded;
  const { height, width, channels } = about;
  if (kind === 51) {
    const decoder = new JpegImage();
    decoder.parse(frame);
    return decoder.getData16(width, height);
  }
  if (kind === 57 || kind === 70) {
    return new JpegLossless().decode(frame.buffer, frame.byteOffset, frame.length, 2);
  }
  if (kind === 80 || kind === 81) {
    const { pixelData } = new JpegLs().decodeJPEGLS(frame, about.signed);
    return interleave(pixelData, about, channels > 1 && isPlanarJpegLs(frame));
  }
  const image = new JpxImage();
  image.failOnCorruptedImage = true;
  image.parse(frame);
  const out = new (image.tiles[0].items.constructor)(height * width * channels);
  for (const tile of image.tiles) {
    const stride = tile.width * channels;
    for (let row = 0; row < tile.height; row++) {
      const to = ((tile.top + row) * width + tile.left) * channels;
      out.set(tile.items.subarray(row * stride, (row + 1) * stride), to);
    }
  }
  return out;
}

// JPEG-LS says in its scan's header whether samples lie plane by plane: 0.
function isPlanarJpegLs(frame) {
  for (let at = 2; at + 4 < frame.length; at += 2 + ((frame[at + 2] << 8) | frame[at + 3])) {
    if (frame[at + 1] === 0xda) return frame[at + 4 + 2 * frame[at + 4] + 2] === 0;
  }
  return false;
}

function readWords(bytes, { height, width, channels, allocated }, Values, little, isWord) {
  const count = height * width * channels;
  if (bytes.length < (count * allocated) / 8) throw new FileError(DAMAGED_PIXELS);
  const out = new Values(count);
  if (allocated === 8) {
    const swap = !little && isWord ? 1 : 0;
    for (let i = 0; i < count; i++) out[i] = bytes[i ^ swap];
    return out;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < count; i++) out[i] = view.getUint16(2 * i, little);
  return out;
}

// From planes one after the other to pixels.
function interleave(data, { height, width, channels }, planar) {
  if (channels === 1 || !planar) return data;
  const out = new data.constructor(data.length);
  const count = height * width;
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < count; i++) out[i * channels + c] = data[c * count + i];
  }
  return out;
}

// RLE (PS3.5 G): the bytes of a sample, highest first, each a segment.
function readRle(frame, { height, width, channels, allocated }, Values) {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const [count, size] = [view.getUint32(0, true), allocated / 8];
  const pixels = height * width;
  if (count !== channels * size) throw new FileError(DAMAGED_PIXELS);
  const out = new Values(pixels * channels);
  for (let segment = 0; segment < count; segment++) {
    let at = view.getUint32(4 + 4 * segment, true);
    const end = segment + 1 < count ? view.getUint32(8 + 4 * segment, true) : frame.length;
    const plane = Math.floor(segment / size) * pixels;
    const shift = 8 * (size - 1 - (segment % size));
    let done = 0;
    while (done < pixels && at < end) {
      const head = frame[at++];
      if (head === 128) continue;
      const length = head < 128 ? head + 1 : 257 - head;
      for (let k = 0; k < length && done < pixels; k++, done++) {
        out[plane + done] |= frame[head < 128 ? at + k : at] << shift;
      }
      at += head < 128 ? length : 1;
    }
    if (done < pixels) throw new FileError(DAMAGED_PIXELS);
  }
  return out;
}

// What a stream of JPEG, JPEG-LS or JPEG 2000 says of itself: jaxlung/io/dicom/stream.py.
function readStreamHeader(frame) {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame[0] === 0xff && frame[1] === 0xd8) {
    let found = null;
    for (let at = 2; ; at += 2 + view.getUint16(at + 2)) {
      while (frame[at + 1] === 0xff) at++;
      const marker = frame[at + 1];
      if (frame[at] !== 0xff || marker < 0xc0) throw new FileError(DAMAGED_PIXELS);
      if (marker === 0xda) break;
      const isFrame = (marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) || marker === 0xf7;
      if (!isFrame) continue;
      found = {
        bits: frame[at + 4],
        height: view.getUint16(at + 5),
        width: view.getUint16(at + 7),
        channels: frame[at + 9],
      };
    }
    if (!found) throw new FileError(DAMAGED_PIXELS);
    return found;
  }
  const mark = [0xff, 0x4f, 0xff, 0x51];
  let at = 0;
  while (at < 4096 && !mark.every((value, i) => frame[at + i] === value)) at++;
  const [right, bottom, left, top] = [8, 12, 16, 20].map((place) => view.getUint32(at + place));
  return {
    height: bottom - top,
    width: right - left,
    channels: view.getUint16(at + 40),
    bits: (frame[at + 42] & 0x7f) + 1,
  };
}

// Luma and chroma of the full range to RGB (PS3.3 C.7.6.3.1.2).
function toRgb(data) {
  const out = new Uint8ClampedArray(data.length);
  for (let i = 0; i < data.length; i += 3) {
    const [y, blue, red] = [data[i], data[i + 1] - 128, data[i + 2] - 128];
    out[i] = y + 1.402 * red;
    out[i + 1] = y - 0.344136 * blue - 0.714136 * red;
    out[i + 2] = y + 1.772 * blue;
  }
  return new Uint8Array(out.buffer);
}
