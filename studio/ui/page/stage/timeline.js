// The way a picture came out of the noise, step by step: to look at, to play, to save, and to take up again from.

import { icon } from "../common/icons.js";
import { numberField, read } from "../common/numbers.js";
import { make, setText, stepsRun } from "../common/words.js";

/** A small field for the strength of fresh noise, 0 to 1: the element, and what it says now; undefined if that is no number. */
export function noiseField() {
  const input = numberField({ least: 0, most: 1, step: 0.05, value: 0 });
  const element = make("label", { class: "noise" }, make("span", {}, "Fresh noise"), input);
  element.title = "How much of the noise in it is drawn anew there: 0 none, 1 all of it";
  return { element, strength: () => read(input) };
}

/** Milliseconds for which each step is shown when it plays. */
const FRAME = 110;

/** Kinds of animation: the ending of their files, what they are called, and what speaks for them. */
const KINDS = [
  ["webp", "WebP", "small, in all colours"],
  ["gif", "GIF", "larger, in 256 colours, and shown everywhere"],
];

/**
 * The timeline of a job that stands still. `show(bitmap)` shows what a step looked like, `show(null)` the picture itself.
 * `dragged(step)` is told to which step it was dragged, null for the end of all steps: there nothing is left to be taken up.
 */
export function makeTimeline(job, show, dragged = () => {}) {
  const { id } = job;
  const total = stepsRun(job.recipe);
  const last = job.state === "finished" ? total : job.done;
  const frames = new Map(); // step → promise of its bitmap, and of the step that it shows
  let playing = 0;

  const play = make("button", { type: "button", class: "act", title: "Play" }, icon("play"));
  const range = make("input", { type: "range", min: 0, max: last, step: 1, value: last });
  range.setAttribute("aria-label", "Step");
  const place = make("span", { class: "timeline-step" });
  const saves = KINDS.map(([kind, title, why]) => {
    const words = make("span", { class: "always" }, title);
    const link = make("a", { class: "act", href: `jobs/${id}/steps.${kind}`, download: "" }, icon("film"), words);
    link.title = `Save its steps as an animation: ${why}`;
    link.setAttribute("aria-label", `Animation as ${title}`);
    return link;
  });
  const saying = make("p", { class: "timeline-sentence", role: "status" });
  const element = make("div", { class: "timeline" }, play, range, place, make("div", { class: "acts" }, ...saves), saying);

  const step = () => Number(range.value);

  function frame(number) {
    if (!frames.has(number)) frames.set(number, load(id, number));
    return frames.get(number);
  }

  async function look() {
    const wanted = step();
    setText(place, `${wanted} / ${total}`);
    range.setAttribute("aria-valuetext", `Step ${wanted} of ${total}`);
    dragged(wanted < total ? wanted : null);
    if (wanted === last) {
      setText(saying, "");
      return show(null);
    }
    try {
      const { bitmap, kept } = await frame(wanted);
      if (step() !== wanted) return;
      show(bitmap);
      // Of long pictures not every step is kept.
      setText(saying, kept === wanted ? "" : `Step ${kept} is shown, the nearest one before that is remembered.`);
    } catch (error) {
      stop();
      setText(saying, error.message);
    }
  }

  function stop() {
    clearInterval(playing);
    playing = 0;
    play.title = "Play";
    play.replaceChildren(icon("play"));
  }

  function start() {
    play.title = "Stop playing";
    play.replaceChildren(icon("stop"));
    range.value = 0;
    look();
    playing = setInterval(async () => {
      const next = step() + 1;
      // No step is skipped: the next one waits until it is there.
      if (next < last) await frame(next).catch(() => null);
      if (!playing || step() + 1 !== next) return;
      range.value = next;
      look();
      if (next >= last) stop();
    }, FRAME);
  }

  range.addEventListener("input", () => {
    if (playing) stop();
    look();
  });
  // The arrows would lead to the next picture, where it is shown large.
  range.addEventListener("keydown", (event) => event.key.startsWith("Arrow") && event.stopPropagation());
  play.addEventListener("click", () => (playing ? stop() : start()));
  setText(place, `${last} / ${total}`);
  dragged(last < total ? last : null);
  return element;
}

async function load(id, step) {
  let answer;
  try {
    answer = await fetch(`jobs/${id}/steps/${step}.jpg`);
  } catch {
    throw new Error("The studio does not answer. Is it still running?");
  }
  if (!answer.ok) throw new Error((await answer.json()).error);
  return { bitmap: await createImageBitmap(await answer.blob()), kept: Number(answer.headers.get("Emerge-Step")) };
}
