// Where a picture came from, what was forked from it, and the way back into one of the library.

import { icon } from "../common/icons.js";
import { stageQuery } from "../live/live.js";
import { ask } from "../common/places.js";
import { changesAt, make } from "../common/words.js";

/**
 * A button that puts a picture on its tab's stage again, with its timeline, and fills the form in as it was made.
 * `failed(sentence)` is told what went wrong; `done` is called when it stands there.
 */
export function wayBack(picture, done, failed) {
  const { recipe } = picture;
  const element = make("button", { type: "button", class: "act" }, icon("back"), make("span", {}, "Go back into it"));
  element.title = "Look through its steps, and take it up again at one of them";
  element.addEventListener("click", async () => {
    const place = recipe.source ? (recipe.mask ? "inpainting" : "image_to_image") : "text_to_image";
    const sentence = await recall(picture.id, place);
    if (sentence) return failed(sentence);
    ask(place, "use", recipe);
    done();
  });
  return element;
}

async function recall(id, place) {
  try {
    const answer = await fetch(`pictures/${id}/recall?${stageQuery(place)}`, { method: "POST" });
    return answer.ok ? "" : (await answer.json()).error;
  } catch {
    return "The studio does not answer. Is it still running?";
  }
}

/**
 * Fill `element` with the picture that this one was forked from, and with its forks, each with what was changed. `open(picture)`
 * shows one. Resolves to the picture that it was forked from, null if there is none.
 */
export async function showKin(element, picture, open) {
  element.replaceChildren();
  element.dataset.of = picture.id ?? "";
  if (!picture.id) return null;
  const answer = await fetch(`pictures/${picture.id}/lineage`).catch(() => null);
  if (!answer?.ok) return null;
  const { parent, step, gone, forks } = await answer.json();
  if (element.dataset.of !== picture.id) return null;
  const words = (text) => make("span", {}, text);
  const at = (recipe, where) => [`step ${where}`, changesAt(recipe, where)].filter(Boolean).join(": ");
  if (parent) element.append(make("div", {}, words("From"), small(parent, "The picture it came from", open), words(`at ${at(picture.recipe, step)}`)));
  if (gone) element.append(make("div", {}, words(`Forked at ${at(picture.recipe, step)}, from a picture that is not here any more`)));
  if (forks.length === 0) return parent;
  const branches = forks.map((each) =>
    make("span", { class: "branch" }, small(each, `Fork at step ${each.step}`, open), words(at(each.recipe, each.step))),
  );
  element.append(make("div", {}, words(forks.length === 1 ? "Its fork" : "Its forks"), ...branches));
  return parent;
}

function small(picture, title, open) {
  const image = make("img", { alt: title, src: `thumbnails/${picture.id}` });
  const button = make("button", { type: "button", class: "kin", title }, image);
  button.addEventListener("click", () => open(picture));
  return button;
}
