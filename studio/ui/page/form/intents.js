// The intents of inpainting: what a person means to do. Which one is on is seen by the settings, so it is never told wrongly.

import { ask } from "../common/places.js";
import { setText } from "../common/words.js";

/**
 * Show which intent is on, and what to do next. `options`: place; intents, of each its `name`, `values` and `advice`. `given`: get()
 * and watch(listener) for the settings as they are, as JSON in the order of the values.
 */
export function mount(root, options, given) {
  const sentence = root.querySelector(".notice");
  const row = document.querySelector(`#${options.place}-intents`);
  const buttons = [...row.querySelectorAll("button")];
  let last = ""; // two intents can have the same settings

  function draw() {
    const now = given.get() || JSON.stringify(options.intents[0].values);
    const fitting = options.intents.filter(({ values }) => JSON.stringify(values) === now);
    const on = fitting.find(({ name }) => name === last) ?? fitting[0];
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.textContent.trim() === on?.name));
    setText(sentence, on?.advice ?? "Paint over what should change. The settings below are your own.");
  }

  row.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    last = button.textContent.trim();
    draw();
    if (last === "Extend") ask(options.place, "extend");
  });
  given.watch(draw);
  draw();
}
