/** Changes a mask on its own grid: Uint8Array, row by row, 0 is no lung, 1 and 2 are its sides.
 *
 * Pixel (i, j) has its centre at (i + 0.5, j + 0.5). Each function returns the rectangle
 * {x0, y0, x1, y1} outside of which nothing changed, x1 and y1 not in it.
 */

export const nothing = () => ({ x0: Infinity, y0: Infinity, x1: -Infinity, y1: -Infinity });

export const isNothing = (rect) => rect.x0 >= rect.x1 || rect.y0 >= rect.y1;

/** Returns the smallest rectangle with both in it. */
export function join(a, b) {
  return {
    x0: Math.min(a.x0, b.x0),
    y0: Math.min(a.y0, b.y0),
    x1: Math.max(a.x1, b.x1),
    y1: Math.max(a.y1, b.y1),
  };
}

function clip(x0, y0, x1, y1, width, height) {
  return {
    x0: Math.max(Math.floor(x0), 0),
    y0: Math.max(Math.floor(y0), 0),
    x1: Math.min(Math.ceil(x1), width),
    y1: Math.min(Math.ceil(y1), height),
  };
}

/** Marks each pixel whose centre is at most `radius` away from the line between two points.
 *
 * Label 0 erases. Another label leaves the side of what is marked already.
 */
export function stroke(mask, width, height, from, to, radius, label) {
  const rect = clip(
    Math.min(from.x, to.x) - radius,
    Math.min(from.y, to.y) - radius,
    Math.max(from.x, to.x) + radius,
    Math.max(from.y, to.y) + radius,
    width,
    height,
  );
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const length2 = dx * dx + dy * dy;
  const radius2 = radius * radius;
  for (let j = rect.y0; j < rect.y1; j++) {
    for (let i = rect.x0; i < rect.x1; i++) {
      const px = i + 0.5 - from.x;
      const py = j + 0.5 - from.y;
      let t = length2 ? (px * dx + py * dy) / length2 : 0;
      t = t < 0 ? 0 : t > 1 ? 1 : t;
      const ex = px - t * dx;
      const ey = py - t * dy;
      if (ex * ex + ey * ey > radius2) continue;
      const at = j * width + i;
      if (!label) mask[at] = 0;
      else if (!mask[at]) mask[at] = label;
    }
  }
  return rect;
}

/** Marks each pixel whose centre is in a polygon (even-odd rule); label 0 erases. */
export function polygon(mask, width, height, points, label) {
  const xs = points.map((p) => p.x);
  const ys = points.map((p) => p.y);
  const rect = clip(
    Math.min(...xs),
    Math.min(...ys),
    Math.max(...xs),
    Math.max(...ys),
    width,
    height,
  );
  for (let j = rect.y0; j < rect.y1; j++) {
    const y = j + 0.5;
    const crossings = [];
    points.forEach((a, k) => {
      const b = points[(k + 1) % points.length];
      if (a.y <= y !== b.y <= y) crossings.push(a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x));
    });
    crossings.sort((a, b) => a - b);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const first = Math.max(Math.ceil(crossings[k] - 0.5), 0);
      const end = Math.min(Math.ceil(crossings[k + 1] - 0.5), width);
      for (let at = j * width + first; at < j * width + end; at++) {
        if (!label) mask[at] = 0;
        else if (!mask[at]) mask[at] = label;
      }
    }
  }
  return rect;
}

/** Returns the rectangle around all that is marked. */
export function extent(mask, width, height) {
  const rect = nothing();
  for (let j = 0; j < height; j++) {
    const start = j * width;
    let first = 0;
    while (first < width && !mask[start + first]) first++;
    if (first === width) continue;
    let end = width;
    while (!mask[start + end - 1]) end--;
    rect.x0 = Math.min(rect.x0, first);
    rect.x1 = Math.max(rect.x1, end);
    rect.y0 = Math.min(rect.y0, j);
    rect.y1 = j + 1;
  }
  return rect;
}

/** Fills what the outside cannot reach by steps up, down, left or right. */
export function fillHoles(mask, width, height) {
  const rect = extent(mask, width, height);
  if (isNothing(rect)) return rect;
  // A margin of one pixel lets the flood run round the marked part, also at the film's border.
  const wide = rect.x1 - rect.x0 + 2;
  const high = rect.y1 - rect.y0 + 2;
  const seen = new Uint8Array(wide * high);
  for (let j = 1; j < high - 1; j++) {
    const start = (rect.y0 + j - 1) * width + rect.x0 - 1;
    for (let i = 1; i < wide - 1; i++) seen[j * wide + i] = mask[start + i] ? 1 : 0;
  }
  const stack = [0];
  seen[0] = 1;
  const visit = (at) => {
    if (!seen[at]) {
      seen[at] = 1;
      stack.push(at);
    }
  };
  while (stack.length) {
    const at = stack.pop();
    const i = at % wide;
    if (i > 0) visit(at - 1);
    if (i < wide - 1) visit(at + 1);
    if (at >= wide) visit(at - wide);
    if (at < wide * (high - 1)) visit(at + wide);
  }
  for (let j = 1; j < high - 1; j++) {
    const start = (rect.y0 + j - 1) * width + rect.x0 - 1;
    // A hole's left neighbour is marked, or is of the hole and was filled just now.
    for (let i = 1; i < wide - 1; i++) {
      if (!seen[j * wide + i]) mask[start + i] = mask[start + i - 1];
    }
  }
  return rect;
}

/** Each pixel follows the majority of the square of 2 * radius + 1 pixels around it. */
export function smooth(mask, width, height, radius) {
  const marked = extent(mask, width, height);
  if (isNothing(marked)) return marked;
  const { x0, y0, x1, y1 } = marked;
  const before = mask.slice();
  const side = 2 * radius + 1;
  const half = (side * side) / 2;
  const wide = x1 - x0;
  const columns = [new Int32Array(wide), new Int32Array(wide)]; // of sides 1 and 2
  const add = (j, sign) => {
    if (j < y0 || j >= y1) return;
    for (let i = 0; i < wide; i++) {
      const label = before[j * width + x0 + i];
      if (label) columns[label - 1][i] += sign;
    }
  };
  for (let j = y0 - radius; j < y0 + radius; j++) add(j, 1);
  for (let j = y0; j < y1; j++) {
    add(j + radius, 1);
    let right = 0;
    let left = 0;
    for (let i = -radius; i < wide; i++) {
      const enters = i + radius;
      if (enters < wide) {
        right += columns[0][enters];
        left += columns[1][enters];
      }
      const leaves = i - radius - 1;
      if (leaves >= 0) {
        right -= columns[0][leaves];
        left -= columns[1][leaves];
      }
      if (i < 0) continue;
      const at = j * width + x0 + i;
      if (right + left < half) mask[at] = 0;
      else if (!mask[at]) mask[at] = left > right ? 2 : 1;
    }
    add(j - radius, -1);
  }
  return marked;
}

/** Returns the side of a new piece of lung at a point: that of the lung there, else the nearer. */
export function sideAt(mask, width, height, point) {
  const i = Math.floor(point.x);
  const j = Math.floor(point.y);
  if (i >= 0 && j >= 0 && i < width && j < height && mask[j * width + i]) return mask[j * width + i];
  const count = [0, 0, 0];
  const sum = [0, 0, 0];
  const step = Math.max(1, Math.floor(Math.min(width, height) / 256)); // a sample is enough
  for (let y = 0; y < height; y += step) {
    for (let x = 0; x < width; x += step) {
      const label = mask[y * width + x];
      count[label] += 1;
      sum[label] += x;
    }
  }
  // The patient's right is on the picture's left, unless the lungs that are there say otherwise.
  let [right, left] = [1, 2].map((side) => (count[side] ? sum[side] / count[side] : null));
  right ??= left === null ? 0 : width - left;
  left ??= width - right;
  return Math.abs(point.x - right) <= Math.abs(point.x - left) ? 1 : 2;
}
