// The elements of a DICOM file that matter for its picture (PS3.5 7, PS3.10 7); all others are passed
// over. Nothing that says who the patient is ever is read.

const TAGS = {
  Modality: 0x00080060,
  EstimatedRadiographicMagnificationFactor: 0x00181114,
  ImagerPixelSpacing: 0x00181164,
  PatientOrientation: 0x00200020,
  SamplesPerPixel: 0x00280002,
  PhotometricInterpretation: 0x00280004,
  PlanarConfiguration: 0x00280006,
  NumberOfFrames: 0x00280008,
  Rows: 0x00280010,
  Columns: 0x00280011,
  PixelSpacing: 0x00280030,
  BitsAllocated: 0x00280100,
  BitsStored: 0x00280101,
  HighBit: 0x00280102,
  PixelRepresentation: 0x00280103,
  PixelPaddingValue: 0x00280120,
  PixelPaddingRangeLimit: 0x00280121,
  WindowCenter: 0x00281050,
  WindowWidth: 0x00281051,
  RescaleIntercept: 0x00281052,
  RescaleSlope: 0x00281053,
  VOILUTFunction: 0x00281056,
  RedPaletteColorLookupTableDescriptor: 0x00281101,
  GreenPaletteColorLookupTableDescriptor: 0x00281102,
  BluePaletteColorLookupTableDescriptor: 0x00281103,
  RedPaletteColorLookupTableData: 0x00281201,
  GreenPaletteColorLookupTableData: 0x00281202,
  BluePaletteColorLookupTableData: 0x00281203,
  SegmentedRedPaletteColorLookupTableData: 0x00281221,
  SegmentedGreenPaletteColorLookupTableData: 0x00281222,
  SegmentedBluePaletteColorLookupTableData: 0x00281223,
  ModalityLUTSequence: 0x00283000,
  LUTDescriptor: 0x00283002,
  LUTData: 0x00283006,
  VOILUTSequence: 0x00283010,
  PresentationLUTShape: 0x20500020,
  PixelData: 0x7fe00010,
};
const NAMES = new Map(Object.entries(TAGS).map(([name, tag]) => [tag, name]));
const LONG = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"];
const SHORT = [
  ...["AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"],
  ...["LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"],
];
const [ITEM, END_OF_ITEM, END_OF_SEQUENCE] = [0xfffee000, 0xfffee00d, 0xfffee0dd];
const UNDEFINED = 0xffffffff;
export const IMPLICIT = "1.2.840.10008.1.2";
export const EXPLICIT = "1.2.840.10008.1.2.1";
export const DEFLATED = "1.2.840.10008.1.2.1.99";
export const BIG_ENDIAN = "1.2.840.10008.1.2.2";
const DEEPEST = 16; // sequences within sequences

const text = (bytes) => String.fromCharCode(...bytes);

export function isDicom(bytes, name) {
  if (text(bytes.subarray(128, 132)) === "DICM" || isDataSet(bytes)) return true;
  const starts = [[2, 0], [8, 0], [0, 2], [0, 8]].some(([a, b]) => bytes[0] === a && bytes[1] === b);
  return /\.(dcm|dicom)$/i.test(name) && starts;
}

// Says whether the bytes begin with a bare data set: jaxlung/io/dicom/signature.py.
function isDataSet(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let [at, previous, hasText] = [0, 0, false];
  for (let count = 1; at + 12 <= Math.min(bytes.length, 4096); count++) {
    const group = view.getUint16(at, true);
    const tag = group * 65536 + view.getUint16(at + 2, true);
    const kind = text(bytes.subarray(at + 4, at + 6));
    let header = 8;
    let length = view.getUint32(at + 4, true);
    if (LONG.includes(kind)) [header, length] = [12, view.getUint32(at + 8, true)];
    else if (SHORT.includes(kind)) length = view.getUint16(at + 6, true);
    const named = LONG.includes(kind) || SHORT.includes(kind);
    if (length > 1024 || length % 2 || at + header + length > bytes.length) return false;
    if (tag <= previous || group % 2 || (count === 1 && group !== 2 && group !== 8)) return false;
    if (group === 2 && !named) return false;
    if (group === 8 && tag % 65536 > 1) {
      const value = text(bytes.subarray(at + header, at + header + length));
      // eslint-disable-next-line no-control-regex
      if (!/^[^\0-\x1a\x7f]*\0?$/.test(value)) return false;
      hasText ||= length > 1;
    }
    if (count >= 3 && (hasText || group === 2)) return true;
    previous = tag;
    at += header + length;
  }
  return false;
}

// The transfer syntax, and where the data set starts.
export function readSyntax(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = text(bytes.subarray(128, 132)) === "DICM" ? 132 : 0;
  let syntax = "";
  // The header is explicit and little endian, whatever follows.
  while (at + 8 <= bytes.length && view.getUint16(at, true) === 2) {
    const kind = text(bytes.subarray(at + 4, at + 6));
    const isLong = LONG.includes(kind);
    const length = isLong ? view.getUint32(at + 8, true) : view.getUint16(at + 6, true);
    const start = at + (isLong ? 12 : 8);
    if (view.getUint16(at + 2, true) === 0x10) {
      syntax = text(bytes.subarray(start, start + length)).replace(/[\0 ]+$/, "");
    }
    at = start + length;
  }
  if (!syntax) {
    const kind = text(bytes.subarray(at + 4, at + 6));
    const isBig = bytes[at] === 0 && bytes[at + 1] !== 0;
    const isExplicit = LONG.includes(kind) || SHORT.includes(kind);
    syntax = isBig ? BIG_ENDIAN : isExplicit ? EXPLICIT : IMPLICIT;
  }
  return { syntax, start: at };
}

// Reads a data set from `start` to its pixels.
export function readElements(bytes, start, syntax) {
  const reader = new Reader(bytes, syntax !== BIG_ENDIAN);
  const elements = reader.read(start, bytes.length, syntax !== IMPLICIT, 0).elements;
  return new Dataset(bytes, elements, syntax);
}

class Reader {
  constructor(bytes, little) {
    this.bytes = bytes;
    this.little = little;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  // Elements {kind, start, end, items} by name, and where they end.
  read(at, end, explicit, depth) {
    if (depth > DEEPEST) throw new Error("too deep");
    const elements = new Map();
    while (at + 8 <= end) {
      const tag = this.#tag(at);
      if (tag === END_OF_ITEM) return { elements, at: at + 8 };
      let kind = explicit ? text(this.bytes.subarray(at + 4, at + 6)) : "";
      let length;
      if (!explicit) {
        length = this.view.getUint32(at + 4, this.little);
        at += 8;
      } else if (LONG.includes(kind)) {
        length = this.view.getUint32(at + 8, this.little);
        at += 12;
      } else {
        length = this.view.getUint16(at + 6, this.little);
        at += 8;
      }
      const name = NAMES.get(tag);
      const element = { kind, start: at, end: Math.min(at + length, end), items: null };
      if (name === "PixelData") {
        const isPacked = length === UNDEFINED;
        element.fragments = isPacked ? this.#fragments(at, end) : null;
        element.isWhole = isPacked || at + length <= end;
        elements.set(name, element);
        break;
      }
      const isSequence = kind === "SQ" || length === UNDEFINED || /Sequence$/.test(name ?? "");
      if (isSequence) {
        // A sequence of unknown kind is implicit (PS3.5 6.2.2).
        const inner = explicit && kind !== "UN";
        const last = length === UNDEFINED ? end : at + length;
        [element.items, at] = this.#items(at, last, inner, depth + 1);
      } else {
        if (at + length > end) throw new Error("an element ends behind the file");
        at += length;
      }
      if (name) elements.set(name, element);
    }
    return { elements, at };
  }

  #tag(at) {
    return this.view.getUint16(at, this.little) * 65536 + this.view.getUint16(at + 2, this.little);
  }

  #items(at, end, explicit, depth) {
    const items = [];
    while (at + 8 <= end) {
      const tag = this.#tag(at);
      const length = this.view.getUint32(at + 4, this.little);
      at += 8;
      if (tag === END_OF_SEQUENCE) break;
      if (tag !== ITEM) throw new Error("no item where one has to be");
      const last = length === UNDEFINED ? end : Math.min(at + length, end);
      const item = this.read(at, last, explicit, depth);
      items.push(item.elements);
      at = length === UNDEFINED ? item.at : last;
    }
    return [items, at];
  }

  // The parts of encapsulated pixels, without the table of offsets.
  #fragments(at, end) {
    const parts = [];
    while (at + 8 <= end) {
      const tag = this.#tag(at);
      const length = this.view.getUint32(at + 4, this.little);
      at += 8;
      if (tag !== ITEM) break;
      if (at + length > end) throw new Error("a fragment ends behind the file");
      parts.push(this.bytes.subarray(at, at + length));
      at += length;
    }
    return parts.slice(1);
  }
}

class Dataset {
  constructor(source, elements, syntax) {
    this.source = source;
    this.elements = elements;
    this.syntax = syntax;
    this.little = syntax !== BIG_ENDIAN;
  }

  has(name) {
    return this.elements.has(name);
  }

  element(name) {
    return this.elements.get(name);
  }

  bytes(name) {
    const { start, end } = this.elements.get(name);
    return this.source.subarray(start, end);
  }

  // Text without its padding; undefined where it is absent or empty.
  text(name) {
    if (!this.has(name)) return undefined;
    return text(this.bytes(name)).replace(/[\0 ]+$/, "").trim() || undefined;
  }

  // 16-bit numbers, signed where the element says so.
  numbers(name) {
    if (!this.has(name)) return [];
    const { kind } = this.element(name);
    const data = this.bytes(name);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    return Array.from({ length: data.length >> 1 }, (_, i) =>
      kind === "SS" ? view.getInt16(2 * i, this.little) : view.getUint16(2 * i, this.little),
    );
  }

  number(name, otherwise) {
    const [value = otherwise] = this.numbers(name);
    if (value === undefined) throw new Error("an element is missing");
    return value;
  }

  // The first item of a sequence, or null.
  item(name) {
    const items = this.elements.get(name)?.items ?? [];
    return items.length && items[0].size ? new Dataset(this.source, items[0], this.syntax) : null;
  }
}
