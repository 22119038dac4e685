/** Draws a film, its mask and its probability. Knows nothing of a server.
 *
 * A view {scale, x, y} takes pixel (i, j) of the film to (x + scale * i, y + scale * j) of the
 * screen, in the screen's own pixels. A mask has a byte for each pixel of the film: 0, 1 is the
 * patient's right lung, 2 the left one.
 */

/** Colours as 0xBBGGRR, which is how a 32-bit word lies in an ImageData on today's machines. */
const COLOURS = { 1: 0x4db4ff, 2: 0xffd24d, other: 0xd08cff };

/** Returns the grey of each stored value: low is black and high is white, or the other way round. */
export function windowTable(bits, low, high, inverted) {
  const table = new Uint32Array(2 ** bits);
  const width = Math.max(high - low, 1e-6);
  for (let value = 0; value < table.length; value++) {
    let grey = Math.round(Math.min(Math.max((value - low) / width, 0), 1) * 255);
    if (inverted) grey = 255 - grey;
    table[value] = 0xff000000 | (grey * 0x010101);
  }
  return table;
}

/** Puts pixels through the table into a canvas of the film's own size. */
export function paintFilm(canvas, pixels, width, height, table) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = table[pixels[i]];
  canvas.getContext("2d", { alpha: false }).putImageData(image, 0, 0);
}

/** Returns the view that shows the whole film in the middle of a screen. */
export function fitView(width, height, screenWidth, screenHeight, margin = 0) {
  const scale = Math.max(
    Math.min((screenWidth - 2 * margin) / width, (screenHeight - 2 * margin) / height),
    1e-3,
  );
  return { scale, x: (screenWidth - scale * width) / 2, y: (screenHeight - scale * height) / 2 };
}

/** Returns the view enlarged by a factor, with the point (x, y) of the screen kept in place. */
export function zoomView(view, factor, x, y) {
  const scale = Math.min(Math.max(view.scale * factor, 0.02), 64);
  const ratio = scale / view.scale;
  return { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
}

/** Returns the point of the film under a point of the screen. */
export function toFilm(view, x, y) {
  return { x: (x - view.x) / view.scale, y: (y - view.y) / view.scale };
}

/** Draws the film on the screen; single pixels can be seen from four times on. */
export function drawFilm(context, film, view) {
  const { width, height } = context.canvas;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = view.scale < 4;
  context.imageSmoothingQuality = view.scale < 0.75 ? "medium" : "low";
  context.setTransform(view.scale, 0, 0, view.scale, view.x, view.y);
  context.drawImage(film, 0, 0);
}

/** Returns the part of the screen that a rectangle of the film can change: outlines reach out. */
export function toScreen(view, rect, screenWidth, screenHeight) {
  const reach = 6;
  return {
    x0: Math.max(Math.floor(view.x + view.scale * rect.x0) - reach, 0),
    y0: Math.max(Math.floor(view.y + view.scale * rect.y0) - reach, 0),
    x1: Math.min(Math.ceil(view.x + view.scale * rect.x1) + reach, screenWidth),
    y1: Math.min(Math.ceil(view.y + view.scale * rect.y1) + reach, screenHeight),
  };
}

/** Violet is unlikely and yellow is sure. What is unsure covers most; below 2 % nothing does. */
const HEAT = Uint32Array.from({ length: 256 }, (_, p) => {
  if (p < 5) return 0;
  const t = p / 255;
  const blue = 210 - 190 * t;
  const green = 60 + 170 * t;
  const alpha = 45 + 110 * (1 - Math.abs(2 * t - 1));
  return ((alpha << 24) | (blue << 16) | (green << 8) | 235) >>> 0;
});

/** Draws mask, probability and a second mask into the rectangle {x0, y0, x1, y1} of the screen.
 *
 * Each pixel of the screen takes the nearest pixel of the film. An outline is where a small window
 * around it is neither all inside nor all outside, so it is as thick at every scale.
 *
 * Args:
 *   context: of a canvas over the film; the rectangle is replaced.
 *   film: {width, height, mask, probability or null, other or null}.
 *   look: {fill: bool, outline: bool, reach: half the outline's thickness in pixels}.
 */
export function drawMask(context, rect, view, film, look) {
  const wide = rect.x1 - rect.x0;
  const high = rect.y1 - rect.y0;
  if (wide <= 0 || high <= 0) return;
  const { reach } = look;
  const { mask, other, probability } = film;
  const side = 2 * reach + 1;
  const area = side * side;
  const stride = wide + 2 * reach;
  const image = new ImageData(wide, high);
  const words = new Uint32Array(image.data.buffer);
  const columns = new Int32Array(stride);
  for (let i = 0; i < stride; i++) {
    const x = Math.floor((rect.x0 + i - reach + 0.5 - view.x) / view.scale);
    columns[i] = x < 0 || x >= film.width ? -1 : x;
  }
  // A word counts three things at once: bits 0-7 side 1, bits 8-15 side 2, bits 16-23 the other mask.
  const ring = Array.from({ length: side }, () => new Uint32Array(wide));
  const labels = Array.from({ length: side }, () => new Uint32Array(stride));
  const sums = new Uint32Array(wide);
  const code = [0, 1, 256];
  let slot = 0;
  for (let row = -reach; row < high + reach; row++, slot = (slot + 1) % side) {
    const line = labels[slot];
    const counts = ring[slot];
    const y = Math.floor((rect.y0 + row + 0.5 - view.y) / view.scale);
    const inside = y >= 0 && y < film.height;
    for (let i = 0; i < stride; i++) {
      const x = columns[i];
      if (!inside || x < 0) line[i] = 0;
      else {
        const at = y * film.width + x;
        line[i] = (mask ? code[mask[at]] : 0) + (other && other[at] ? 65536 : 0);
      }
    }
    let count = 0;
    for (let i = 0; i < side - 1; i++) count += line[i];
    for (let i = 0; i < wide; i++) {
      count += line[i + side - 1];
      sums[i] += count - counts[i];
      counts[i] = count;
      count -= line[i];
    }
    if (row < reach) continue;
    const top = row - reach; // the row whose window is whole now
    const middle = labels[(slot + side - reach) % side];
    const filmRow = Math.floor((rect.y0 + top + 0.5 - view.y) / view.scale);
    const heatRow = probability && filmRow >= 0 && filmRow < film.height;
    for (let i = 0; i < wide; i++) {
      const sum = sums[i];
      const x = columns[i + reach];
      let word = heatRow && x >= 0 ? HEAT[probability[filmRow * film.width + x]] : 0;
      if (sum) {
        const right = sum & 255;
        const left = (sum >> 8) & 255;
        const second = (sum >> 16) & 255;
        const lung = right + left;
        const colour = COLOURS[left > right ? 2 : 1];
        if (look.fill && middle[i + reach] & 0xffff) word = (0x50000000 | colour) >>> 0;
        if (look.outline && lung && lung < area) word = cover(word, colour, lung / area);
        if (second && second < area) word = cover(word, COLOURS.other, second / area);
      }
      words[top * wide + i] = word;
    }
  }
  context.putImageData(image, rect.x0, rect.y0);
}

/** Lays an outline over a pixel: the more, the nearer half of its window is inside. */
function cover(word, colour, share) {
  const alpha = Math.round(255 * Math.min(1, 1.6 * (1 - Math.abs(2 * share - 1))));
  return alpha > word >>> 24 ? ((alpha << 24) | colour) >>> 0 : word;
}
