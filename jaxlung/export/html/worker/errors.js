// What is wrong with a file, in one line that says what to do. Its name is put before it.

export const MOST_BYTES = 2 ** 29; // of a file, and of one unpacked
export const DAMAGED = "is damaged or truncated; replace the file";

export class FileError extends Error {}

// A film of 43 cm has so many pixels at 75 micrometres each: jaxlung/io/film.py.
const MOST_PIXELS = 2 ** 25;
const LONGEST_SIDE = 2 ** 15 - 1;

export function checkSize(height, width) {
  if (!(height > 0 && width > 0)) throw new FileError("has no pixels; export it again");
  if (height * width > MOST_PIXELS || Math.max(height, width) > LONGEST_SIDE) {
    throw new FileError(
      "says it has more pixels than an image of a chest has (at most 2^25, and " +
        `${LONGEST_SIDE} a side); export it again, or make it smaller`,
    );
  }
}
