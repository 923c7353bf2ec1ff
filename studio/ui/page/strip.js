// The library's newest pictures in a row. New ones appear by themselves.

import { DRAGGED } from "./bring.js";
import { listen } from "./live.js";
import { show, unfinished } from "./pictures.js";
import { learn, makeMark } from "./stars.js";
import { make, sizeOf } from "./words.js";

const PAGE = 24;

/** Fill `root` with the strip. `events` has `use_settings` and `reuse_seed`. */
export function mount(root, options, events) {
  const section = root.querySelector(".strip");
  const row = make("div", { class: "strip-row" });
  const more = make("button", { type: "button", class: "act strip-more" }, "Older");
  section.append(make("h2", {}, "Recent"), row);
  const pictures = [];

  const entry = (picture) => {
    const { recipe } = picture;
    const image = make("img", { alt: recipe.prompt || "Picture without a prompt", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.closest("button")?.remove());
    image.src = `thumbnails/${picture.id}`;
    const button = make("button", { type: "button", class: "thumbnail" }, image, makeMark(picture.id));
    button.title = `${recipe.prompt.slice(0, 200)}\nSeed ${recipe.seed}${unfinished(picture)}`;
    const { width, height } = sizeOf(recipe);
    button.style.aspectRatio = `${width} / ${height}`;
    button.addEventListener("dragstart", (event) => event.dataTransfer.setData(DRAGGED, JSON.stringify(picture)));
    if (unfinished(picture)) button.classList.add("unfinished");
    button.addEventListener("click", () => show(pictures, pictures.indexOf(picture), events, options.place));
    return button;
  };

  const add = (picture) => {
    learn([picture]);
    if (pictures.some((each) => each.id === picture.id)) return;
    if (picture.id < pictures.at(-1)?.id) return; // one of long ago, gone back into: it stands further down
    pictures.unshift(picture);
    row.prepend(entry(picture));
    section.hidden = false;
  };

  const load = async (before) => {
    const query = before ? `&before=${encodeURIComponent(before)}` : "";
    const answer = await fetch(`pictures?count=${PAGE}${query}`).catch(() => null);
    return answer?.ok ? (await answer.json()).pictures : [];
  };

  const append = (found) => {
    learn(found);
    pictures.push(...found);
    more.remove();
    row.append(...found.map(entry));
    if (found.length === PAGE) row.append(more);
    section.hidden = pictures.length === 0;
  };

  const reload = async () => {
    const known = new Set(pictures);
    const found = await load();
    const arrived = pictures.filter((each) => !known.has(each)); // while the answer was under way
    pictures.length = 0;
    row.replaceChildren();
    append(found);
    for (const each of arrived.reverse()) add(each);
  };

  more.addEventListener("click", async () => append(await load(pictures.at(-1)?.id)));

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
