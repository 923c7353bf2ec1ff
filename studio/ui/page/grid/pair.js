// Two pictures of the grid in one frame: with an edge between them, in turns, or what differs. They go on while one looks.

import { slide } from "../stage/compare.js";
import { fullButton, isFullKey, toggleFull } from "../common/full.js";
import { jobs, listen } from "../live/live.js";
import { makePicture, ratioOf } from "../stage/emerging.js";
import { make, setText } from "../common/words.js";

/** The ways to look at two, and their names. */
export const WAYS = { slider: "Slider", flick: "Flick", difference: "Difference" };

/** Show two jobs in one frame. `ids` and `names`: of A and of B. `way`: a key of WAYS. */
export function showPair(ids, names, way) {
  const dialog = make("dialog", { class: "viewer pair", "aria-label": `${names[0]} and ${names[1]}` });
  const sides = ids.map((id, index) => makeSide(jobs.get(id), names[index]));
  const seen = make("div", { class: "pair-seen" });
  const ratio = ratioOf(jobs.get(ids[0]).recipe);
  const ways = Object.entries(WAYS).map(([key, title]) => wayButton(key, title));
  const below = make("div", { class: "pair-below" });
  const close = make("button", { type: "button", class: "act viewer-close", title: "Close", "aria-label": "Close" }, "×");
  const legend = make("p", { class: "pair-names" }, badged("A", names[0]), badged("B", names[1]));
  const choice = make("div", { class: "acts", role: "group", "aria-label": "How to compare" }, ...ways);
  // A dialog itself cannot fill the screen; what is in it can.
  const room = make("div", { class: "viewer-room" }, choice, seen, below, legend);
  room.style.setProperty("--ratio", ratio);
  dialog.style.setProperty("--ratio", ratio);
  const full = fullButton(room);
  full.classList.add("viewer-full");
  room.append(full, close);
  dialog.append(room);
  const swap = make("button", { type: "button", class: "act strong" });
  let isSecond = false;
  let isHeld = false;

  function wayButton(key, title) {
    const made = make("button", { type: "button", class: "act" }, title);
    made.addEventListener("click", () => {
      way = key;
      arrange();
    });
    return made;
  }

  function arrange() {
    Object.keys(WAYS).forEach((key, index) => ways[index].setAttribute("aria-pressed", String(key === way)));
    dialog.dataset.way = way;
    const [first, second] = sides.map((side) => side.element);
    if (way === "slider") {
      const words = { left: `A · ${names[0]}`, right: `B · ${names[1]}`, name: "A and B", of: "A" };
      seen.replaceChildren(second, slide(first, words));
      below.replaceChildren();
    } else {
      seen.replaceChildren(first, second);
      below.replaceChildren(...(way === "flick" ? [swap, hint()] : [gain()]));
    }
    flick();
  }

  const hint = () => make("span", { class: "pair-hint" }, "Hold C for the other one, or click to swap.");

  function flick() {
    const isOther = isSecond !== isHeld;
    seen.dataset.shows = way === "flick" ? (isOther ? "B" : "A") : "both";
    setText(swap, isOther ? `B · ${names[1]}` : `A · ${names[0]}`);
    swap.setAttribute("aria-label", `Showing ${isOther ? `B, ${names[1]}` : `A, ${names[0]}`}. Swap`);
  }

  /** What differs is often faint. */
  function gain() {
    const slider = make("input", { type: "range", min: 1, max: 10, value: 1, step: 0.5, "aria-label": "Strengthen the difference" });
    const set = () => {
      seen.style.setProperty("--gain", slider.value);
      slider.style.setProperty("--at", `${((slider.value - 1) / 9) * 100}%`);
    };
    slider.addEventListener("input", set);
    set();
    return make("label", { class: "grid-zoom" }, make("span", {}, "Strengthen"), slider);
  }

  function turn() {
    isSecond = !isSecond;
    flick();
  }

  function hold(isDown) {
    isHeld = isDown;
    flick();
  }

  seen.addEventListener("click", () => way === "flick" && turn());
  swap.addEventListener("click", turn);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (isFullKey(event)) toggleFull(room);
    if (event.key.toLowerCase() !== "c" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (way === "flick") hold(true);
    else ways[1].click();
  });
  dialog.addEventListener("keyup", (event) => event.key.toLowerCase() === "c" && hold(false));
  addEventListener("blur", () => hold(false), { signal: until(dialog) });

  let isWaiting = false;
  const stop = listen((change) => {
    if (isWaiting || (change.kind === "job" && !ids.includes(change.data.id))) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      sides.forEach((side, index) => jobs.has(ids[index]) && side.update(jobs.get(ids[index])));
    });
  });
  dialog.addEventListener("close", () => {
    stop();
    dialog.remove();
  });
  arrange();
  document.body.append(dialog);
  dialog.showModal();
  ways[Object.keys(WAYS).indexOf(way)].focus();
}

function makeSide(job, name) {
  const element = make("div", { class: "pair-side tile", role: "img", "aria-label": name });
  const picture = makePicture(element, job, 512);
  element.append(make("div", { class: "frame" }, ...picture.layers, picture.veil));
  picture.update(job);
  return { element, update: picture.update };
}

const badged = (letter, name) => make("span", {}, make("b", { class: "pair-badge" }, letter), name);

/** A signal that ends listening when the dialog is closed. */
function until(dialog) {
  const ending = new AbortController();
  dialog.addEventListener("close", () => ending.abort());
  return ending.signal;
}
