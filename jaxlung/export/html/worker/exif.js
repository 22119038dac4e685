// Exif's Orientation, and pixels turned as it says: as jaxlung/io/images.py does.

// Of Exif's block, which is a TIFF header; 1 (as stored) without one, or where Exif is damaged.
export function readOrientation(block) {
  try {
    const start = block[0] === 0x45 ? 6 : 0; // "Exif\0\0", which JPEG puts before it
    const view = new DataView(block.buffer, block.byteOffset + start, block.byteLength - start);
    const little = view.getUint16(0) === 0x4949;
    if (view.getUint16(2, little) !== 42) return 1;
    const at = view.getUint32(4, little);
    const count = view.getUint16(at, little);
    for (let i = 0; i < count; i++) {
      const entry = at + 2 + 12 * i;
      if (view.getUint16(entry, little) !== 0x0112) continue;
      const kind = view.getUint16(entry + 2, little);
      const code = kind === 3 ? view.getUint16(entry + 8, little) : view.getUint32(entry + 8, little);
      return code >= 1 && code <= 8 ? code : 1;
    }
  } catch {
    return 1;
  }
  return 1;
}

export function turn(picture, orientation) {
  if (orientation === 1) return picture;
  const { height, width, channels, data } = picture;
  const swaps = orientation > 4;
  const flipsRows = [3, 4, 7, 8].includes(orientation);
  const flipsColumns = [2, 3, 6, 7].includes(orientation);
  const [rows, columns] = swaps ? [width, height] : [height, width];
  const out = new data.constructor(data.length);
  for (let row = 0, to = 0; row < rows; row++) {
    const i = flipsRows ? rows - 1 - row : row;
    for (let column = 0; column < columns; column++) {
      const j = flipsColumns ? columns - 1 - column : column;
      const from = (swaps ? j * width + i : i * width + j) * channels;
      for (let c = 0; c < channels; c++) out[to++] = data[from + c];
    }
  }
  return { ...picture, height: rows, width: columns, data: out };
}
