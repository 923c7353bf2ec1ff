// The picture of a job in the making: noise first, then what the model sees in it, then the picture.

import { isMoving } from "../live/live.js";
import { make, setText, sizeOf, standing, stepsRun } from "../common/words.js";

export function ratioOf(recipe) {
  const { width, height } = sizeOf(recipe);
  return width / height;
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
    next.src = `pictures/${id}.png`;
    try {
      await next.decode();
    } catch {
      if (picture === id) picture = ""; // the studio may have been stopped: with the next news of it, it is tried again
      return;
    }
    if (picture !== id) return;
    image.src = `pictures/${id}.png`;
    await image.decode().catch(() => {});
    if (picture !== id) return;
    there = id;
    element.dataset.kept = "true";
  }

  function update(now) {
    const isNews = now !== current;
    current = now;
    element.dataset.state = now.state;
    // A reader that is slow may hear of its end alone.
    element.dataset.done = now.state === "finished" ? stepsRun(recipe) : now.done ?? 0;
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
  const start = make("img", { class: "start", src: `sources/${recipe.source}.png`, alt: "" });
  const through = make("span", { class: "through" }, canvas);
  through.style.maskImage = `url("sources/${recipe.mask}.png")`;
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
  forked_at: job.forked_at,
});
