// Before and after: one picture over another, with an edge between them that can be moved.

import { make } from "../common/words.js";

/**
 * An element to lie over a picture, as large as it: the one at `address` up to an edge. `left` and `right` are written on the two;
 * `of` is what the left one is, for those who cannot see it.
 */
export function compare(address, left, right, of) {
  const image = make("img", { src: address, alt: `${left}: ${of}`, draggable: false });
  return slide(image, { left, right, name: `${left} and ${right.toLowerCase()}`, of });
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
