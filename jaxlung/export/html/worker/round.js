// Halves to the even neighbour, as numpy.rint, Python's round and OpenCV do.
export function round(value) {
  const nearest = Math.floor(value + 0.5);
  return nearest - value === 0.5 && nearest % 2 !== 0 ? nearest - 1 : nearest;
}
