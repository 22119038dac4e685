/** Tools and their keys: the toolbar, the help and the keyboard are made from this one table. */

/** [action, key, label, help, group, icon]; an icon is the path of a line in 24 x 24. */
export const ACTIONS = [
  ["brush", "b", "Brush", "Shift and a click draws a straight line from the last point", "draw", "M4 20c3 1 6-1 6-4l-2-2c-3 0-3 3-4 6zM10 14 19 4l2 2-9 10"],
  ["eraser", "e", "Eraser", "", "draw", "M4 16 13 6l6 6-8 8H8zM9 11l6 6M11 20h9"],
  ["add", "p", "Polygon, add", "click for corners, drag for freehand; double click, Enter or the first corner closes", "draw", "M5 18 4 8l8-4 8 6-3 9zM9 12h6M12 9v6"],
  ["cut", "c", "Polygon, cut", "the same, and takes away", "draw", "M5 18 4 8l8-4 8 6-3 9zM9 12h6"],
  ["pan", "h", "Hand", "drag the film; a click brings a place to the middle", "draw", "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3"],
  ["window", "w", "Window and level", "drag across and down; the right button does it in every tool", "draw", "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16"],
  ["fill", "f", "Fill holes", "", "edit", "M4 12a8 8 0 1 0 16 0 8 8 0 0 0-16 0M12 9v6M9 12h6"],
  ["smooth", "s", "Smooth", "", "edit", "M3 16c3 0 3-8 6-8s3 8 6 8 3-8 6-8"],
  ["undo", "z", "Undo", "Ctrl+Z does it too", "edit", "M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10H9"],
  ["redo", "y", "Redo", "Ctrl+Y does it too", "edit", "M16 5l4 4-4 4M20 9H10a5 5 0 0 0 0 10h5"],
  ["outline", "o", "Outline or fill", "outline, filled, or no mask", "show", "M9 4C5 6 4 12 5 19c2 1 5 0 5-2zM15 4c4 2 5 8 4 15-2 1-5 0-5-2z"],
  ["probability", "t", "Probability", "of the model, as a layer", "show", "M4 20V10M9 20V4M14 20v-8M19 20V7"],
  ["compare", "d", "Difference", "to the given mask, or to the model's", "show", "M9 12a5 5 0 1 0 0 .1M15 7a5 5 0 1 1-3 9M12 8a5 5 0 0 1 3-1"],
  ["zoomin", "+", "Zoom in", "also the wheel or two fingers", "view", "M4 10a6 6 0 1 0 12 0 6 6 0 0 0-12 0M15 15l5 5M10 7v6M7 10h6"],
  ["zoomout", "-", "Zoom out", "", "view", "M4 10a6 6 0 1 0 12 0 6 6 0 0 0-12 0M15 15l5 5M7 10h6"],
  ["fit", "0", "Whole film", "", "view", "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5"],
  ["smaller", "[", "Smaller brush", "", "", ""],
  ["larger", "]", "Larger brush", "", "", ""],
  ["reset", "r", "Reset window", "to the film's own", "", ""],
  ["first", "m", "Model's mask back", "can be undone", "", ""],
  ["sliceup", ".", "Next slice", "also the wheel", "", ""],
  ["slicedown", ",", "Slice before", "", "", ""],
  ["accept", "a", "Accept", "and go on to the next film", "", ""],
  ["reject", "x", "Reject", "with a reason", "", ""],
  ["reopen", "u", "Reopen", "take a verdict back", "", ""],
  ["next", "n", "Next film", "", "", ""],
  ["previous", "k", "Film before", "", "", ""],
  ["search", "/", "Search", "", "", ""],
  ["help", "?", "Keys", "this list", "", ""],
];

/** What the keyboard does on the film, besides single keys. */
const ON_FILM = [
  ["Arrows", "move the keyboard's cursor; with Shift by one pixel"],
  ["Space", "paint, as long as it is held, or set a corner"],
  ["Enter", "pen down and up, so that arrows draw; closes a polygon"],
  ["Esc", "give up a stroke or polygon"],
];

/** Makes an element with attributes and children. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Makes the buttons of the toolbar; arrows move among them, as in every toolbar. */
export function makeToolbar(root, run) {
  const svg = "http://www.w3.org/2000/svg";
  let group;
  for (const [action, key, label, help, place, path] of ACTIONS) {
    if (!place) continue;
    if (group?.dataset.group !== place) {
      group = element("div", { "data-group": place });
      root.append(group);
    }
    const icon = document.createElementNS(svg, "svg");
    icon.setAttribute("viewBox", "0 0 24 24");
    icon.setAttribute("aria-hidden", "true");
    icon.append(document.createElementNS(svg, "path"));
    icon.firstChild.setAttribute("d", path);
    const name = { title: `${label} (${key.toUpperCase()})${help && `: ${help}`}`, "aria-label": label };
    const attributes = { type: "button", "data-action": action, "aria-keyshortcuts": key, ...name };
    if (["draw", "show"].includes(place)) attributes["aria-pressed"] = "false";
    const button = element("button", attributes, icon);
    button.tabIndex = root.querySelector("button") ? -1 : 0;
    button.addEventListener("click", () => run(action));
    group.append(button);
  }
  root.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const buttons = [...root.querySelectorAll("button:not(:disabled)")];
    const at = buttons.indexOf(document.activeElement);
    buttons[(at + step + buttons.length) % buttons.length].focus();
  });
  root.addEventListener("focusin", (event) => {
    for (const button of root.querySelectorAll("button")) {
      button.tabIndex = button === event.target ? 0 : -1;
    }
  });
}

/** Fills the table of keys. */
export function makeHelp(body) {
  const row = (key, label, help) => {
    const name = element("th", { scope: "row" }, element("kbd", {}, key));
    return element("tr", {}, name, element("td", {}, label), element("td", {}, help));
  };
  for (const [, key, label, help] of ACTIONS) body.append(row(key.toUpperCase(), label, help));
  for (const [key, help] of ON_FILM) body.append(row(key, "On the film", help));
}

/** Returns the action of a key event, or null; keys in fields are the fields' own. */
export function actionOf(event, singleKeys) {
  const letter = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (event.altKey) return null;
    if (letter === "z") return event.shiftKey ? "redo" : "undo";
    return letter === "y" ? "redo" : null;
  }
  const field = event.target.closest("input:not([type=range]), textarea, select, dialog[open]");
  if (event.altKey || field || !singleKeys) return null;
  if (letter === "=") return "zoomin";
  if (event.key === "PageDown") return "sliceup";
  if (event.key === "PageUp") return "slicedown";
  return ACTIONS.find(([, key]) => key === letter)?.[0] ?? null;
}
