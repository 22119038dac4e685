// The whole way of a film: jaxlung/predict/predictor.py. `model` is what jaxlung/export/html/model.py
// has written into the page.

import { canvasGeometry, fromCanvas, rotate, toCanvas } from "./canvas.js";
import { FileError } from "./errors.js";
import { examine } from "./gate.js";
import { isColoured, toGrey8 } from "./grey.js";
import { checkMask, expectDice, keepPieces } from "./masks.js";
import { LEFT, RIGHT, labelSides } from "./sides.js";

// Predicts a structure of a film {height, width, channels, data, spacing, mirrored}. Returns planes on
// the film's own grid, and what is known of it.
export function predict(film, model, engine, output) {
  let grey = { height: film.height, width: film.width, data: toGrey8(film) };
  const verdict = examine(grey, isColoured(film, model.gate), model.gate, model.turns);
  if (verdict.inverted) grey = { ...grey, data: grey.data.map((value) => 255 - value) };
  const upright = rotate(grey, -verdict.degrees);
  const geometry = canvasGeometry(upright.height, upright.width, model.size, model.fit);
  const planes = engine.run(toCanvas(upright, geometry), model.mirror);
  const canvas = planes[model.outputs.indexOf(output)];
  if (!canvas.every(Number.isFinite)) throw new FileError("the model's output is not finite");
  const probability = fromCanvas(canvas, geometry);
  const mask = toMask(probability, model, output);
  const isLung = output === "lung";
  const labels = isLung ? labelSides(mask, film.mirrored && !verdict.degrees) : mask;
  const line = model.confidence[output] ?? { slope: 1, intercept: 0, least: null };
  const confidence = expectDice(probability, mask, line);
  const odd = checkMask(mask, confidence, line.least, output, model.rules);
  const warnings = [...verdict.warnings, ...odd];
  const counts = [0, 0, 0];
  for (const label of labels.data) counts[label]++;
  const sidesUnsure = warnings.some((words) => model.gate.sides_unsure.includes(words));
  return {
    image: grey,
    probability: rotate(probability, verdict.degrees),
    labels: rotate(labels, verdict.degrees),
    confidence,
    warnings,
    degrees: verdict.degrees,
    inverted: verdict.inverted,
    sidesKnown: isLung && !sidesUnsure && counts[RIGHT] > 0 && counts[LEFT] > 0,
    pixels: { whole: counts[RIGHT] + counts[LEFT], right: counts[RIGHT], left: counts[LEFT] },
    spacing: film.spacing ?? null,
    mirrored: Boolean(film.mirrored),
  };
}

function toMask(probability, { threshold, pieces, rules }, output) {
  // The threshold as float32, as numpy compares float32 with it.
  const cut = Math.fround(threshold);
  const data = new Uint8Array(probability.data.length);
  for (let i = 0; i < data.length; i++) data[i] = probability.data[i] >= cut ? 1 : 0;
  const mask = { ...probability, data };
  const count = pieces[output];
  return count ? keepPieces(mask, count, rules.second_lung) : mask;
}
