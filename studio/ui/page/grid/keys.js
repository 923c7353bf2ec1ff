// The keys of the grid: which cell they are meant for, how one goes from cell to cell, and what each key does.

import { heading } from "../common/menu.js";
import { starsOfKey } from "../stage/stars.js";
import { make } from "../common/words.js";

const KEYS = [
  ["Arrows", "Go to another picture"],
  ["Space", "Show it large"],
  ["1–5", "Rate it; 0 for no stars"],
  ["H", "Hold it, or let it go on"],
  ["O", "Only this one: discard all others"],
  ["X", "Discard it"],
  ["Shift X", "Discard its row"],
  ["Alt X", "Discard its column"],
  ["Ctrl Z", "Bring back what was discarded last"],
  ["M", "Mark it; two can be compared"],
  ["C", "Flick between the two marked"],
  ["Ctrl wheel", "Zoom all; drag to move all"],
  ["Z", "Show all pictures whole"],
  ["F", "Full screen"],
  ["Esc", "Stop all"],
  ["Ctrl Enter", "Generate"],
];

const VERBS = { x: "drop", h: "hold", o: "only", m: "mark", " ": "large", enter: "large" };

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * One cell of `table` is where Tab leads to and what the keys are about; the arrows go on from there.
 *
 * `grid` has places() as in grid-plan.js, each with its `element`, standing() for those that were not dropped, act(verb, id),
 * dropLine("row" | "column", index), isLabelled(kind, index), rate(id, stars), flick(), full(), and `look`.
 */
export function makeSteps(table, grid) {
  let current = null;

  function pointAt(id, isFocused = false) {
    const places = grid.standing();
    const place = places.find((each) => each.id === id) ?? places[0];
    current = place?.id ?? null;
    for (const each of grid.places()) if (each.element) each.element.tabIndex = each === place ? 0 : -1;
    if (!isFocused || !place) return;
    place.element.focus({ preventScroll: true });
    place.element.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** The id of the nearest cell that stays when `places` go. */
  function nearest(places) {
    const [from] = places.filter(({ id }) => id === current).concat(places);
    const far = (place) => Math.hypot(place.x - from.x, place.y - from.y);
    const staying = grid.standing().filter((place) => !places.some(({ id }) => id === place.id));
    return staying.sort((a, b) => far(a) - far(b))[0]?.id ?? null;
  }

  /** The next cell in a direction: in the same line if there is one, else in the nearest line. */
  function neighbour(from, [stepX, stepY]) {
    const ahead = (place) => (place.x - from.x) * stepX + (place.y - from.y) * stepY;
    const aside = (place) => Math.abs((place.x - from.x) * stepY) + Math.abs((place.y - from.y) * stepX);
    const far = (place) => aside(place) * 100 + ahead(place);
    const before = grid.standing().filter((place) => ahead(place) > 0);
    return before.sort((a, b) => far(a) - far(b))[0];
  }

  function go(place) {
    if (place) pointAt(place.id, true);
    return true;
  }

  function onKey(event) {
    const here = grid.places().find((place) => place.id && place.id === current);
    if (!here || event.defaultPrevented || !event.target.closest(".cell")) return;
    if (!press(event, here)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Do what a key means at a cell. False if it means nothing. */
  function press(event, here) {
    const key = event.key.toLowerCase();
    const ends = { home: 0, end: -1 };
    const hasControl = event.ctrlKey || event.metaKey;
    if (key in ends) return go(grid.standing().filter((place) => hasControl || place.y === here.y).at(ends[key]));
    if (hasControl) return false;
    // With Alt, some keyboards write another letter.
    if (key === "x" || (event.altKey && event.code === "KeyX")) {
      if (event.shiftKey) return dropLine("row", here);
      if (event.altKey) return dropLine("column", here);
    }
    if (event.altKey || (event.shiftKey && key in VERBS)) return false;
    const stars = starsOfKey(event);
    if (stars !== null) {
      grid.rate(here.id, stars);
      return true;
    }
    if (event.key in ARROWS) return go(neighbour(here, ARROWS[event.key]));
    if ((key === " " || key === "enter") && event.target.closest("button")) return false;
    return doVerb(key, here);
  }

  function doVerb(key, here) {
    if (key in VERBS) grid.act(VERBS[key], here.id);
    else if (key === "z") grid.look.fit();
    else if (key === "+" || key === "-") grid.look.zoomBy(key === "+" ? 1.25 : 0.8);
    else if (key === "c") grid.flick();
    else if (key === "f") grid.full();
    else return false;
    return true;
  }

  /** A row or a column without a label is the whole grid: that is not meant. */
  function dropLine(kind, here) {
    if (grid.isLabelled(kind, here[kind])) grid.dropLine(kind, here[kind]);
    return true;
  }

  table.addEventListener("keydown", onKey);
  table.addEventListener("focusin", (event) => {
    const id = event.target.closest(".cell")?.dataset.job;
    if (id && id !== current && grid.standing().some((place) => place.id === id)) pointAt(id);
  });

  return {
    current: () => current,
    go: (id) => pointAt(id, true),
    /** The cell it was, or the first if that is gone. */
    stay: (isFocused = false) => pointAt(current, isFocused),
    /** Before `places` go: to a cell that stays. */
    leave(places, isFocused) {
      pointAt(places.some(({ id }) => id === current) ? nearest(places) : current, isFocused);
    },
  };
}

/** What the panel of keys says. */
export function keysPanel() {
  const lines = KEYS.flatMap(([key, text]) => [make("dt", {}, ...key.split(" ").map((part) => make("kbd", {}, part))), make("dd", {}, text)]);
  return [heading("Keys, with a picture chosen"), make("dl", { class: "grid-help" }, ...lines)];
}
