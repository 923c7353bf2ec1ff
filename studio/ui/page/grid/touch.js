// Where one works with fingers, what can be done with a cell stands below the grid: over a small cell it would hide the picture.

import { make } from "../common/words.js";

/**
 * A bar for the buttons and the stars of the cell that has the focus. `partsOf(id)` are the elements of a cell that go there, of
 * which each goes back to where it came from when another cell takes its place, or with clear(). Null where there is a mouse.
 */
export function makeTouchBar(table, partsOf) {
  if (!matchMedia("(pointer: coarse)").matches) return null;
  const element = make("div", { class: "touch-bar", role: "group", "aria-label": "The chosen picture" });
  let homes = [];

  function clear() {
    for (const [part, home, next] of homes) home.insertBefore(part, next);
    homes = [];
  }

  table.addEventListener("focusin", (event) => {
    const id = event.target.closest(".cell")?.dataset.job;
    if (!id) return;
    clear();
    homes = partsOf(id).map((part) => [part, part.parentElement, part.nextSibling]);
    element.replaceChildren(...homes.map(([part]) => part));
  });
  return { element, clear };
}
