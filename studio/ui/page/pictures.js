// What can be done with a picture that is on disk, and the large view of one.

import { act, stoppedAt } from "./live.js";
import { facts, make, setText } from "./words.js";

const ICONS = {
  download: "M12 4v11m0 0-4-4m4 4 4-4M5 20h14",
  settings: "M4 7h9m4 0h3M4 17h3m4 0h9M13 4.5v5M7 14.5v5",
  seed: "M5 5h14v14H5zM9 9h.01M15 15h.01M12 12h.01",
  stop: "M7 7h10v10H7z",
  continue: "M8 6v12l10-6z",
  drop: "M6.5 6.5l11 11m0-11-11 11",
};

/** A small drawing; its meaning must be said elsewhere. */
export function icon(name) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  drawing.append(path);
  return drawing;
}

/** Download, use these settings, reuse seed. `events` has `use_settings` and `reuse_seed`. */
export function actions(picture, events, done = () => {}) {
  const recipe = picture.recipe;
  const download = make("a", { class: "act", href: `/pictures/${picture.id}.png?download=1`, download: "" });
  label(download, "download", "Download");
  const settings = button("settings", "Use these settings", () => events.use_settings({ recipe }), done);
  const seed = button("seed", "Reuse seed", () => events.reuse_seed({ recipe }), done);
  return make("div", { class: "acts" }, download, settings, seed);
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
 * `place`: where a stopped one goes on if it is continued from here.
 */
export function show(pictures, index, events, place) {
  const dialog = make("dialog", { class: "viewer", "aria-label": "Picture" });
  const image = make("img", { alt: "" });
  const prompt = make("p", { class: "viewer-prompt" });
  const negative = make("p", { class: "viewer-negative" });
  const line = make("p", { class: "viewer-facts" });
  const acts = make("div", { class: "acts" });
  const close = make("button", { type: "button", class: "act viewer-close", title: "Close", "aria-label": "Close" }, "×");
  const before = make("button", { type: "button", class: "viewer-turn", title: "Newer" }, "‹");
  const after = make("button", { type: "button", class: "viewer-turn", title: "Older" }, "›");
  const text = make("div", { class: "viewer-text" }, prompt, negative, line, acts, close);
  dialog.append(make("div", { class: "viewer-picture" }, before, image, after), text);

  function turn(by) {
    index = Math.min(Math.max(index + by, 0), pictures.length - 1);
    const picture = pictures[index];
    const { recipe } = picture;
    image.src = `/pictures/${picture.id}.png`;
    image.alt = recipe.prompt;
    image.width = recipe.width;
    image.height = recipe.height;
    image.style.aspectRatio = `${recipe.width} / ${recipe.height}`;
    image.style.setProperty("--ratio", recipe.width / recipe.height);
    setText(prompt, recipe.prompt || "(no prompt)");
    setText(negative, recipe.negative_prompt ? `Not: ${recipe.negative_prompt}` : "");
    setText(line, `Seed ${recipe.seed} · ${facts(recipe)}${unfinished(picture)}`);
    acts.replaceChildren(...continuing(picture), actions(picture, events, () => dialog.close()));
    before.disabled = index === 0;
    after.disabled = index === pictures.length - 1;
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
  return picture.steps_done < picture.recipe.steps ? ` · stopped at step ${picture.steps_done}` : "";
}
