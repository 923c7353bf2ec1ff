// What is said and can be done below the stage's pictures, or beside them: how all stand, and everything about the chosen one.

import { described } from "./emerging.js";
import { isMoving } from "../live/live.js";
import { actions, label } from "./pictures.js";
import { makeStars } from "./stars.js";
import { makeTimeline, noiseField } from "./timeline.js";
import { facts, make, setText, standingOfAll, stoppedAtStep } from "../common/words.js";

/**
 * The bar. `stage` has large(id, over), resume(), discard(), turn(noise), fork(id, step, noise) and say(sentence).
 * Its height does not depend on what there is to say, so that nothing below it moves.
 */
export function makeBar(events, stage) {
  const words = make("p", { class: "stage-words" });
  const about = make("p", { class: "facts" });
  const time = make("div", { class: "bar-time" });
  const stars = makeStars(stage.say);
  const acts = make("div", { class: "acts" });
  const noise = noiseField();
  const fork = button("fork", "Fork from here", "Take it up again after this step, with the prompt, the guidance and the sampler on the left");
  const turn = button("fork", "Change from here on", "From the next step on, use the prompt, the guidance and the sampler as they are on the left now");
  const go = make("button", { type: "button", class: "act strong" }, "Continue");
  const discard = make("button", { type: "button", class: "act" }, "Discard");
  discard.title = "Forget where it stands. The partial picture stays among the recent ones.";
  const steer = make("div", { class: "bar-steer acts" }, go, discard, noise.element, fork, turn);
  const element = make(
    "div",
    { class: "stage-bar" },
    make("div", { class: "bar-words" }, words, about),
    time,
    steer,
    make("div", { class: "bar-acts" }, stars.element, acts),
  );
  let chosen = null; // the job, and its tile
  let tile = null;
  let drawn = "";
  let step = null; // to which the timeline was dragged back, if it was

  go.addEventListener("click", stage.resume);
  discard.addEventListener("click", stage.discard);
  const withNoise = (act) => () => {
    const strength = noise.strength(); // nothing, if what is typed there is no number
    if (strength !== undefined) act(strength);
  };
  turn.addEventListener("click", withNoise((strength) => stage.turn(strength)));
  fork.addEventListener("click", withNoise((strength) => stage.fork(chosen.id, step, strength)));
  [turn.dataset.once, fork.dataset.once] = ["", "fork"];

  /** Say what there is to say. `job`: the chosen one, with its tile; `sentence`: what goes before everything else. */
  function update(all, job, jobTile, sentence) {
    const isOther = job?.id !== chosen?.id;
    if (isOther) tile?.look(null);
    [chosen, tile] = [job ?? null, jobTile ?? null];
    const key = job ? `${job.id} ${job.state} ${job.picture} ${job.reason} ${job.note ?? ""} ${(job.recipe.turns ?? []).length}` : "";
    if (key !== drawn) draw();
    drawn = key;
    setText(words, sentence ?? wordsFor(all));
    const moving = all.some(isMoving);
    go.hidden = discard.hidden = moving || !all.some(({ state }) => state === "paused");
    turn.hidden = !moving;
    fork.hidden = step === null;
    noise.element.hidden = turn.hidden && fork.hidden;
  }

  /** How they stand, unless the only tile says so itself. */
  function wordsFor(all) {
    if (all.length !== 1 || !tile.speaks()) return standingOfAll(all);
    return chosen.state === "paused" ? stoppedAtStep(chosen) : "";
  }

  function draw() {
    step = null;
    const has = Boolean(chosen?.picture) && !isMoving(chosen);
    tile?.look(null);
    time.replaceChildren(...(has ? [makeTimeline(chosen, tile.look, dragged)] : []));
    stars.show(chosen?.picture ?? "");
    acts.replaceChildren(...(has ? actsOf(chosen) : []));
    const said = chosen ? [`Seed ${chosen.recipe.seed}`, facts(chosen.recipe, chosen.forked_at), chosen.note].filter(Boolean) : [];
    setText(about, said.join("\u00a0· "));
    about.title = about.textContent;
  }

  function actsOf(job) {
    const comparing = job.recipe.source ? [button("compare", "Before / after", "", () => stage.large(job.id, "start"))] : [];
    const parent = job.forked_at !== undefined ? [button("compare", "Compare with parent", "", () => stage.large(job.id, "parent"))] : [];
    return [...comparing, ...parent, ...actions(described(job), events).children];
  }

  function dragged(to) {
    step = to;
    fork.hidden = step === null;
    noise.element.hidden = turn.hidden && fork.hidden;
  }

  return { element, update };
}

function button(drawing, text, hint, act) {
  const made = make("button", { type: "button", class: "act" });
  label(made, drawing, text);
  if (hint) made.title = hint;
  if (act) made.addEventListener("click", act);
  return made;
}
