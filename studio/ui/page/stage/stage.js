// The pictures in the making. One tile for each job: noise first, then what the model sees in it, then the picture.

import { makeBar } from "./bar.js";
import { listenForDrops } from "../easel/bring.js";
import { elsewhereBar } from "../live/elsewhere.js";
import { described, ratioOf } from "./emerging.js";
import { invitations } from "../form/examples.js";
import { namesOf } from "./labels.js";
import { act, isConnected, isMoving, jobs, listen, shown } from "../live/live.js";
import { isMenuOpen } from "../common/menu.js";
import { show, useSettings } from "./pictures.js";
import { offer } from "../common/places.js";
import { post } from "../common/server.js";
import { sayIfSilent } from "../live/silent.js";
import { makeTeller } from "../common/spoken.js";
import { spread } from "./spread.js";
import { makeTile } from "./tile.js";
import { make, standingOfAll } from "../common/words.js";

/** Milliseconds for which a sentence about what went wrong, or was done, stands. */
const TROUBLE = 6000;

/** Pixels of a tile's width below which there is no room for a whole seed and buttons beside it. */
const SHORT = 210;

const HINTS = {
  image_to_image: "Put a picture on the easel, or paint one, say what it shall become, and press Generate. It changes here.",
  inpainting: "Put a picture on the easel, paint over what shall change, and press Generate. It is repainted here, in place.",
};
const HINT = "Describe a picture and press Generate. It comes out of noise here, step by step.";

/** Fill `root` with the stage of a tab and give its buttons their keys. `options`: place, start, stop. */
export function mount(root, options, events) {
  const section = root.querySelector(".stage");
  const tiles = make("div", { class: "tiles" });
  const hint = make("div", { class: "hint" }, make("p", {}, HINTS[options.place] ?? HINT), ...invitations(options));
  const bar = makeBar(events, {
    large,
    resume: () => each(paused(), "resume"),
    discard: () => each(paused(), "cancel"),
    turn: (noise) => moving().forEach((job) => events.turn({ job: job.id, noise })),
    fork: (job, step, noise) => events.fork({ job, step, noise }),
    say: (sentence) => trouble.say(sentence),
  });
  section.append(tiles, bar.element, elsewhereBar(options.place));
  offer(options.place, "use", (recipe) => events.use_settings({ recipe }));
  offer(options.place, "model", (model) => events.choose_model({ model }));
  if (options.place === "text_to_image") takeSettings(section.closest(".workplace") ?? section, events, (sentence) => trouble.say(sentence));

  const tileOf = new Map();
  let arranged = null;
  let chosen = null; // the id of the job that the bar is about
  let named = ""; // how many changes on the way each has, of which its name tells the last

  const all = () => (shown.get(options.place) ?? []).map((id) => jobs.get(id)).filter(stands);
  const moving = () => all().filter(isMoving);
  const paused = () => all().filter((job) => job.state === "paused");

  async function each(some, verb) {
    const answers = await Promise.all(some.map((job) => act(job, verb)));
    trouble.say(answers.find(Boolean));
  }

  const drawSoon = withNextFrame(draw);
  const teller = makeTeller(section);
  const trouble = makeTrouble(draw);

  function draw() {
    const standingJobs = all();
    arrange(standingJobs);
    for (const job of standingJobs) tileOf.get(job.id).update(job);
    if (turnsOf(standingJobs) !== named) layOut();
    drawBar(standingJobs);
    const stop = document.getElementById(options.stop);
    if (stop) stop.disabled = moving().length === 0 && !isComing();
    speak(standingJobs);
  }

  function drawBar(standingJobs) {
    const silent = isConnected() ? null : "The studio does not answer. Trying again…";
    bar.update(standingJobs, jobs.get(chosen), tileOf.get(chosen), trouble.sentence() || silent);
  }

  /** One tile for each job, in order; tiles that stay are not touched. */
  function arrange(standingJobs) {
    const ids = standingJobs.map((job) => job.id);
    if (arranged === ids.join()) return;
    const before = arranged?.split(",") ?? [];
    arranged = ids.join();
    for (const [id, tile] of tileOf) {
      if (!ids.includes(id)) {
        tile.element.remove();
        tileOf.delete(id);
      }
    }
    standingJobs.forEach((job, index) => {
      if (!tileOf.has(job.id)) tileOf.set(job.id, makeTile(job, ids.length > 2 ? 256 : 512, { choose, large, isChosen, say: trouble.say }));
      const { element } = tileOf.get(job.id);
      if (tiles.children[index] !== element) tiles.insertBefore(element, tiles.children[index] ?? null);
    });
    if (standingJobs.length === 0) tiles.replaceChildren(hint);
    else hint.remove();
    choose(ids.find((id) => !before.includes(id)) ?? (ids.includes(chosen) ? chosen : (ids[0] ?? null)));
    layOut();
  }

  const isChosen = (id) => id === chosen;

  function choose(id) {
    const isOther = id !== chosen;
    chosen = id;
    for (const [each, tile] of tileOf) tile.setChosen(each === id);
    if (isOther) drawBar(all());
  }

  /** Show one large, and with the arrow keys the others, in the making too. The one that was looked at last stays chosen. */
  function large(id, over = "") {
    const those = all().filter((job) => job.state !== "failed");
    const index = those.findIndex((job) => job.id === id);
    if (index < 0) return;
    const names = those.length > 1 ? namesOf(those, false) : [];
    const pictures = those.map((job, at) => ({ ...described(job), job: job.id, name: names[at] }));
    const view = show(pictures, index, events, options.place, over);
    view.dialog.addEventListener("close", () => {
      const last = view.current().job;
      if (last !== id) tileOf.get(last)?.focus();
    });
  }

  function layOut() {
    const standingJobs = all();
    if (section.clientWidth === 0) return;
    const ratio = standingJobs.length ? ratioOf(standingJobs[0].recipe) : 1;
    const { tile } = spread(section, tiles, standingJobs.length, ratio);
    named = turnsOf(standingJobs);
    const isShort = tile < SHORT;
    const [names, whole] = [namesOf(standingJobs, isShort), namesOf(standingJobs, false)];
    standingJobs.forEach((job, index) => tileOf.get(job.id)?.setName(names[index], whole[index]));
  }

  /** Tell those who cannot see it when it starts, is half way, and ends; no more. */
  function speak(standingJobs) {
    const text = trouble.sentence() || phase(standingJobs);
    teller.tell(text, standingJobs.map((job) => job.id).join() + text);
  }

  const isComing = takeOrders(section, options, () => each(moving(), "pause"), drawSoon);
  new ResizeObserver(layOut).observe(section);
  listen((change) => {
    if (change.kind === "jobs") {
      section.dataset.ready = "true";
      teller.begin();
    }
    if (change.kind === "job") drawSoon();
    else draw();
  });
  lookAtNew(section, options);
  draw();
}

const turnsOf = (some) => some.map(({ recipe }) => recipe.turns?.length ?? 0).join();

/** A picture that is dropped on the tab fills in the form with how it was made. */
function takeSettings(tab, events, say) {
  listenForDrops(tab, {
    async file(file) {
      try {
        const { recipe, note } = await post("recipes", file);
        useSettings(recipe, events);
        say(note);
      } catch (error) {
        say(error.message);
      }
    },
    picture: ({ recipe }) => useSettings(recipe, events),
  });
}

/**
 * Obey the tab's Stop button, and while `section` is seen, the keys: Escape stops, with Ctrl Enter starts.
 * The answer tells whether pictures were asked for of which nothing is known yet. These are stopped as soon as they are.
 */
export function takeOrders(section, options, stopAll, draw = () => {}) {
  let coming = null; // the ids that were there when Generate, or a fork, was pressed
  let isUnwanted = false;

  function stop() {
    isUnwanted = coming !== null;
    stopAll();
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest?.(`#${options.stop}`)) stop();
    const forks = section.contains(event.target) && event.target.closest("[data-once=fork]");
    if (!forks && !event.target.closest?.(`#${options.start}`)) return;
    [coming, isUnwanted] = [new Set(shown.get(options.place)), false];
    draw();
  });
  document.addEventListener("refused", ({ detail }) => {
    if (detail.place !== options.place) return;
    coming = null;
    draw();
  });
  listen((change) => {
    if (change.kind === "connection") coming = null;
    if (coming === null || change.kind !== "shown" || !(options.place in change.data.shown)) return;
    const ids = change.data.shown[options.place].filter((id) => !coming.has(id));
    if (ids.length === 0) return;
    coming = null;
    if (isUnwanted) ids.forEach((id) => act({ id }, "pause"));
  });

  function onKey(event) {
    if (!isOnPage(section) || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!event.repeat) document.getElementById(options.start)?.click();
    }
    if (event.key === "Escape" && !closesSomething(event)) stop();
  }
  // While capturing, so that an open list still looks open when Escape comes to close it.
  document.addEventListener("keydown", onKey, { capture: true });
  return () => coming !== null;
}

/** Whether an element is seen: its tab is open, or it fills the screen. */
export const isOnPage = (element) => element.getClientRects().length > 0;

/** Show what was just started: on a small screen the controls can be far below it. */
export function lookAtNew(section, options) {
  let startedAt = -Infinity;
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.(`#${options.start}`)) return;
    startedAt = event.timeStamp;
    sayIfSilent(options.place);
  });
  listen((change) => {
    if (change.kind !== "shown" || !(options.place in change.data.shown)) return;
    if (performance.now() - startedAt > 5000) return;
    // Once the new pictures have their places.
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const { top, bottom } = section.getBoundingClientRect();
      if (top < 0 || top + Math.min(bottom - top, 200) > innerHeight) section.scrollIntoView({ block: "start", behavior: "instant" });
    }));
  });
}

/** What has `draw` called once with the next frame: with many pictures, events come quicker than frames. */
export function withNextFrame(draw) {
  let isComing = false;
  return () => {
    if (isComing) return;
    isComing = true;
    requestAnimationFrame(() => {
      isComing = false;
      draw();
    });
  };
}

/** What went wrong, in a sentence that stands for some seconds, whatever else there is to say meanwhile; "" if nothing did. */
export function makeTrouble(draw) {
  let sentence = "";
  let ending = 0;

  function say(next) {
    if (!next) return;
    sentence = next;
    clearTimeout(ending);
    ending = setTimeout(() => {
      sentence = "";
      draw();
    }, TROUBLE);
    draw();
  }

  return { say, sentence: () => sentence };
}

/** Whether a job has a place on the stage: not if it was dropped. */
export const stands = (job) => job !== undefined && job.state !== "cancelled";

/** Whether Escape is meant for an open list, a menu, the large easel or a stroke by keyboard instead. */
const closesSomething = (event) =>
  event.target.closest?.("[aria-expanded='true']") != null || isMenuOpen() || document.querySelector(".easel.large, .easel-paper[data-drawing]") !== null;

/** What to tell those who cannot see it. */
export function phase(all) {
  if (all.length === 0) return "";
  const failed = all.find((job) => job.state === "failed");
  if (failed) return failed.reason;
  if (all.every((job) => job.state === "finished")) return all.length > 1 ? "All pictures are finished" : "Finished";
  if (all.some(isMoving)) {
    const half = all.every((job) => job.state === "finished" || job.done * 2 >= job.total);
    return half ? "Half way" : "Started";
  }
  return standingOfAll(all);
}
