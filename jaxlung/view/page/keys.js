/** Tools and their keys: the toolbar, the help and the keyboard are made from this one table. */

/** [action, key, label, help, group of the toolbar]; index.html has the icons. */
export const ACTIONS = [
  ["brush", "b", "Brush", "Shift and a click draws a straight line from the last point", "draw"],
  ["eraser", "e", "Eraser", "", "draw"],
  ["add", "p", "Polygon, add", "click for corners, drag for freehand; double click, Enter or the first corner closes", "draw"],
  ["cut", "c", "Polygon, cut", "the same, and takes away", "draw"],
  ["pan", "h", "Hand", "drag the film; a click brings a place to the middle", "draw"],
  ["window", "w", "Window and level", "drag across and down; the right button does it in every tool", "draw"],
  ["fill", "f", "Fill holes", "", "edit"],
  ["smooth", "s", "Smooth", "", "edit"],
  ["undo", "z", "Undo", "Ctrl+Z does it too", "edit"],
  ["redo", "y", "Redo", "Ctrl+Y does it too", "edit"],
  ["outline", "o", "Outline or fill", "outline, filled, or no mask", "show"],
  ["probability", "t", "Probability", "of the model, as a layer", "show"],
  ["compare", "d", "Difference", "to the given mask, or to the model's", "show"],
  ["zoomin", "+", "Zoom in", "also the wheel or two fingers", "view"],
  ["zoomout", "-", "Zoom out", "", "view"],
  ["fit", "0", "Whole film", "", "view"],
  ["smaller", "[", "Smaller brush"],
  ["larger", "]", "Larger brush"],
  ["reset", "r", "Reset window", "to the film's own"],
  ["first", "m", "Model's mask back", "can be undone"],
  ["sliceup", ".", "Next slice", "also the wheel"],
  ["slicedown", ",", "Slice before"],
  ["accept", "a", "Accept", "and go on to the next film"],
  ["reject", "x", "Reject", "with a reason"],
  ["reopen", "u", "Reopen", "take a verdict back"],
  ["next", "n", "Next film"],
  ["previous", "k", "Film before"],
  ["search", "/", "Search"],
  ["help", "?", "Keys", "this list"],
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
  const icons = document.getElementById("icons").content;
  let group;
  for (const [action, key, label, help, place] of ACTIONS) {
    if (!place) continue;
    if (group?.dataset.group !== place) {
      group = element("div", { "data-group": place });
      root.append(group);
    }
    const icon = icons.querySelector(`[data-icon=${action}]`);
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

/** Puts the keys before those on the film, which are there. */
export function makeHelp(body) {
  const rows = ACTIONS.map(([, key, label, help = ""]) => {
    const name = element("th", { scope: "row" }, element("kbd", {}, key.toUpperCase()));
    return element("tr", {}, name, element("td", {}, label), element("td", {}, help));
  });
  body.prepend(...rows);
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
