// Before and after: the start picture over the result, with an edge between them that can be moved.

import { make } from "./words.js";

const STEP = 0.02;

/** An element to lie over the result, as large as it. `source`: the start picture's name. */
export function compare(source) {
  const image = make("img", { src: `/sources/${source}.png`, alt: "Start picture", draggable: false });
  const handle = make("div", { class: "compare-handle", role: "slider", tabIndex: 0, "aria-label": "Before and after" });
  handle.setAttribute("aria-valuemin", "0");
  handle.setAttribute("aria-valuemax", "100");
  const words = [make("span", { class: "compare-before" }, "Before"), make("span", { class: "compare-after" }, "After")];
  const element = make("div", { class: "compare" }, image, ...words, handle);
  let at = 0.5;

  function move(to) {
    at = Math.min(Math.max(to, 0), 1);
    element.style.setProperty("--at", `${at * 100}%`);
    element.style.setProperty("--before", at < 0.14 ? 0 : 1);
    element.style.setProperty("--after", at > 0.86 ? 0 : 1);
    handle.setAttribute("aria-valuenow", Math.round(at * 100));
    handle.setAttribute("aria-valuetext", `${Math.round(at * 100)} % of the start picture`);
  }

  const follow = (event) => {
    const { left, width } = element.getBoundingClientRect();
    move((event.clientX - left) / width);
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    follow(event);
  });
  element.addEventListener("pointermove", (event) => event.buttons & 1 && follow(event));
  handle.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: at - STEP, ArrowDown: at - STEP, ArrowRight: at + STEP, ArrowUp: at + STEP, Home: 0, End: 1 }[event.key];
    if (to === undefined) return;
    // The arrows would lead to the next picture.
    event.preventDefault();
    event.stopPropagation();
    move(to);
  });
  move(at);
  return element;
}
