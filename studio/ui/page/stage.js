// The pictures in the making. One tile for each job: noise first, then what the model sees in it, then the picture.

import { invitations } from "./examples.js";
import { icon } from "./icons.js";
import { act, isConnected, isMoving, jobs, listen, shown } from "./live.js";
import { isMenuOpen } from "./menu.js";
import { actions, show } from "./pictures.js";
import { offer } from "./places.js";
import { makeStars, rate, starsOfKey } from "./stars.js";
import { makeTimeline, noiseField } from "./timeline.js";
import { facts, make, setText, sizeOf, standing, standingOfAll, stepsRun, stoppedAtStep } from "./words.js";

/** Milliseconds for which a sentence about what went wrong, or was done, stands. */
const TROUBLE = 6000;

/** At most so many pictures have their timelines below them. */
const TIMED = 4;

const HINTS = {
  image_to_image: "Put a picture on the easel, or paint one, say what it shall become, and press Generate. It changes here.",
  inpainting: "Put a picture on the easel, paint over what shall change, and press Generate. It is repainted here, in place.",
};
const HINT = "Describe a picture and press Generate. It comes out of noise here, step by step.";

/** Fill `root` with the stage of a tab and give its buttons their keys. `options`: place, start, stop. */
export function mount(root, options, events) {
  const section = root.querySelector(".stage");
  const tiles = make("div", { class: "tiles" });
  const words = make("p", { class: "stage-words" });
  const go = make("button", { type: "button", class: "act strong" }, "Continue");
  const drop = make("button", { type: "button", class: "act" }, "Discard");
  drop.title = "Forget where it stands. The partial picture stays among the recent ones.";
  const buttons = make("div", { class: "acts" }, go, drop);
  const turn = make("button", { type: "button", class: "act" }, icon("fork"), make("span", {}, "Change from here on"));
  turn.title = "From the next step on, use the prompt, the guidance and the sampler as they are on the left now";
  const noise = noiseField();
  const spoken = make("p", { class: "only-spoken", role: "status", "aria-live": "polite" });
  const hint = make("div", { class: "hint" }, make("p", {}, HINTS[options.place] ?? HINT), ...invitations(options));
  section.append(tiles, make("div", { class: "stage-bar" }, words, noise.element, turn, buttons), spoken);
  offer(options.place, "use", (recipe) => events.use_settings({ recipe }));
  offer(options.place, "model", (model) => events.choose_model({ model }));

  const tileOf = new Map();
  let arranged = null;
  let said = "";

  const all = () => (shown.get(options.place) ?? []).map((id) => jobs.get(id)).filter(stands);
  const moving = () => all().filter(isMoving);
  const paused = () => all().filter((job) => job.state === "paused");

  async function each(some, verb) {
    const answers = await Promise.all(some.map((job) => act(job, verb)));
    trouble.say(answers.find(Boolean));
  }

  const drawSoon = withNextFrame(draw);
  const trouble = makeTrouble(draw);

  function draw() {
    const standingJobs = all();
    arrange(standingJobs);
    for (const job of standingJobs) tileOf.get(job.id).update(job, standingJobs.length);
    setText(words, trouble.sentence() || (isConnected() ? wordsFor(standingJobs) : "The studio does not answer. Trying again…"));
    buttons.hidden = paused().length === 0 || moving().length > 0;
    turn.hidden = noise.element.hidden = moving().length === 0;
    const stop = document.getElementById(options.stop);
    if (stop) stop.disabled = moving().length === 0;
    speak(standingJobs);
  }

  /** How it stands, unless the only tile says so itself. */
  function wordsFor(standingJobs) {
    const [only] = standingJobs;
    if (standingJobs.length !== 1 || !tileOf.get(only.id).speaks()) return standingOfAll(standingJobs);
    return only.state === "paused" ? stoppedAtStep(only) : "";
  }

  /** One tile for each job, in order; tiles that stay are not touched. */
  function arrange(standingJobs) {
    const ids = standingJobs.map((job) => job.id);
    if (arranged === ids.join()) return;
    arranged = ids.join();
    for (const [id, tile] of tileOf) {
      if (!ids.includes(id)) {
        tile.element.remove();
        tileOf.delete(id);
      }
    }
    standingJobs.forEach((job, index) => {
      if (!tileOf.has(job.id)) tileOf.set(job.id, makeTile(job, ids.length, options.place, events, trouble.say));
      const { element } = tileOf.get(job.id);
      if (tiles.children[index] !== element) tiles.insertBefore(element, tiles.children[index] ?? null);
    });
    if (standingJobs.length === 0) tiles.replaceChildren(hint);
    else hint.remove();
    tiles.toggleAttribute("data-many", standingJobs.length > 1);
    tiles.toggleAttribute("data-timed", standingJobs.length <= TIMED);
    layOut();
  }

  function layOut() {
    const count = Math.max(tileOf.size, 1);
    const [job] = all();
    const ratio = job ? ratioOf(job.recipe) : 1;
    const columns = columnsFor(tiles, count, ratio);
    tiles.style.setProperty("--columns", columns);
    tiles.style.setProperty("--rows", Math.ceil(count / columns));
    tiles.style.setProperty("--ratio", ratio);
  }

  /** Tell those who cannot see it when it starts, is half way, and ends; no more. */
  function speak(standingJobs) {
    const text = trouble.sentence() || phase(standingJobs);
    const key = standingJobs.map((job) => job.id).join() + text;
    if (key === said) return;
    said = key;
    setText(spoken, text);
  }

  takeOrders(section, options, () => each(moving(), "pause"));
  go.addEventListener("click", () => each(paused(), "resume"));
  drop.addEventListener("click", () => each(paused(), "cancel"));
  turn.addEventListener("click", () => moving().forEach((job) => events.turn({ job: job.id, noise: noise.strength() })));
  addEventListener("resize", layOut);
  listen((change) => {
    if (change.kind === "jobs") section.dataset.ready = "true";
    if (change.kind === "job") drawSoon();
    else draw();
  });
  lookAtNew(section, options);
  draw();
}

/** Obey the tab's Stop button, and while `section` is seen, the keys: Escape stops, with Ctrl Enter starts. */
export function takeOrders(section, options, stop) {
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(`#${options.stop}`)) stop();
  });

  function onKey(event) {
    if (!isOnPage(section) || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      document.getElementById(options.start)?.click();
    }
    if (event.key === "Escape" && !closesSomething(event)) stop();
  }
  // While capturing, so that an open list still looks open when Escape comes to close it.
  document.addEventListener("keydown", onKey, { capture: true });
}

/** Whether an element is seen: its tab is open, or it fills the screen. */
export const isOnPage = (element) => element.getClientRects().length > 0;

/** Show what was just started: on a small screen the controls can be far below it. */
export function lookAtNew(section, options) {
  let startedAt = -Infinity;
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(`#${options.start}`)) startedAt = event.timeStamp;
  });
  listen((change) => {
    if (change.kind !== "shown" || !(options.place in change.data.shown)) return;
    if (performance.now() - startedAt > 5000 || section.getBoundingClientRect().top >= 0) return;
    section.scrollIntoView({ block: "start" });
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

export function ratioOf(recipe) {
  const { width, height } = sizeOf(recipe);
  return width / height;
}

/** Whether a job has a place on the stage: not if it was dropped. */
export const stands = (job) => job !== undefined && job.state !== "cancelled";

/** Whether Escape is meant for an open list, a menu or the large easel instead. */
const closesSomething = (event) =>
  event.target.closest?.("[aria-expanded='true']") != null || isMenuOpen() || document.querySelector(".easel.large") !== null;

/** As many columns as make the tiles largest, with few gaps at the end; the same sum as in studio.css. */
function columnsFor(tiles, count, ratio) {
  const style = getComputedStyle(tiles);
  const pixels = (name) => parseFloat(style.getPropertyValue(name));
  const high = innerHeight - pixels("--around");
  let best = 1;
  let most = 0;
  for (let columns = 1; columns <= Math.min(count, 12); columns++) {
    const rows = Math.ceil(count / columns);
    const fromHeight = (high / rows - pixels("--caption")) * ratio;
    const width = Math.min(tiles.clientWidth / columns, Math.max(pixels("--least"), fromHeight));
    const worth = width - (rows * columns - count);
    if (worth >= most) [best, most] = [columns, worth];
  }
  return best;
}

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

/** A tile: a box of fixed shape in which nothing ever jumps, and what there is to say below it. */
function makeTile(job, count, place, events, say) {
  const frame = make("button", { type: "button", class: "frame", title: "Show large" });
  frame.style.aspectRatio = ratioOf(job.recipe);
  const caption = make("figcaption");
  const stars = makeStars((sentence) => sentence && caption.append(make("p", { class: "facts", role: "alert" }, sentence)));
  const element = make("figure", { class: "tile" }, frame, stars.element, caption);
  const picture = makePicture(element, job, count > 2 ? 256 : 512);
  frame.append(...picture.layers, picture.veil, picture.bar);
  let captioned = "";
  let current = job;

  frame.addEventListener("click", () => {
    if (current.picture) show([described(current)], 0, events, place);
  });
  element.addEventListener("keydown", (event) => {
    const digit = starsOfKey(event);
    if (digit !== null && current.picture && !event.target.matches("input")) rate(current.picture, digit);
  });

  function update(now, count) {
    current = now;
    picture.update(now);
    frame.disabled = !now.picture;
    stars.show(now.picture ?? "");
    const key = `${now.state} ${now.picture} ${Math.min(count, TIMED + 1)} ${now.reason} ${now.note ?? ""}`;
    if (key !== captioned) {
      captioned = key;
      caption.replaceChildren(...captionOf(now, count, events, place, say));
      if (count <= TIMED) caption.prepend(timeline(now));
    }
  }

  /** The steps of a picture that stands still; before, the room for it. */
  function timeline(now) {
    picture.look(null);
    const slot = make("div", { class: "timeline-slot" });
    if (now.picture) slot.append(makeTimeline(now, picture.look, (step, noise) => events.fork({ job: now.id, step, noise })));
    return slot;
  }

  return { element, update, speaks: () => picture.veil.textContent !== "" };
}

/**
 * The picture of a job from its noise on: `layers` to fill a frame of its shape, and to lie over them a `veil` with words
 * and a `bar`. `element`, around them, is told how it stands: data-state, -done, -drawn once there is something to
 * see, -kept once it is the picture from disk. `side`: pixels of the canvas for what is not finished.
 */
export function makePicture(element, job, side) {
  const { recipe } = job;
  const canvas = make("canvas", { "aria-hidden": "true" });
  const image = make("img", { alt: recipe.prompt || "Picture without a prompt", draggable: false });
  const veil = make("span", { class: "veil" });
  const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("i"));
  const live = makeLive(canvas, recipe, side);
  let picture = "";
  let there = ""; // the one whose file is loaded
  let current = null;

  async function showFile(id) {
    picture = id;
    const next = new Image();
    next.src = `/pictures/${id}.png`;
    try {
      await next.decode();
    } catch {
      if (picture === id) picture = ""; // the studio may have been stopped: with the next news of it, it is tried again
      return;
    }
    if (picture !== id) return;
    image.src = next.src;
    await image.decode().catch(() => {});
    if (picture !== id) return;
    there = id;
    element.dataset.kept = "true";
  }

  function update(now) {
    const isNews = now !== current;
    current = now;
    element.dataset.state = now.state;
    element.dataset.done = now.done ?? 0;
    bar.firstChild.style.transform = `scaleX(${share(now)})`;
    if (now.preview && now.state !== "finished") {
      live.draw(now.preview, () => {
        element.dataset.drawn = "true";
        if (isMoving(current)) delete element.dataset.kept;
      });
    }
    if (isNews && now.picture && now.picture !== picture) showFile(now.picture);
    if (!now.picture) picture = "";
    setText(veil, veilText(now, live.isEmpty()));
  }

  /** Show an earlier step; null shows the picture again. */
  function look(bitmap) {
    if (bitmap) live.paint(bitmap);
    if (bitmap) delete element.dataset.kept;
    else if (picture && picture === there) element.dataset.kept = "true";
  }

  return { layers: [...(recipe.mask ? inPlace(canvas, recipe) : [canvas]), image], veil, bar, update, look };
}

/** The whole start picture, and over it the canvas where it is worked on, seen only through the mask. */
function inPlace(canvas, recipe) {
  const { width, height } = sizeOf(recipe);
  const [left, top, right, bottom] = recipe.box ?? [0, 0, width, height];
  const percent = (part, all) => `${(part / all) * 100}%`;
  Object.assign(canvas.style, {
    inset: "auto",
    left: percent(left, width),
    top: percent(top, height),
    width: percent(right - left, width),
    height: percent(bottom - top, height),
  });
  const start = make("img", { class: "start", src: `/sources/${recipe.source}.png`, alt: "" });
  const through = make("span", { class: "through" }, canvas);
  through.style.maskImage = `url("/sources/${recipe.mask}.png")`;
  return [start, through];
}

/** Draws previews on a canvas of `side` pixels: decoded first, newest wins, enlarged smoothly. */
function makeLive(canvas, recipe, side) {
  const scale = side / Math.max(recipe.width, recipe.height);
  canvas.width = Math.round(recipe.width * scale);
  canvas.height = Math.round(recipe.height * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  let drawn = "";
  let wanted = null;
  let busy = false;

  async function work() {
    busy = true;
    while (wanted) {
      const [preview, then] = wanted;
      wanted = null;
      try {
        const bytes = Uint8Array.from(atob(preview), (letter) => letter.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
        context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
        bitmap.close();
        drawn = preview;
        then();
      } catch {
        // A preview that cannot be read is skipped; the next one comes soon.
      }
    }
    busy = false;
  }

  return {
    isEmpty: () => drawn === "" && !busy,
    /** Show this now, whatever was shown; the bitmap stays the caller's. */
    paint(bitmap) {
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    },
    draw(preview, then) {
      if (preview === drawn) return;
      wanted = [preview, then];
      if (!busy) work();
    },
  };
}

function share(job) {
  if (job.state === "finished") return 1;
  if (job.state === "loading") return job.bytes ? job.read / job.bytes : 0;
  return job.total ? (job.done ?? 0) / job.total : 0;
}

/** What is written over the picture: only what has no picture yet, and failures. */
function veilText(job, isEmpty) {
  if (job.state === "failed") return job.reason;
  if (job.state === "paused" && job.reason) return job.reason;
  return isEmpty && !job.picture && job.state !== "finished" ? standing(job) : "";
}

/** The picture of a job, as `pictures.js` takes it. */
export const described = (job) => ({
  id: job.picture,
  recipe: job.recipe,
  steps_done: job.state === "paused" ? job.done : stepsRun(job.recipe),
  note: job.note,
});

function captionOf(job, count, events, place, say) {
  const seed = make("span", { class: "seed-of" }, `Seed ${job.recipe.seed}`);
  const line = make("p", { class: "facts", title: facts(job.recipe) }, seed);
  if (job.forked_at !== undefined) seed.append(`\u00a0· forked at step ${job.forked_at}`);
  const turns = (job.recipe.turns ?? []).filter((turn) => turn.step !== job.forked_at).map((turn) => `\u00a0· changed at step ${turn.step}`);
  line.append(count === 1 ? `\u00a0· ${facts(job.recipe)}` : turns.join(""));
  const parts = [line];
  // Beside others there is no room for what was done when memory ran out; the large view says it.
  if (job.note && count > 1) line.append(make("span", { title: job.note }, "\u00a0· short of memory"));
  else if (job.note) parts.push(make("p", { class: "facts" }, job.note));
  if (count > 1) parts.push(make("div", { class: "own acts" }, ...ownButtons(job, say)));
  if (job.picture) {
    const acts = actions(described(job), events);
    if (job.recipe.source) acts.prepend(beforeAfter(job, events, place));
    parts.push(acts);
  }
  return parts;
}

/** Opens the large view with the start picture beside the result. */
function beforeAfter(job, events, place) {
  const element = make("button", { type: "button", class: "act", title: "Before / after" });
  element.append(icon("compare"), make("span", {}, "Before / after"));
  element.addEventListener("click", () => show([described(job)], 0, events, place, true));
  return element;
}

/** With several pictures, each can be stopped, continued and dropped by itself. */
function ownButtons(job, say) {
  const button = (name, verb) => {
    const element = make("button", { type: "button", class: "act", "aria-label": `${name} seed ${job.recipe.seed}` });
    element.append(icon(name.toLowerCase()));
    element.title = name;
    element.addEventListener("click", async () => say(await act(job, verb)));
    return element;
  };
  if (isMoving(job)) return [button("Stop", "pause"), button("Drop", "cancel")];
  return job.state === "paused" ? [button("Continue", "resume"), button("Drop", "cancel")] : [];
}
