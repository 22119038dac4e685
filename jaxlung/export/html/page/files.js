// What the page saves: tables, archives, and files by the browser's own way.

const FIELDS = [
  ...["name", "image", "status", "model", "mask", "height", "width"],
  ...["lung_px", "right_px", "left_px", "lung_mm2", "right_mm2", "left_mm2", "right_to_left"],
  ...["confidence", "turned", "warnings", "error", "seconds"],
];

// A row as in summary.csv of `jaxlung predict`: docs/reference/predict.md says what the columns mean.
function toRow({ name, file, result, error }, model, isLung) {
  const row = { name, image: file.name, model, error: error ?? "" };
  if (!result) return { ...row, status: error ? "failed" : "waiting" };
  const { pixels, areas, sidesKnown } = result;
  Object.assign(row, {
    status: "ok",
    mask: `${name}.png`,
    height: result.height,
    width: result.width,
    lung_px: pixels.whole,
    lung_mm2: areas?.whole,
    confidence: Number(result.confidence.toFixed(4)),
    turned: result.degrees,
    warnings: result.warnings.join("; "),
    seconds: result.seconds.toFixed(3),
  });
  if (!sidesKnown || !isLung) return row;
  return {
    ...row,
    right_px: pixels.right,
    left_px: pixels.left,
    right_mm2: areas?.right,
    left_mm2: areas?.left,
    right_to_left: Number((pixels.right / pixels.left).toFixed(3)),
  };
}

export function toCsv(films, model, isLung) {
  const quote = (value) => {
    const text = String(value ?? "");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = films.map((film) => {
    const row = toRow(film, model, isLung);
    return FIELDS.map((field) => quote(row[field])).join(",");
  });
  return [FIELDS.join(","), ...lines, ""].join("\n");
}

const CRC_TABLE = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function checksum(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

// A zip of [name, Blob]s as they are: PNG is packed already.
export async function makeZip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, blob] of files) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const path = new TextEncoder().encode(name);
    // From "version needed" to the length of extra fields; 0x800 says UTF-8, 0x21 is 1980-01-01.
    const about = new DataView(new ArrayBuffer(26));
    [10, 0x800, 0, 0, 0x21].forEach((value, i) => about.setUint16(2 * i, value, true));
    [checksum(bytes), bytes.length, bytes.length].forEach((value, i) =>
      about.setUint32(10 + 4 * i, value, true),
    );
    about.setUint16(22, path.length, true);
    const local = new Uint8Array([0x50, 0x4b, 3, 4]);
    parts.push(local, about.buffer, path, bytes);
    const rest = new DataView(new ArrayBuffer(14));
    rest.setUint32(10, offset, true);
    directory.push(new Uint8Array([0x50, 0x4b, 1, 2, 10, 0]), about.buffer, rest.buffer, path);
    offset += 4 + 26 + path.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.byteLength, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, size, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...directory, end.buffer], { type: "application/zip" });
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Files that were dropped, also those of folders, each with a path of its own.
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const files = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) break;
      for (const one of some) await walk(one);
    }
  };
  for (const entry of entries) await walk(entry).catch(() => {});
  return files;
}
