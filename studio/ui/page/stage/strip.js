// The library's newest pictures in a row. New ones appear by themselves.

import { DRAGGED } from "../easel/bring.js";
import { icon } from "../common/icons.js";
import { listen } from "../live/live.js";
import { show, unfinished } from "./pictures.js";
import { rove } from "../common/rove.js";
import { recent } from "../common/server.js";
import { learn, makeMark, ratingOf } from "./stars.js";
import { changes, make, thumbnailRatio } from "../common/words.js";

const PAGE = 24;

/** Fill `root` with the strip. `events` has `use_settings` and `reuse_seed`. */
export function mount(root, options, events) {
  const section = root.querySelector(".strip");
  const row = make("div", { class: "strip-row" });
  const more = make("button", { type: "button", class: "act strip-more" }, "Older");
  section.append(make("h2", {}, "Recent"), row);
  rove(row);
  const pictures = [];
  const thumbnails = new Map(); // picture → its button

  const entry = (picture) => {
    const { recipe } = picture;
    const image = make("img", { alt: recipe.prompt || "Picture without a prompt", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => thumbnails.get(picture)?.remove());
    image.src = `thumbnails/${picture.id}`;
    const button = make("button", { type: "button", class: "thumbnail" }, image, makeMark(picture.id));
    if (picture.forked_at !== undefined) button.append(make("span", { class: "fork-mark" }, icon("fork")));
    const said = changes(recipe, picture.forked_at).map((change) => `\n${change[0].toUpperCase()}${change.slice(1)}`).join("");
    button.title = `${recipe.prompt.slice(0, 200)}\nSeed ${recipe.seed}${unfinished(picture)}${said}`;
    button.style.aspectRatio = thumbnailRatio(recipe);
    button.addEventListener("dragstart", (event) => event.dataTransfer.setData(DRAGGED, JSON.stringify(picture)));
    if (unfinished(picture)) button.classList.add("unfinished");
    button.addEventListener("click", () => show(pictures, pictures.indexOf(picture), events, options.place));
    thumbnails.set(picture, button);
    return button;
  };

  /** Put a picture where it belongs in time. One of long ago, gone back into, stands further down than what is shown. */
  const add = (picture) => {
    learn([picture]);
    if (pictures.some((each) => each.id === picture.id)) return;
    if (more.isConnected && picture.made_at < pictures.at(-1)?.made_at) return;
    for (const partial of pictures.filter((each) => isSuperseded(each, picture))) remove(partial);
    const found = pictures.findIndex((each) => each.made_at <= picture.made_at);
    const at = found < 0 ? pictures.length : found;
    const next = thumbnails.get(pictures[at]) ?? (more.isConnected ? more : null);
    row.insertBefore(entry(picture), next);
    pictures.splice(at, 0, picture);
    section.hidden = false;
  };

  const remove = (picture) => {
    pictures.splice(pictures.indexOf(picture), 1);
    const thumbnail = thumbnails.get(picture);
    if (thumbnail?.contains(document.activeElement)) (thumbnail.nextSibling ?? thumbnail.previousSibling)?.focus();
    thumbnail?.remove();
    thumbnails.delete(picture);
  };

  const append = (found) => {
    if (!found) return;
    learn(found.pictures);
    pictures.push(...found.pictures);
    more.remove();
    row.append(...found.pictures.map(entry));
    if (found.more) row.append(more);
    section.hidden = pictures.length === 0;
  };

  const reload = async () => {
    const known = new Set(pictures);
    const found = await recent(PAGE);
    const arrived = pictures.filter((each) => !known.has(each)); // while the answer was under way
    pictures.length = 0;
    thumbnails.clear();
    row.replaceChildren();
    append(found);
    for (const each of arrived.reverse()) add(each);
  };

  more.addEventListener("click", async () => {
    const found = await recent(PAGE, pictures.at(-1)?.id);
    append(found);
    thumbnails.get(found?.pictures[0])?.focus({ preventScroll: true });
  });

  section.hidden = true;
  listen(({ kind, data }) => {
    if (kind === "jobs") reload();
    if (kind === "job" && data.picture) addOf(data);
  });

  async function addOf(job) {
    // Without an answer the studio is gone, and when it is back all of them are asked for again.
    const answer = await fetch(`pictures/${job.picture}`).catch(() => null);
    if (answer?.ok) add(await answer.json());
  }
}

/** Whether a picture that was stopped came further since, in another; one with stars stays. As in `Library.recent`. */
const isSuperseded = (partial, picture) =>
  partial.steps_done < picture.steps_done && !ratingOf(partial.id) && JSON.stringify(partial.recipe) === JSON.stringify(picture.recipe);
