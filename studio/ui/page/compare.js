// Before and after: the start picture over the result, with an edge between them that can be moved.

import { make } from "./words.js";

/** An element to lie over the result, as large as it. `source`: the start picture's name. */
export function compare(source) {
  const image = make("img", { src: `sources/${source}.png`, alt: "Start picture", draggable: false });
  return slide(image, { left: "Before", right: "After", name: "Before and after", of: "the start picture" });
}

/** `over` lies over another picture, from the left up to an edge. `name` and `of` are for those who cannot see it. */
export function slide(over, { left, right, name, of }) {
  const slider = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": name });
  const words = [make("span", { class: "compare-before" }, left), make("span", { class: "compare-after" }, right)];
  const edge = make("div", { class: "compare-edge", "aria-hidden": "true" });
  const element = make("div", { class: "compare" }, over, ...words, slider, edge);

  function move() {
    const at = Number(slider.value);
    element.style.setProperty("--at", `${at}%`);
    element.style.setProperty("--before", at < 14 ? 0 : 1);
    element.style.setProperty("--after", at > 86 ? 0 : 1);
    slider.setAttribute("aria-valuetext", `${at} % of ${of}`);
  }

  slider.addEventListener("input", move);
  // The arrows would lead to the next picture.
  slider.addEventListener("keydown", (event) => event.key.startsWith("Arrow") && event.stopPropagation());
  move();
  return element;
}
