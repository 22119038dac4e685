// Connected pieces of a mask, by runs: the marked stretches of its rows. Masks are planes
// {height, width, data}, data a Uint8Array that is not 0 where it is marked.

// Finds the pieces in the order of their first pixels. Returns the runs, [row, first column, column
// behind the last, piece] each, and for each piece its area, box and sums of rows and columns.
export function findPieces({ height, width, data }, { diagonal = false, marked = true } = {}) {
  const runs = [];
  const parent = [];
  const find = (i) => {
    while (parent[i] !== i) i = parent[i] = parent[parent[i]];
    return i;
  };
  const reach = diagonal ? 1 : 0;
  let [above, start] = [0, 0]; // the runs of the row above are those from `above` to `start`
  for (let row = 0; row < height; row++) {
    const begin = row * width;
    let k = above;
    start = runs.length;
    for (let column = 0; column < width; column++) {
      if ((data[begin + column] !== 0) !== marked) continue;
      const first = column;
      while (column < width && (data[begin + column] !== 0) === marked) column++;
      const index = runs.length;
      runs.push([row, first, column, index]);
      parent.push(index);
      while (k < start && runs[k][2] + reach <= first) k++;
      for (let m = k; m < start && runs[m][1] < column + reach; m++) {
        const [a, b] = [find(m), find(index)];
        parent[Math.max(a, b)] = Math.min(a, b);
      }
    }
    above = start;
  }
  const number = new Map();
  const pieces = [];
  for (const run of runs) {
    const root = find(run[3]);
    if (!number.has(root)) {
      number.set(root, pieces.length);
      pieces.push({ area: 0, left: width, right: 0, top: run[0], bottom: 0, rows: 0, columns: 0 });
    }
    run[3] = number.get(root);
    const piece = pieces[run[3]];
    const count = run[2] - run[1];
    piece.area += count;
    piece.left = Math.min(piece.left, run[1]);
    piece.right = Math.max(piece.right, run[2]);
    piece.bottom = run[0] + 1;
    piece.rows += run[0] * count;
    piece.columns += ((run[1] + run[2] - 1) / 2) * count;
  }
  return { runs, pieces };
}

// The pieces' indices by size; equal ones stay in their order.
export function bySize(pieces, of = pieces.map((_, i) => i)) {
  return [...of].sort((a, b) => pieces[b].area - pieces[a].area || a - b);
}

// A piece as a plane of its own box: 1 where it is.
export function cutOut({ runs, pieces }, index) {
  const { left, right, top, bottom } = pieces[index];
  const [height, width] = [bottom - top, right - left];
  const data = new Uint8Array(height * width);
  for (const [row, first, end, piece] of runs) {
    if (piece !== index) continue;
    data.fill(1, (row - top) * width + first - left, (row - top) * width + end - left);
  }
  return { height, width, data };
}

// Each pixel's distance to the nearest marked one, float32: exact.
export function distances({ height, width, data }) {
  const far = height + width;
  const down = new Int32Array(height * width).fill(far); // to the nearest one of the same column
  for (let column = 0; column < width; column++) {
    let last = -far;
    for (let row = 0; row < height; row++) {
      const at = row * width + column;
      if (data[at]) last = row;
      down[at] = Math.min(row - last, far);
    }
    last = 2 * far;
    for (let row = height - 1; row >= 0; row--) {
      const at = row * width + column;
      if (data[at]) last = row;
      down[at] = Math.min(down[at], last - row);
    }
  }
  const out = new Float32Array(height * width);
  for (let row = 0; row < height; row++) {
    const line = down.subarray(row * width, (row + 1) * width);
    for (let column = 0; column < width; column++) {
      let least = line[column] ** 2;
      for (let away = 1; away * away < least; away++) {
        if (column >= away) least = Math.min(least, away * away + line[column - away] ** 2);
        if (column + away < width) least = Math.min(least, away * away + line[column + away] ** 2);
        if (column < away && column + away >= width) break;
      }
      out[row * width + column] = Math.sqrt(least);
    }
  }
  return { height, width, data: out };
}
