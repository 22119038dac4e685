/** The elements of the page, and what several modules do with them. */

import { element } from "./keys.js";

/** Each element with an id. */
export const $ = Object.fromEntries([...document.querySelectorAll("[id]")].map((e) => [e.id, e]));

/** Lets a screen reader speak. */
export function say(text) {
  $.live.textContent = $.live.textContent === text ? `${text}\u00a0` : text;
}

/** Says why there is no film to see; "" where there is one. */
export function showEmpty(words) {
  $.empty.textContent = words;
  $.empty.hidden = !words;
}

export function showPairs(root, pairs = {}) {
  root.replaceChildren(
    ...Object.entries(pairs).flatMap(([key, value]) => [
      element("dt", {}, key.replace("_", " ")),
      element("dd", {}, String(value)),
    ]),
  );
}

export function setRange(input, min, max, value) {
  Object.assign(input, { min, max, value });
}

export function toggleList(isOpen) {
  if (isOpen === document.body.classList.contains("list-open")) return;
  document.body.classList.toggle("list-open", isOpen);
  $.openList.setAttribute("aria-expanded", isOpen);
  (isOpen ? $.search : $.openList).focus();
}

/** Shows a dialog; resolves to the value of the button that closed it, "" for Escape. */
export function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}
