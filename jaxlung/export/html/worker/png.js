// PNG, read and written here: a browser would cut 16 bits to 8, multiply by alpha and change colours
// by profiles. https://www.w3.org/TR/png-3/

import { DAMAGED, FileError, checkSize } from "./errors.js";
import { deflate, inflate } from "./inflate.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const MOST_CHUNKS = 2 ** 16; // as in jaxlung/io/effort.py
// Adam7: first column and row, and the steps between columns and rows.
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];

const CRC = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

export function crc32(data, from = 0, to = data.length) {
  let crc = 0xffffffff;
  for (let i = from; i < to; i++) crc = CRC[(crc ^ data[i]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

export function isPng(bytes) {
  return SIGNATURE.every((value, i) => bytes[i] === value);
}

function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = { data: [] };
  let at = 8;
  for (let count = 0; ; count++) {
    if (count > MOST_CHUNKS) throw new FileError("has more than 65536 chunks; save it again");
    if (at + 12 > bytes.length) throw new FileError(DAMAGED);
    const length = view.getUint32(at);
    const end = at + 8 + length;
    if (end + 4 > bytes.length) throw new FileError(DAMAGED);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (view.getUint32(end) !== crc32(bytes, at + 4, end)) throw new FileError(DAMAGED);
    const body = bytes.subarray(at + 8, end);
    if (name === "IHDR") chunks.header ??= body;
    else if (name === "IDAT") chunks.data.push(body);
    else if (name === "PLTE") chunks.palette = body;
    else if (name === "eXIf") chunks.exif = body;
    else if (name === "acTL") throw new FileError("has several frames; expected one image");
    else if (name === "IEND") break;
    at = end + 4;
  }
  return chunks;
}

// Undoes the filters of `rows` rows of `stride` bytes each, in place; a filter's type comes before
// each row. `step` is the bytes of a pixel, at least 1.
function unfilter(data, at, rows, stride, step) {
  for (let row = 0; row < rows; row++, at += stride + 1) {
    const filter = data[at];
    const start = at + 1;
    const end = start + stride;
    const up = start - stride - 1; // the row above
    if (filter === 1) {
      for (let i = start + step; i < end; i++) data[i] += data[i - step];
    } else if (filter === 2) {
      if (row) for (let i = start, u = up; i < end; i++, u++) data[i] += data[u];
    } else if (filter === 3) {
      for (let i = start, u = up; i < end; i++, u++) {
        const left = i < start + step ? 0 : data[i - step];
        data[i] += (left + (row ? data[u] : 0)) >> 1;
      }
    } else if (filter === 4) {
      for (let i = start, u = up; i < end; i++, u++) {
        const left = i < start + step ? 0 : data[i - step];
        const above = row ? data[u] : 0;
        const corner = row && i >= start + step ? data[u - step] : 0;
        const a = Math.abs(above - corner);
        const b = Math.abs(left - corner);
        const c = Math.abs(left + above - 2 * corner);
        data[i] += a <= b && a <= c ? left : b <= c ? above : corner;
      }
    } else if (filter !== 0) {
      throw new FileError(DAMAGED);
    }
  }
}

// Samples of a row, of 1 to 16 bits, to every `step`-th place of `out`.
function spread(data, from, count, bits, channels, out, to, step) {
  if (bits === 8 && channels === 1 && step === 1) {
    out.set(data.subarray(from, from + count), to);
    return;
  }
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < channels; c++) {
      const n = i * channels + c;
      let value;
      if (bits === 16) value = (data[from + 2 * n] << 8) | data[from + 2 * n + 1];
      else if (bits === 8) value = data[from + n];
      else value = (data[from + ((n * bits) >> 3)] >> (8 - bits - ((n * bits) & 7))) & (2 ** bits - 1);
      out[to + i * step * channels + c] = value;
    }
  }
}

// Pixels as jaxlung/io/images.py has them: grey or colour of 8 or 16 bits, palettes expanded, grey of
// fewer bits spread over 8, alpha of grey left out. Returns {height, width, channels, data, exif}.
export async function readPng(bytes) {
  const chunks = readChunks(bytes);
  const { header } = chunks;
  if (!header || header.length !== 13) throw new FileError(DAMAGED);
  const view = new DataView(header.buffer, header.byteOffset, 13);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [bits, kind, , , interlaced] = header.subarray(8);
  checkSize(height, width);
  const stored = CHANNELS[kind];
  const isDeep = bits === 16 && kind !== 3;
  if (!stored || !(isDeep || bits === 8 || ([1, 2, 4].includes(bits) && stored === 1))) {
    throw new FileError(DAMAGED);
  }
  const passes = (interlaced ? PASSES : [[0, 0, 1, 1]]).map(([x, y, dx, dy]) => ({
    ...{ x, y, dx, dy },
    columns: Math.ceil((width - x) / dx),
    rows: Math.ceil((height - y) / dy),
  }));
  const strideOf = (columns) => Math.ceil((columns * stored * bits) / 8);
  const isEmpty = ({ columns, rows }) => columns <= 0 || rows <= 0;
  let size = 0;
  for (const pass of passes) if (!isEmpty(pass)) size += pass.rows * (strideOf(pass.columns) + 1);
  let data;
  try {
    data = await inflate(new Blob(chunks.data), size);
  } catch {
    throw new FileError(DAMAGED);
  }
  const out = new (isDeep ? Uint16Array : Uint8Array)(height * width * stored);
  let at = 0;
  for (const pass of passes) {
    if (isEmpty(pass)) continue;
    const stride = strideOf(pass.columns);
    unfilter(data, at, pass.rows, stride, Math.max(1, (stored * bits) >> 3));
    for (let row = 0; row < pass.rows; row++, at += stride + 1) {
      const to = ((pass.y + row * pass.dy) * width + pass.x) * stored;
      spread(data, at + 1, pass.columns, bits, stored, out, to, pass.dx);
    }
  }
  const picture = { height, width, channels: stored, data: out, exif: chunks.exif };
  if (kind === 3) return expand(picture, chunks.palette);
  if (kind === 4) return { ...picture, channels: 1, data: out.filter((_, i) => i % 2 === 0) };
  if (bits < 8) for (let i = 0; i < out.length; i++) out[i] *= 255 / (2 ** bits - 1);
  return picture;
}

function expand(picture, palette) {
  if (!palette) throw new FileError(DAMAGED);
  const data = new Uint8Array(3 * picture.data.length);
  picture.data.forEach((entry, i) => {
    for (let c = 0; c < 3; c++) data[3 * i + c] = palette[3 * entry + c] ?? 0;
  });
  return { ...picture, channels: 3, data };
}

// PNG of grey or RGB, 8 bits.
export async function writePng(data, height, width, channels = 1) {
  const stride = width * channels;
  const rows = new Uint8Array(height * (stride + 1)); // each begins with 0: no filter
  for (let row = 0; row < height; row++) {
    rows.set(data.subarray(row * stride, (row + 1) * stride), row * (stride + 1) + 1);
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header[8] = 8;
  header[9] = channels === 3 ? 2 : 0;
  const parts = [new Uint8Array(SIGNATURE)];
  for (const [name, body] of [["IHDR", header], ["IDAT", await deflate(rows)], ["IEND", []]]) {
    const chunk = new Uint8Array(body.length + 12);
    const chunkView = new DataView(chunk.buffer);
    chunkView.setUint32(0, body.length);
    for (let i = 0; i < 4; i++) chunk[4 + i] = name.charCodeAt(i);
    chunk.set(body, 8);
    chunkView.setUint32(8 + body.length, crc32(chunk, 4, 8 + body.length));
    parts.push(chunk);
  }
  return new Blob(parts, { type: "image/png" });
}
