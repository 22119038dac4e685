/** The dialogs that ask who looks, why a film is rejected, and whether all is done. */

import { $, ask, say, showPairs } from "./elements.js";
import * as server from "./server.js";

export async function askWho() {
  const answer = await ask($.who);
  const name = answer ? $.whoName.value.trim() : "";
  server.reviewer(name).catch((error) => say(`The name is not kept: ${error.message}`));
  $.viewer.focus();
}

/** Asks why a film is rejected; "" where it is not. */
export async function askWhy() {
  $.why.querySelector("form").reset();
  $.whyText.required = true; // unless one of the reasons is chosen
  const answer = await ask($.why);
  $.viewer.focus();
  const choice = $.why.querySelector("input:checked")?.value;
  return answer && [choice, $.whyText.value.trim()].filter(Boolean).join(": ");
}

/** Chooses a reason by its number. */
export function chooseReason(event) {
  if ($.why.open && event.target !== $.whyText) $.reasons.querySelectorAll("input")[event.key - 1]?.click();
}

async function finish(queue) {
  $.doneMore.hidden = true;
  $.doneText.textContent = "All is being saved and the report is being made…";
  ask($.done);
  while (queue.has() && $.done.open) {
    if (queue.state !== "saving") $.doneText.textContent = $.saving.textContent;
    await new Promise((go) => setTimeout(go, 100));
  }
  if (!$.done.open) return;
  try {
    const { counts, report, command, note } = await server.finish();
    showPairs($.counts, counts);
    $.report.hidden = !report;
    $.report.href = report ?? "";
    $.training.hidden = !command;
    $.command.textContent = command;
    const done = "All is saved. You can close this page, or go on.";
    $.doneText.textContent = [done, note].filter(Boolean).join(" Note: ");
    $.doneMore.hidden = false;
  } catch (error) {
    $.doneText.textContent = `It did not finish: ${error.message}`;
  }
}

async function copyCommand() {
  try {
    await navigator.clipboard.writeText($.command.textContent);
  } catch {
    getSelection().selectAllChildren($.command); // no clipboard: select it, for Ctrl+C
    document.execCommand("copy");
  }
  $.copy.textContent = "Copied";
  setTimeout(() => ($.copy.textContent = "Copy the command"), 2000);
}

/** Listens to the dialogs. */
export function makeDialogs(queue) {
  $.why.addEventListener("input", () => {
    $.whyText.required = !$.why.querySelector("input:checked");
  });
  $.finish.addEventListener("click", () => finish(queue));
  $.copy.addEventListener("click", copyCommand);
}
