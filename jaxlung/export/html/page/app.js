// The page: a list of films, the one that is shown, and what was found. The worker does the work.

import { droppedFiles, makeZip, save, toCsv } from "./files.js";
import { WorkQueue } from "./queue.js";
import { FilmViewer } from "./viewer.js";

const element = (id) => document.getElementById(id);
const about = JSON.parse(element("about").textContent);
const viewer = new FilmViewer(element("viewer"));
const films = []; // {name, file, result, error, button}
let shown = null; // the film in the viewer
let output = element("output")?.value ?? about.outputs[0];
let round = 0; // another structure: what was asked for before no longer counts

// In one file the parts lie in the page; on a web site they lie beside it.
async function readPart(id) {
  const part = element(id);
  if (part) return part.textContent;
  const answer = await fetch(about.parts[id]);
  if (!answer.ok) throw new Error(`${about.parts[id]}: ${answer.status}`);
  return answer.arrayBuffer();
}

function makeWorker() {
  const source = element("worker");
  if (!source) return new Worker(about.parts.worker);
  const address = URL.createObjectURL(new Blob([source.textContent], { type: "text/javascript" }));
  return new Worker(address);
}

async function startWorker() {
  const [arrays, code, decoders] = await Promise.all(["arrays", "code", "decoders"].map(readPart));
  return { about, arrays, code, decoders, sizes: about.sizes };
}

const queue = new WorkQueue(makeWorker, startWorker);
queue.ready.then(
  () => (document.body.dataset.ready = performance.now().toFixed(0)),
  (error) => fail(`This browser cannot run the page (${error.message}): take a newer one.`),
);

function fail(words) {
  element("empty").hidden = false;
  element("empty").replaceChildren(Object.assign(document.createElement("b"), { textContent: words }));
  say(words);
}

function say(words) {
  element("said").textContent = words;
}

// Names as those of the files without suffix; a second film of a name gets a number.
function nameOf(file) {
  const stem = file.name.replace(/\.(png|jpe?g|jfif|dcm|dicom)$/i, "") || file.name;
  const taken = new Set(films.map((film) => film.name.toLowerCase()));
  let name = stem;
  for (let i = 2; taken.has(name.toLowerCase()); i++) name = `${stem}_${i}`;
  return name;
}

function add(files) {
  const first = films.length;
  for (const file of files) {
    const film = { name: nameOf(file), file, result: null, error: null };
    films.push(film);
    film.button = listFilm(film);
  }
  if (films.length === first) return;
  const [fresh] = films.slice(first);
  if (!shown) select(fresh);
  for (const film of films.slice(first)) if (film !== shown) see(film);
  count();
}

function listFilm(film) {
  const button = document.createElement("button");
  button.type = "button";
  for (const [tag, name, words] of [
    ["canvas", "thumbnail", ""],
    ["span", "name", film.file.name],
    ["span", "found", "waits"],
  ]) {
    const part = document.createElement(tag);
    part.className = name;
    if (words) part.textContent = words;
    button.append(part);
  }
  button.addEventListener("click", () => select(film));
  const item = document.createElement("li");
  item.append(button);
  element("list").append(item);
  return button;
}

// Has the worker look at a film; what comes back is kept and listed.
async function see(film, isShown = false) {
  const asked = round;
  const message = { file: film.file, output, shown: isShown };
  try {
    const { result, planes } = await queue.ask(message, isShown);
    if (asked !== round) return null;
    Object.assign(film, { result, error: null });
    if (result.thumbnail) paintThumbnail(film, result.thumbnail);
    result.thumbnail = null;
    return planes;
  } catch (error) {
    if (asked === round) Object.assign(film, { result: null, error: error.message });
    return null;
  } finally {
    if (asked === round) {
      describeInList(film);
      count();
    }
  }
}

function paintThumbnail(film, { height, width, data }) {
  const canvas = film.button.querySelector("canvas");
  Object.assign(canvas, { height, width });
  const picture = new ImageData(width, height);
  data.forEach((grey, i) => picture.data.set([grey, grey, grey, 255], 4 * i));
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function describeInList(film) {
  const found = film.button.querySelector(".found");
  const { result, error } = film;
  const warned = result?.warnings.length;
  found.className = `found${error ? " bad" : warned ? " warn" : ""}`;
  if (error) found.textContent = error;
  else if (warned) found.textContent = result.warnings.join("; ");
  else found.textContent = `expected Dice ${result.confidence.toFixed(3)}`;
}

function count() {
  const done = films.filter((film) => film.result || film.error);
  const failed = done.filter((film) => film.error).length;
  const words = films.length
    ? `${done.length} of ${films.length} ${films.length === 1 ? "film" : "films"}` +
      (failed ? `, ${failed} failed` : "")
    : "No films yet";
  element("count").textContent = words;
  element("saveAll").hidden = !films.length;
  for (const id of ["csv", "zip"]) element(id).disabled = !done.some((film) => film.result);
  if (films.length && done.length === films.length) say(`Done: ${words}`);
}

async function select(film) {
  shown = film;
  for (const { button } of films) button.removeAttribute("aria-current");
  film.button.setAttribute("aria-current", "true");
  film.button.scrollIntoView({ block: "nearest" });
  element("name").textContent = film.file.name;
  element("empty").hidden = true;
  // Until its pixels come, no other film may stand under its name.
  if (viewer.film?.key !== film) viewer.show(null);
  element("saveOverlay").disabled = true;
  tell(film);
  const planes = await see(film, true);
  if (shown !== film) return;
  tell(film);
  if (!planes) {
    viewer.show(null);
    return;
  }
  const { height, width } = film.result;
  viewer.show({ ...planes, height, width, key: film });
  element("saveOverlay").disabled = false;
}

// What was found of the film that is shown, in numbers and words.
function tell({ file, result, error }) {
  const values = element("values");
  const warnings = element("warnings");
  values.replaceChildren();
  warnings.replaceChildren();
  element("saveOne").hidden = !result;
  element("saveSides").hidden = !result?.sidesKnown;
  for (const id of ["onLeft", "onRight"]) element(id).hidden = !result?.sidesKnown;
  const warn = (words, kind = "") => {
    const item = document.createElement("li");
    item.textContent = words;
    item.className = kind;
    warnings.append(item);
  };
  if (error) warn(error, "bad");
  if (!result) {
    element("viewer").setAttribute("aria-label", error ? `${file.name}: ${error}` : file.name);
    return;
  }
  const { pixels, areas, sidesKnown, confidence } = result;
  const size = (part) =>
    areas ? `${(areas[part] / 100).toFixed(1)} cm²` : `${pixels[part].toLocaleString("en")} px`;
  const structure = output.replaceAll("_", " ");
  const share = (100 * pixels.whole) / (result.height * result.width);
  const rows = [["Expected Dice", confidence.toFixed(3)]];
  rows.push([`${structure[0].toUpperCase()}${structure.slice(1)}`, size("whole")]);
  if (sidesKnown) rows.push(["Right lung", size("right"), "right"], ["Left lung", size("left"), "left"]);
  rows.push(["Of the picture", `${share.toFixed(1)} %`]);
  rows.push(["Pixels", `${result.width} × ${result.height}`]);
  if (result.spacing) {
    rows.push(["Pixel", result.spacing.map((mm) => Number(mm.toFixed(4))).join(" × ") + " mm"]);
  }
  for (const [name, value, key] of rows) {
    const [term, is] = [document.createElement("dt"), document.createElement("dd")];
    if (key) term.append(Object.assign(document.createElement("i"), { className: `key ${key}` }));
    term.append(name);
    is.textContent = value;
    values.append(term, is);
  }
  result.warnings.forEach((words) => warn(words));
  // A turned film is shown as its file has it: its sides are where its labels are.
  const isUpright = !result.degrees;
  const [left, right] = result.mirrored ? ["L", "R"] : ["R", "L"];
  Object.assign(element("onLeft"), { textContent: left, hidden: !sidesKnown || !isUpright });
  Object.assign(element("onRight"), { textContent: right, hidden: !sidesKnown || !isUpright });
  const words = rows.map(([name, value]) => `${name} ${value}`).join(", ");
  element("viewer").setAttribute(
    "aria-label",
    `${file.name}: ${words}. ${result.warnings.join(". ")}`,
  );
}

function toggle(id) {
  const on = !viewer.look[id];
  viewer.look[id] = on;
  element(id).setAttribute("aria-pressed", String(on));
  viewer.redraw();
}

function forget() {
  queue.clear();
  round++;
  films.length = 0;
  shown = null;
  element("list").replaceChildren();
  element("name").textContent = "No film";
  element("values").replaceChildren();
  element("warnings").replaceChildren();
  for (const id of ["saveOne", "onLeft", "onRight"]) element(id).hidden = true;
  element("empty").hidden = false;
  element("viewer").setAttribute("aria-label", "No film is shown");
  viewer.show(null);
  count();
}

const on = (id, run) => element(id)?.addEventListener("click", run);
on("choose", () => element("files").click());
on("folder", () => element("folderFiles").click());
for (const id of ["files", "folderFiles"]) {
  element(id).addEventListener("change", ({ target }) => {
    add([...target.files]);
    target.value = "";
  });
}
for (const id of ["outline", "fill", "heat"]) on(id, () => toggle(id));
on("larger", () => viewer.zoom(1.3));
on("smaller", () => viewer.zoom(1 / 1.3));
on("whole", () => viewer.fit());
on("clear", forget);
on("saveMask", () => save(shown.result.mask, `${shown.name}.png`));
on("saveSides", () => save(shown.result.sides, `${shown.name}_sides.png`));
on("saveOverlay", async () => {
  const blob = await viewer.overlay();
  if (blob) save(blob, `${shown.name}_overlay.png`);
  else say("This browser cannot draw a picture so large.");
});
on("csv", () => {
  const text = toCsv(films, about.model, output === "lung");
  save(new Blob([text], { type: "text/csv" }), "summary.csv");
});
on("zip", async () => {
  const done = films.filter((film) => film.result);
  const files = done.flatMap(({ name, result }) => [
    [`${name}.png`, result.mask],
    ...(result.sidesKnown ? [[`sides/${name}.png`, result.sides]] : []),
  ]);
  const text = toCsv(films, about.model, output === "lung");
  save(await makeZip([...files, ["summary.csv", new Blob([text])]]), "lungs.zip");
});
element("output")?.addEventListener("change", ({ target }) => {
  output = target.value;
  queue.clear();
  round++;
  for (const film of films) {
    Object.assign(film, { result: null, error: null });
    if (film !== shown) see(film);
  }
  if (shown) select(shown);
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const { key } = event;
  const isViewer = event.target === element("viewer");
  const step = 40 * (viewer.ratio ?? 1);
  const moves = {
    ArrowLeft: [step, 0],
    ArrowRight: [-step, 0],
    ArrowUp: [0, step],
    ArrowDown: [0, -step],
  };
  const keys = {
    o: () => toggle("outline"),
    f: () => toggle("fill"),
    p: () => toggle("heat"),
    "+": () => viewer.zoom(1.3),
    "=": () => viewer.zoom(1.3),
    "-": () => viewer.zoom(1 / 1.3),
    0: () => viewer.fit(),
  };
  if (isViewer && moves[key]) viewer.pan(...moves[key]);
  else if (key === "ArrowDown" || key === "ArrowUp") {
    const item = event.target.closest?.("#list li");
    const next = key === "ArrowDown" ? item?.nextElementSibling : item?.previousElementSibling;
    if (!next) return;
    next.querySelector("button").focus();
  } else if (keys[key]) keys[key]();
  else return;
  event.preventDefault();
});

for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
}
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  add(await droppedFiles(event.dataTransfer));
});
