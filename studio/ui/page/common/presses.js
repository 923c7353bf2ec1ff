// What a press is not: a key that an input method reads, a second click of a double one, a key that is held down, the Tab
// that leaves a list. Other scripts never hear of it.

import { DROPDOWN, MAIN_BUTTON } from "./gradio.js";

/** Buttons that make a picture each time they are pressed. */
const MAKING = `[data-once], .buttons > ${MAIN_BUTTON}`;

const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Gradio's lists open with any key, when they were just left, too. */
const leavesList = (event) => event.key === "Tab" && event.target.matches?.(DROPDOWN);

/** A long list can be scrolled, so that Tab would lead into it; but it goes when its field is left, and the focus with it. */
function passList(field) {
  document.getElementById(field.getAttribute("aria-controls"))?.setAttribute("tabindex", "-1");
}

addEventListener(
  "keydown",
  (event) => {
    if (isComposing(event) || leavesList(event)) event.stopImmediatePropagation();
    if (leavesList(event)) passList(event.target);
    if (event.key === "Enter" && event.repeat && event.target.closest?.(MAKING)) event.preventDefault();
  },
  { capture: true },
);

addEventListener(
  "click",
  (event) => {
    if (event.detail < 2 || !event.target.closest?.(MAKING)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  },
  { capture: true },
);
