// What can be done with a picture that is on disk, and the large view of one.

import { compare } from "./compare.js";
import { icon } from "./icons.js";
import { showKin, wayBack } from "./lineage.js";
import { act, stoppedAt } from "./live.js";
import { heading, item, opens } from "./menu.js";
import { ask } from "./places.js";
import { facts, make, setText, sizeOf, stepsRun } from "./words.js";

/** Download, use these settings, reuse seed, send to. `events` has `use_settings` and `reuse_seed`. */
export function actions(picture, events, done = () => {}) {
  const recipe = picture.recipe;
  const download = make("a", { class: "act", href: `/pictures/${picture.id}.png?download=1`, download: "" });
  label(download, "download", "Download");
  const settings = button("settings", "Use these settings", () => useSettings(recipe, events), done);
  const seed = button("seed", "Reuse seed", () => events.reuse_seed({ recipe }), done);
  return make("div", { class: "acts" }, download, settings, seed, sender(picture, done));
}

/** Settings with a start picture belong to the tab that works from one; others are used where the person is. */
function useSettings(recipe, events) {
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

function label(element, drawing, text) {
  element.title = text;
  element.append(icon(drawing), make("span", {}, text));
}

/**
 * Show pictures[index] large, with its settings; the arrow keys lead to the others.
 * `place`: where a stopped one goes on if it is continued from here. `isComparing`: with its start picture beside it.
 */
export function show(pictures, index, events, place, isComparing = false) {
  const dialog = make("dialog", { class: "viewer", "aria-label": "Picture" });
  const image = make("img", { alt: "" });
  const prompt = make("p", { class: "viewer-prompt" });
  const negative = make("p", { class: "viewer-negative" });
  const line = make("p", { class: "viewer-facts" });
  const acts = make("div", { class: "acts" });
  const kin = make("div", { class: "viewer-kin" });
  const sentence = make("p", { role: "alert" });
  const close = make("button", { type: "button", class: "act viewer-close", title: "Close", "aria-label": "Close" }, "×");
  const before = make("button", { type: "button", class: "viewer-turn", title: "Newer" }, "‹");
  const after = make("button", { type: "button", class: "viewer-turn", title: "Older" }, "›");
  const text = make("div", { class: "viewer-text" }, prompt, negative, line, acts, sentence, kin, close);
  const seen = make("div", { class: "viewer-seen" }, image);
  dialog.append(make("div", { class: "viewer-picture" }, before, seen, after), text);

  function turn(by) {
    index = Math.min(Math.max(index + by, 0), pictures.length - 1);
    const picture = pictures[index];
    const { recipe } = picture;
    image.src = `/pictures/${picture.id}.png`;
    image.alt = recipe.prompt;
    const { width, height } = sizeOf(recipe);
    Object.assign(image, { width, height });
    seen.style.aspectRatio = `${width} / ${height}`;
    seen.style.setProperty("--ratio", width / height);
    drawComparing();
    setText(prompt, recipe.prompt || "(no prompt)");
    setText(negative, recipe.negative_prompt ? `Not: ${recipe.negative_prompt}` : "");
    setText(line, `Seed ${recipe.seed} · ${facts(recipe)}${unfinished(picture)}`);
    acts.replaceChildren(
      ...continuing(picture),
      ...comparing(recipe),
      wayBack(picture, () => dialog.close(), (failure) => setText(sentence, failure)),
      actions(picture, events, () => dialog.close()),
    );
    setText(sentence, "");
    showKin(kin, picture, turnTo);
    before.disabled = index === 0;
    after.disabled = index === pictures.length - 1;
  }

  /** Show another picture in the same place, which the arrow keys need not lead to. */
  function turnTo(picture) {
    const known = pictures.findIndex((each) => each.id === picture.id);
    if (known < 0) pictures = [...pictures.slice(0, index + 1), picture, ...pictures.slice(index + 1)];
    index = known < 0 ? index + 1 : known;
    turn(0);
  }

  /** The button that lays the start picture over the result, if there is one. */
  function comparing(recipe) {
    if (!recipe.source) return [];
    const toggle = make("button", { type: "button", class: "act" });
    label(toggle, "compare", "Compare with start");
    toggle.setAttribute("aria-pressed", String(isComparing));
    toggle.addEventListener("click", () => {
      isComparing = !isComparing;
      toggle.setAttribute("aria-pressed", String(isComparing));
      drawComparing();
    });
    return [toggle];
  }

  function drawComparing() {
    const { source } = pictures[index].recipe;
    seen.replaceChildren(image, ...(isComparing && source ? [compare(source)] : []));
  }

  function continuing(picture) {
    const job = stoppedAt(picture.id);
    if (!job) return [];
    const go = make("button", { type: "button", class: "act strong" }, "Continue");
    go.addEventListener("click", () => {
      act(job, "resume", place);
      dialog.close();
    });
    return [go];
  }

  before.addEventListener("click", () => turn(-1));
  after.addEventListener("click", () => turn(1));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  dialog.addEventListener("close", () => dialog.remove());
  turn(0);
  document.body.append(dialog);
  dialog.showModal();
}

/** ", stopped at step 7" for a partial picture. */
export function unfinished(picture) {
  return picture.steps_done < stepsRun(picture.recipe) ? ` · stopped at step ${picture.steps_done}` : "";
}
