// zlib's streams by the browser, up to a number of bytes: what unpacks to more is stopped.

import { DAMAGED, FileError } from "./errors.js";

// The first `count` bytes of what is packed; `format` is "deflate" (zlib), "deflate-raw" or "gzip".
export async function inflate(packed, count, format = "deflate") {
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream(format)).getReader();
  const data = new Uint8Array(count);
  let at = 0;
  while (at < count) {
    const { done, value } = await reader.read();
    if (done) break;
    data.set(at + value.length > count ? value.subarray(0, count - at) : value, at);
    at += value.length;
  }
  reader.cancel().catch(() => {});
  if (at < count) throw new FileError(DAMAGED);
  return data;
}

// All of it, where its size is not known before; more than `most` bytes are refused.
export async function inflateAll(packed, most, format) {
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream(format)).getReader();
  const parts = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
    if (size > most) {
      reader.cancel().catch(() => {});
      throw new FileError(`unpacks to more than ${most / 2 ** 20} MiB`);
    }
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

export async function deflate(data, format = "deflate") {
  const stream = new Blob([data]).stream().pipeThrough(new CompressionStream(format));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
