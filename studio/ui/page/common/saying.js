// A sentence that belongs to no place of the page: what was asked for and not done.

import { make } from "./words.js";

/** Seconds after which it leaves by itself. */
const STAYS = 15;

let shown = null;

/** Show a sentence above everything, in place of the one before. */
export function say(sentence) {
  shown?.remove();
  const close = make("button", { type: "button", class: "act", title: "Close", "aria-label": "Close" }, "✕");
  const box = make("div", { class: "saying", role: "alert" }, make("p", {}, sentence), close);
  close.addEventListener("click", () => box.remove());
  setTimeout(() => box.remove(), STAYS * 1000);
  document.body.append(box);
  shown = box;
}
