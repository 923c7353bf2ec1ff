// A part of the page on the whole screen, and back.

import { icon } from "./icons.js";
import { make } from "./words.js";

/** Whether this browser can: some on phones cannot. */
const canFill = document.fullscreenEnabled ?? false;

/** Show `element` on the whole screen, or put it back. */
export function toggleFull(element) {
  if (!canFill) return;
  if (document.fullscreenElement === element) document.exitFullscreen();
  else element.requestFullscreen().catch(() => {}); // the browser may refuse, for instance within a frame of another page
}

/** Whether a key press asks for it. */
export const isFullKey = (event) =>
  event.key.toLowerCase() === "f" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey && !event.repeat;

/** The button that does it for `element`; hidden where the browser cannot. */
export function fullButton(element) {
  const button = make("button", { type: "button", class: "act full-screen", hidden: !canFill });
  const draw = () => {
    const isFull = document.fullscreenElement === element;
    button.replaceChildren(icon(isFull ? "smaller" : "larger"));
    button.title = isFull ? "Leave full screen (F)" : "Full screen (F)";
    button.setAttribute("aria-label", isFull ? "Leave full screen" : "Full screen");
  };
  button.addEventListener("click", () => toggleFull(element));
  element.addEventListener("fullscreenchange", draw);
  draw();
  return button;
}
