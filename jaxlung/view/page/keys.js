/** Tools and their keys: toolbar and keyboard are made from the table that the help shows. */

/** {action, key, label, help, group of the toolbar}, from the help of index.html. */
const ACTIONS = [...document.querySelectorAll("tr[data-action]")].map((row) => {
  const [key, label, help] = [...row.children].map((cell) => cell.textContent);
  return { ...row.dataset, key: key.toLowerCase(), label, help };
});

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
  for (const { action, key, label, help, group: place } of ACTIONS) {
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

/** Returns the action of a key event, if any; keys in fields are the fields' own. */
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
  return ACTIONS.find(({ key }) => key === letter)?.action;
}
