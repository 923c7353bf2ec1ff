// Ratings that a person gives to pictures of the library, as one to five stars; 0 is none.

import { icon } from "../common/icons.js";
import { listen } from "../live/live.js";
import { make } from "../common/words.js";

export const MOST = 5;

/** Milliseconds for which ratings that are asked for are gathered into one request. */
const GATHERING = 60;
const AT_ONCE = 60;

const NAMES = ["No rating", "1 star", "2 stars", "3 stars", "4 stars", "5 stars"];

/** Picture id → stars, as far as they are known. */
const known = new Map();
const wanted = new Set();
/** Element → what draws it. All that show one picture change together, wherever they stand on the page. */
const drawers = new WeakMap();
const listeners = new Set();
let sending = Promise.resolve();
/** Ids of pictures whose stars are on their way to the server: what it says of them meanwhile is older. */
const sent = [];
let hasSnapshot = false;

export const ratingOf = (id) => known.get(id) ?? 0;

/** "3 stars", or nothing. */
export const ratingWords = (id) => (ratingOf(id) ? NAMES[ratingOf(id)] : "");

/** Call `listener` with the id of each picture whose rating changed or became known. */
export function watchRatings(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * What a listing says of pictures, `id` and `rating` of each. Counts for those alone of which nothing is known yet: it may have
 * been under way for long, and what changes meanwhile is told.
 */
export function learn(pictures) {
  for (const { id, rating } of pictures) if (!known.has(id)) set(id, rating);
}

/** What the server says of a picture now. */
function hear(id, rating) {
  if (known.get(id) !== rating && !sent.includes(id)) set(id, rating);
}

/** Give a picture stars. The answer is a sentence if they could not be kept, else empty. */
export async function rate(id, stars) {
  const before = ratingOf(id);
  set(id, stars);
  sent.push(id);
  // One after another: of two that are given quickly, the last must be the one that is kept.
  sending = sending.then(() => send(id, stars));
  const failure = await sending;
  sent.splice(sent.indexOf(id), 1);
  if (failure && ratingOf(id) === stars) set(id, before);
  return failure;
}

async function send(id, stars) {
  try {
    const answer = await fetch(`pictures/${encodeURIComponent(id)}/rating?stars=${stars}`, { method: "POST" });
    return answer.ok ? "" : (await answer.json()).error;
  } catch {
    return "The studio does not answer. Is it still running?";
  }
}

/** The stars that a key on the keyboard means, null if none. By its place too: some keyboards have digits with Shift. */
export function starsOfKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  const found = /^(?:Digit|Numpad)?([0-5])$/;
  const digit = found.exec(event.key) ?? found.exec(event.code);
  return digit ? Number(digit[1]) : null;
}

/**
 * Five stars to press; the one pressed again takes the rating back. `show(id)` says for which picture; without one they are hidden.
 * `say(sentence)` is told what went wrong.
 */
export function makeStars(say = () => {}) {
  const stars = Array.from({ length: MOST }, (_, index) => star(index + 1));
  const element = make("span", { class: "stars", role: "group", "aria-label": "Rating", hidden: true }, ...stars);

  function star(number) {
    const button = make("button", { type: "button", class: "star", title: `${NAMES[number]} (${number})`, "aria-label": NAMES[number] }, icon("star"));
    button.addEventListener("click", async (event) => {
      event.stopPropagation();
      const { picture } = element.dataset;
      say(await rate(picture, ratingOf(picture) === number ? 0 : number));
    });
    return button;
  }

  function draw() {
    const rating = ratingOf(element.dataset.picture);
    element.dataset.rating = rating;
    stars.forEach((button, index) => {
      button.toggleAttribute("data-on", index < rating);
      button.setAttribute("aria-pressed", String(index + 1 === rating));
    });
  }

  drawers.set(element, draw);
  return { element, show: (id) => showFor(element, id) };
}

/** A star and how many, to look at only. */
export function makeMark(id) {
  const element = make("span", { class: "stars star-mark" });
  drawers.set(element, () => {
    element.dataset.rating = ratingOf(id);
    element.replaceChildren(...(ratingOf(id) ? [icon("star"), String(ratingOf(id))] : []));
    element.setAttribute("aria-label", ratingWords(id));
  });
  showFor(element, id);
  return element;
}

function showFor(element, id) {
  element.hidden = !id;
  if (!id || element.dataset.picture === id) return;
  element.dataset.picture = id;
  drawers.get(element)();
  if (!known.has(id)) want(id);
}

function set(id, stars) {
  known.set(id, stars);
  for (const element of document.querySelectorAll(".stars")) if (element.dataset.picture === id) drawers.get(element)?.();
  for (const listener of [...listeners]) listener(id);
}

/** Ask the server, together with others that are asked for in the same moment. */
function want(id) {
  // In turn with what is given: an answer that was under way while stars were given would take them back.
  if (wanted.size === 0) setTimeout(() => (sending = sending.then(ask).catch(() => {})), GATHERING);
  wanted.add(id);
}

async function ask() {
  const ids = [...wanted];
  wanted.clear();
  for (let first = 0; first < ids.length; first += AT_ONCE) {
    const some = ids.slice(first, first + AT_ONCE);
    const answer = await fetch(`ratings?${new URLSearchParams(some.map((id) => ["id", id]))}`).catch(() => null);
    if (!answer?.ok) continue;
    const { ratings } = await answer.json();
    for (const id of some) hear(id, ratings[id] ?? 0);
  }
}

// What another window rates appears here. What was rated while this one was not told is asked for when it is told again.
listen(({ kind, data }) => {
  if (kind === "rating") hear(data.id, data.rating);
  if (kind !== "jobs") return;
  const shown = new Set([...document.querySelectorAll(".stars")].map(({ dataset }) => dataset.picture));
  for (const id of [...known.keys()]) if (!shown.has(id)) known.delete(id);
  if (hasSnapshot) for (const id of shown) if (id) want(id);
  hasSnapshot = true;
});
