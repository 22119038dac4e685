// Reads a film of any format that the page knows; the content decides, not the name.

import { readDicom, isDicom } from "./dicom.js";
import { FileError, MOST_BYTES } from "./errors.js";
import { readOrientation, turn } from "./exif.js";
import { isJpeg, readJpeg } from "./jpeg.js";
import { isPng, readPng } from "./png.js";

const OTHERS = [
  ["TIFF", [0x49, 0x49, 42, 0]],
  ["TIFF", [0x4d, 0x4d, 0, 42]],
  ["BMP", [0x42, 0x4d]],
  ["GIF", [0x47, 0x49, 0x46, 0x38]],
  ["WebP", [0x52, 0x49, 0x46, 0x46]],
  ["NumPy", [0x93, 0x4e, 0x55, 0x4d]],
  ["JPEG 2000", [0, 0, 0, 12, 0x6a, 0x50]],
  ["JPEG 2000", [0xff, 0x4f, 0xff, 0x51]],
  ["zip", [0x50, 0x4b, 3, 4]],
  ["gzip", [0x1f, 0x8b]],
  ["PDF", [0x25, 0x50, 0x44, 0x46]],
];

// Returns {height, width, channels, data, spacing, mirrored}.
export async function readFilm(file) {
  if (file.size === 0) throw new FileError("is empty; choose it again, or export it again");
  if (file.size > MOST_BYTES) {
    throw new FileError(`is larger than ${MOST_BYTES >> 20} MiB, as no X-ray is`);
  }
  let bytes;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new FileError("cannot be read; is it still there?");
  }
  if (isPng(bytes)) {
    const picture = await readPng(bytes);
    return turn(picture, picture.exif ? readOrientation(picture.exif) : 1);
  }
  if (isJpeg(bytes)) {
    const picture = await readJpeg(bytes);
    return turn(picture, picture.orientation);
  }
  if (isDicom(bytes, file.name)) return readDicom(bytes);
  const known = OTHERS.find(([, start]) => start.every((value, i) => bytes[i] === value));
  if (known) throw new FileError(`is a ${known[0]} file, which this page does not read; save it as PNG`);
  throw new FileError("is no image that this page reads: PNG, JPEG or DICOM");
}
