// DICOM: from a file to what a screen shows of it. Headers are read here, and no error quotes them;
// compressed pixels are decoded by frames.js.

import { FileError, MOST_BYTES, checkSize } from "./errors.js";
import { DEFLATED, readElements, readSyntax } from "./dicomheader.js";
import { applyDisplay, readNumbers } from "./display.js";
import { inflateAll } from "./inflate.js";
import { readStoredValues } from "./frames.js";

export { isDicom } from "./dicomheader.js";

const XRAY = ["CR", "DX", "RG", "RF", "XA"];
const UNKNOWN = ["", "OT", "SC", "HC"];
const COLOURS = ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"];

// Returns {height, width, channels, data, spacing, mirrored}: data are uint8, or float32 in [0, 1].
export async function readDicom(bytes) {
  const dataset = await readDataset(bytes);
  const modality = (dataset.text("Modality") ?? "").toUpperCase();
  const known = /^[A-Z]{2,16}$/.test(modality) ? modality : "";
  if (![...XRAY, ...UNKNOWN].includes(known)) {
    throw new FileError(`has modality ${known}; expected an X-ray (${XRAY.join(" ")})`);
  }
  if (!dataset.has("PixelData")) {
    throw new FileError("holds no image (DICOM without pixel data, or truncated)");
  }
  const photometric = dataset.text("PhotometricInterpretation") ?? "";
  const stored = await nameDamage(() => readStoredValues(dataset));
  const picture = await nameDamage(() => {
    if (COLOURS.includes(photometric)) return stored;
    if (photometric === "PALETTE COLOR") return applyPalette(stored, dataset);
    if (photometric.startsWith("MONOCHROME")) return applyDisplay(stored, dataset);
    throw new FileError(
      "has an unknown PhotometricInterpretation; expected MONOCHROME1, MONOCHROME2, PALETTE " +
        "COLOR, RGB or YBR",
    );
  });
  const spacing = await nameDamage(() => readSpacing(dataset));
  const first = (dataset.text("PatientOrientation") ?? "").split("\\")[0].trim().toUpperCase();
  return { ...picture, spacing, mirrored: first.startsWith("R") };
}

async function readDataset(bytes) {
  let { syntax, start } = await nameDamage(() => readSyntax(bytes));
  if (syntax === DEFLATED) {
    const packed = bytes.subarray(start);
    // One byte may fill the data up to an even number.
    const unpack = (data) => inflateAll(data, MOST_BYTES, "deflate-raw");
    bytes = await nameDamage(() =>
      unpack(packed).catch((error) => {
        if (error instanceof FileError) throw error;
        return unpack(packed.subarray(0, -1));
      }),
    );
    start = 0;
  }
  return nameDamage(() => readElements(bytes, start, syntax));
}

async function nameDamage(run) {
  try {
    return await run();
  } catch (error) {
    if (error instanceof FileError) throw error;
    throw new FileError("has a damaged or incomplete DICOM header; export it again");
  }
}

function readSpacing(dataset) {
  const millimetres = (name) => {
    const sides = readNumbers(dataset, name);
    return sides.length === 2 && Math.min(...sides) > 0 ? sides : null;
  };
  const spacing = millimetres("PixelSpacing");
  if (spacing) return spacing;
  const detector = millimetres("ImagerPixelSpacing");
  if (!detector) return null;
  const [factor = 1] = readNumbers(dataset, "EstimatedRadiographicMagnificationFactor");
  return factor > 0 ? detector.map((side) => side / factor) : null;
}

function applyPalette({ height, width, data }, dataset) {
  const tables = ["Red", "Green", "Blue"].map((colour) => {
    if (dataset.has(`Segmented${colour}PaletteColorLookupTableData`)) {
      throw new FileError("has a segmented palette, which this page does not read; save it as PNG");
    }
    const [count, first] = dataset.numbers(`${colour}PaletteColorLookupTableDescriptor`);
    const entries = dataset.bytes(`${colour}PaletteColorLookupTableData`);
    const length = count || 2 ** 16;
    const words = entries.length >= 2 * length;
    const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
    const values = new (words ? Uint16Array : Uint8Array)(length);
    for (let i = 0; i < length; i++) values[i] = words ? view.getUint16(2 * i, true) : entries[i];
    return { values, first };
  });
  checkSize(height, width);
  const out = new tables[0].values.constructor(3 * data.length);
  for (let i = 0; i < data.length; i++) {
    tables.forEach(({ values, first }, c) => {
      out[3 * i + c] = values[Math.min(Math.max(data[i] - first, 0), values.length - 1)];
    });
  }
  return { height, width, channels: 3, data: out };
}
