// What belongs to no tab: the heading, links past what stands before a form, and what the window's title tells.

import { MAIN_BUTTON, openPanel } from "../common/gradio.js";
import { watchGroups } from "../common/groups.js";
import { place as placeOfWords } from "../common/spoken.js";
import { watchTitle } from "./title.js";
import { make } from "../common/words.js";

/** Fill `root` with the page's header. */
export function mount(root) {
  const links = [
    skip("Skip to the prompt", (panel) => panel.querySelector(".fields textarea") ?? panel.querySelector("input")),
    skip("Skip to Generate", (panel) => panel.querySelector(`.buttons > ${MAIN_BUTTON}`) ?? panel.querySelector("input")),
  ];
  root.querySelector(".top").append(...links, make("h1", { class: "only-spoken" }, "Emerge Studio"), placeOfWords);
  watchTitle();
  watchGroups();
}

/** A link that is seen once it has the focus, and gives it to what `find` returns of the panel of the open tab. */
function skip(text, find) {
  const link = make("a", { class: "skip" }, text);
  link.href = "#text_to_image-panel";
  link.addEventListener("focus", () => {
    link.href = `#${openPanel().id}`;
  });
  link.addEventListener("click", (event) => {
    event.preventDefault();
    find(openPanel())?.focus();
  });
  return link;
}
