// A tile of the stage: a box of fixed shape in which nothing ever jumps, and a line below it that tells it from the others.

import { makePicture, ratioOf } from "./emerging.js";
import { icon } from "../common/icons.js";
import { act, isMoving } from "../live/live.js";
import { makeMark, rate, starsOfKey } from "./stars.js";
import { make, setText } from "../common/words.js";

/**
 * The tile of a job. `side`: pixels of the canvas for what is not finished. `stage` has choose(id), large(id), isChosen(id)
 * and say(sentence), which is told what went wrong.
 */
export function makeTile(job, side, stage) {
  const frame = make("button", { type: "button", class: "frame" });
  const name = make("span", { class: "seed-of" });
  const mark = make("span", { class: "tile-mark" });
  const own = make("span", { class: "own acts" });
  const element = make("figure", { class: "tile" }, frame, make("figcaption", {}, name, mark, own));
  const picture = makePicture(element, job, side);
  frame.append(...picture.layers, picture.veil, picture.bar);
  frame.style.setProperty("--own", ratioOf(job.recipe));
  let drawn = "";
  let current = job;
  let wasChosen = false;

  // The press that chooses a picture does not open it as well.
  frame.addEventListener("pointerdown", () => {
    wasChosen = stage.isChosen(job.id);
  });
  frame.addEventListener("focus", () => stage.choose(job.id));
  frame.addEventListener("click", (event) => {
    const isByKey = event.detail === 0;
    if (isByKey || wasChosen) stage.large(job.id);
    else stage.choose(job.id);
  });
  element.addEventListener("keydown", async (event) => {
    const digit = starsOfKey(event);
    if (digit !== null && current.picture) stage.say(await rate(current.picture, digit));
  });

  function update(now) {
    current = now;
    picture.update(now);
    const key = `${now.state} ${now.picture}`;
    if (key === drawn) return;
    drawn = key;
    mark.replaceChildren(...(now.picture ? [makeMark(now.picture)] : []));
    own.replaceChildren(...ownButtons(now, stage.say));
  }

  function setChosen(isChosen) {
    element.toggleAttribute("data-chosen", isChosen);
    frame.setAttribute("aria-current", String(isChosen));
    frame.title = isChosen ? "Show large" : "Choose";
  }

  return {
    element,
    update,
    setChosen,
    /** The words that tell it from the others, and all that there is to say of it. */
    setName(text, full) {
      setText(name, text);
      name.title = full;
    },
    focus: () => frame.focus({ preventScroll: true }),
    look: picture.look,
    speaks: () => picture.veil.textContent !== "",
  };
}

/** With several pictures, each can be stopped, continued and discarded by itself. */
function ownButtons(job, say) {
  const button = (name, verb, drawing = name.toLowerCase()) => {
    const element = make("button", { type: "button", class: "act", "aria-label": `${name} seed ${job.recipe.seed}` });
    element.append(icon(drawing));
    element.title = name;
    element.addEventListener("click", async () => say(await act(job, verb)));
    return element;
  };
  if (isMoving(job)) return [button("Stop", "pause"), button("Discard", "cancel", "drop")];
  return job.state === "paused" ? [button("Continue", "resume"), button("Discard", "cancel", "drop")] : [];
}
