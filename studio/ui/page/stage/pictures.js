// What can be done with a picture that is on disk, and the large view of one.

import { compare } from "./compare.js";
import { described, makePicture } from "./emerging.js";
import { fullButton, isFullKey, toggleFull } from "../common/full.js";
import { icon } from "../common/icons.js";
import { showKin, wayBack } from "./lineage.js";
import { act, jobs, listen, stoppedAt } from "../live/live.js";
import { heading, item, opens } from "../common/menu.js";
import { ask } from "../common/places.js";
import { makeStars, rate, starsOfKey } from "./stars.js";
import { makeTimeline } from "./timeline.js";
import { facts, make, setText, sizeOf, standing, stepsRun } from "../common/words.js";

/** Download, use these settings, reuse seed, send to. `events` has `use_settings` and `reuse_seed`. */
export function actions(picture, events, done = () => {}) {
  const recipe = picture.recipe;
  const download = make("a", { class: "act", href: `pictures/${picture.id}.png?download=1`, download: "" });
  label(download, "download", "Download");
  const settings = button("settings", "Use these settings", () => useSettings(recipe, events), done);
  const seed = button("seed", "Reuse seed", () => events.reuse_seed({ recipe }), done);
  return make("div", { class: "acts" }, download, settings, seed, sender(picture, done));
}

/** Settings with a start picture belong to the tab that works from one; others are used where the person is. */
export function useSettings(recipe, events) {
  if (recipe.source) ask(recipe.mask ? "inpainting" : "image_to_image", "use", recipe);
  else events.use_settings({ recipe });
}

/** A menu of what else can be made of a picture. */
function sender(picture, done) {
  const element = make("button", { type: "button", class: "act" });
  label(element, "send", "Send to…");
  const asking = (place, verb, detail) => () => {
    done();
    ask(place, verb, detail);
  };
  opens(element, (close) => [
    heading("Work on it in"),
    item("picture", "Image to image", asking("image_to_image", "send", picture), close),
    item("brush", "Inpainting", asking("inpainting", "send", picture), close),
    item("only", "Compare", asking("compare", "use", picture.recipe), close, "a grid around it"),
    heading("Variations"),
    item("subtle", "Subtle", asking("image_to_image", "vary", { picture, strength: 0.35 }), close, "stays close"),
    item("strong", "Strong", asking("image_to_image", "vary", { picture, strength: 0.65 }), close, "more freely"),
  ], { label: "Send to" });
  return element;
}

function button(drawing, text, act, done) {
  const element = make("button", { type: "button", class: "act" });
  element.addEventListener("click", () => {
    act();
    done();
  });
  label(element, drawing, text);
  return element;
}

/** Fill a button with a drawing and words. */
export function label(element, drawing, text) {
  element.title = text;
  element.append(icon(drawing), make("span", {}, text));
}

/**
 * Show pictures[index] large, with its settings; the arrow keys lead to the others, digits rate.
 * `place`: where a stopped one goes on if it is continued from here. `over`: what lies over it, "start" or "parent" or nothing.
 *
 * A picture with a `name` is one of a grid, and is called by it. One with a `job` is shown as that stands, in the making too, and with
 * its timeline. The answer is the dialog, and what is shown now.
 */
export function show(pictures, index, events, place, over = "") {
  const dialog = make("dialog", { class: "viewer", "aria-label": "Picture" });
  const image = make("img", { alt: "" });
  const name = make("p", { class: "viewer-name" });
  const prompt = make("p", { class: "viewer-prompt" });
  const negative = make("p", { class: "viewer-negative" });
  const line = make("p", { class: "viewer-facts" });
  const note = make("p", { class: "viewer-note" });
  const acts = make("div", { class: "acts" });
  const slot = make("div", { class: "viewer-timeline" });
  const kin = make("div", { class: "viewer-kin" });
  const sentence = make("p", { role: "alert" });
  const stars = makeStars((sentence) => sentence && setText(line, sentence));
  const close = make("button", { type: "button", class: "act viewer-close", title: "Close", "aria-label": "Close" }, "×");
  const before = make("button", { type: "button", class: "viewer-turn" }, "‹");
  const after = make("button", { type: "button", class: "viewer-turn" }, "›");
  const text = make("div", { class: "viewer-text" }, name, stars.element, slot, prompt, negative, line, note, kin, sentence, acts);
  const overs = [overButton("start", "Before / after"), overButton("parent", "Compare with parent")];
  let parent = null; // the picture that this one was forked from, once it is known
  const seen = make("div", { class: "viewer-seen" }, image);
  const picture = make("div", { class: "viewer-picture" }, before, seen, after);
  // A dialog itself cannot fill the screen; what is in it can.
  const room = make("div", { class: "viewer-room", tabIndex: -1 }, picture, text);
  const full = fullButton(room);
  full.classList.add("viewer-full");
  room.append(full, close);
  dialog.append(room);
  let live = null;
  let told = "";

  /** What is shown: the newest that is known of it, if its job is told of. */
  function current() {
    const job = jobs.get(pictures[index].job);
    return job ? { ...pictures[index], ...described(job) } : pictures[index];
  }

  function turn(by) {
    index = Math.min(Math.max(index + by, 0), pictures.length - 1);
    const { recipe, job } = pictures[index];
    const { width, height } = sizeOf(recipe);
    live = jobs.has(job) ? makeLive(jobs.get(job)) : null;
    if (!live) image.src = `pictures/${pictures[index].id}.png`;
    image.alt = recipe.prompt;
    Object.assign(image, { width, height });
    seen.style.aspectRatio = `${width} / ${height}`;
    room.style.setProperty("--ratio", width / height);
    setText(name, pictures[index].name ?? "");
    dialog.setAttribute("aria-label", pictures[index].name ?? "Picture");
    lead(before, -1, "Newer");
    lead(after, 1, "Older");
    told = "";
    parent = null;
    drawOver();
    tell();
  }

  /** Where a button leads: to a picture with a name, or to what was made next in time. */
  function lead(button, by, word) {
    const to = pictures[index + by];
    button.disabled = !to;
    button.title = pictures[index].name === undefined ? word : (to?.name ?? "");
    button.setAttribute("aria-label", button.title || word);
  }

  /** What is said of it, anew only if that changed. */
  function tell() {
    const shown = current();
    const job = jobs.get(shown.job);
    live?.update(job);
    if (live && job.state === "step") setText(line, standing(job));
    const key = live ? `${job.state} ${job.picture} ${job.note ?? ""}` : "file";
    if (key === told) return;
    told = key;
    const { recipe } = shown;
    stars.show(shown.id);
    setText(prompt, recipe.prompt || "(no prompt)");
    setText(negative, recipe.negative_prompt ? `Not: ${recipe.negative_prompt}` : "");
    if (job?.state !== "step") setText(line, `Seed ${recipe.seed} · ${facts(recipe, shown.forked_at)}${shown.id ? unfinished(shown) : ""}`);
    setText(note, shown.note ?? "");
    slot.replaceChildren(...(live && shown.id ? [makeTimeline(job, live.look)] : []));
    acts.replaceChildren(
      ...continuing(shown),
      ...overs,
      ...(shown.id
        ? [
            wayBack(shown, () => dialog.close(), (failure) => setText(sentence, failure)),
            actions(shown, events, () => dialog.close()),
          ]
        : []),
    );
    setText(sentence, "");
    showKin(kin, shown, turnTo).then((found) => {
      if (current().id !== shown.id) return;
      parent = found;
      drawOver();
    });
  }

  /** The picture of a job, from its noise on. */
  function makeLive(job) {
    const element = make("div", { class: "viewer-live tile" });
    const made = makePicture(element, job, 1024);
    element.append(make("div", { class: "frame" }, ...made.layers, made.veil, made.bar));
    return { element, update: made.update, look: made.look };
  }

  /** Show another picture in the same place, which the arrow keys need not lead to. */
  function turnTo(picture) {
    const known = pictures.findIndex((each) => each.id === picture.id);
    if (known < 0) pictures = [...pictures.slice(0, index + 1), picture, ...pictures.slice(index + 1)];
    index = known < 0 ? index + 1 : known;
    turn(0);
  }

  /** A button that lays the start picture over the result, or the picture that it was forked from. */
  function overButton(kind, title) {
    const toggle = make("button", { type: "button", class: "act" });
    label(toggle, "compare", title);
    toggle.addEventListener("click", () => {
      over = over === kind ? "" : kind;
      drawOver();
    });
    return toggle;
  }

  function drawOver() {
    const { source } = pictures[index].recipe;
    const there = {
      start: source && (() => compare(`sources/${source}.png`, "Before", "After", "the start picture")),
      parent: parent && (() => compare(`pictures/${parent.id}.png`, "Parent", "Fork", "the picture it came from")),
    };
    ["start", "parent"].forEach((kind, at) => {
      overs[at].hidden = !there[kind];
      overs[at].setAttribute("aria-pressed", String(over === kind));
    });
    seen.replaceChildren(live?.element ?? image, ...(there[over] ? [there[over]()] : []));
  }

  function continuing(picture) {
    const job = stoppedAt(picture.id);
    if (!job) return [];
    const go = make("button", { type: "button", class: "act strong" }, "Continue");
    go.addEventListener("click", async () => {
      const failure = await act(job, "resume", place);
      if (failure) setText(sentence, failure);
      else dialog.close();
    });
    return [go];
  }

  before.addEventListener("click", () => turn(-1));
  after.addEventListener("click", () => turn(1));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const digit = starsOfKey(event);
    const { id } = current();
    if (event.key === "ArrowLeft") turn(-1);
    else if (event.key === "ArrowRight") turn(1);
    else if (isFullKey(event)) toggleFull(room);
    else if (digit !== null && id) rate(id, digit).then((sentence) => sentence && setText(line, sentence));
  });
  const stop = listen((change) => {
    if (live && jobs.has(pictures[index].job) && (change.kind !== "job" || change.data.id === pictures[index].job)) tell();
  });
  dialog.addEventListener("close", () => {
    stop();
    dialog.remove();
  });
  turn(0);
  document.body.append(dialog);
  dialog.showModal();
  // Not its first button: a space would press it.
  room.focus({ preventScroll: true });
  return { dialog, current };
}

/** ", stopped at step 7" for a partial picture. */
export function unfinished(picture) {
  return picture.steps_done < stepsRun(picture.recipe) ? ` · stopped at step ${picture.steps_done}` : "";
}
