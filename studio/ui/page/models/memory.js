// The models that are in memory: how much each takes, how it is held, and a way to let it go.

import { askMemory, watchMemory } from "./held.js";
import { icon } from "../common/icons.js";
import { ask } from "./server.js";
import { make, setText, size } from "../common/words.js";

/** The part of the tab that shows them, and `look()`, to be called when the tab comes into sight. */
export function makeMemory() {
  const room = make("p", { class: "models-facts" });
  const rows = make("ul", { class: "models-held" });
  const none = make("p", { class: "models-facts" }, "No model is in memory. The first picture made with one loads it.");
  const head = make("div", { class: "models-memory-head" }, make("h2", {}, "In memory"), room);
  const element = make("section", { class: "models-memory", "aria-label": "Models in memory", hidden: true }, head, none, rows);
  const rowOf = new Map();

  watchMemory(({ card, bytes, free, models }) => {
    element.hidden = false;
    none.hidden = models.length > 0;
    setText(room, `${size(free)} of ${size(bytes)} free${card ? " on the graphics card" : ""}`);
    for (const [name, row] of rowOf) {
      if (models.some((each) => each.name === name)) continue;
      row.element.remove();
      rowOf.delete(name);
    }
    models.forEach((each, index) => {
      if (!rowOf.has(each.name)) rowOf.set(each.name, makeRow(each.name));
      const row = rowOf.get(each.name);
      row.draw(each);
      if (rows.children[index] !== row.element) rows.insertBefore(row.element, rows.children[index] ?? null);
    });
  });

  return { element, look: askMemory };
}

function makeRow(name) {
  const facts = make("span", { class: "models-facts" });
  const refusal = make("span", { class: "models-problem", role: "alert" });
  const label = make("span", {}, "Free");
  const free = make("button", { type: "button", class: "act", title: "Take it out of memory. The next picture made with it loads it again." }, icon("drop"), label);
  free.setAttribute("aria-label", `Free ${name}`);
  const words = make("span", { class: "models-held-words" }, make("bdi", { class: "models-name" }, name), facts, refusal);
  const element = make("li", {}, words, free);

  free.addEventListener("click", async () => {
    setText(refusal, "");
    free.disabled = true;
    setText(label, "Freeing…"); // a step that is under way is finished first
    try {
      await ask(`models/free?name=${encodeURIComponent(name)}`, { method: "POST" });
    } catch (error) {
      setText(refusal, error.message);
    }
    free.disabled = false;
    setText(label, "Free");
  });

  return {
    element,
    draw: ({ bytes, precision, note }) => setText(facts, `about ${size(bytes)} · ${note || `whole, in ${precision}`}`),
  };
}
