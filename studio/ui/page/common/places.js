// Tabs that ask something of one another. A tab is built when it is first shown, so what is asked may have to wait.

import { tabOf } from "./gradio.js";

/** "place verb" → what does it. */
const doers = new Map();
const waiting = new Map();

/** Say that the tab `place` can do this now. What was asked for before is done at once. */
export function offer(place, verb, act) {
  const key = `${place} ${verb}`;
  doers.set(key, act);
  if (waiting.has(key)) act(waiting.get(key));
  waiting.delete(key);
}

/**
 * Show the tab `place` and let it do something: "send" a picture onto its easel, "vary" a picture, "use" a recipe.
 * `detail` is what it is done with.
 */
export function ask(place, verb, detail) {
  const tab = tabOf(place);
  if (tab?.getAttribute("aria-selected") !== "true") {
    tab?.click();
    // How far down one was tells nothing in another tab, where what was asked for happens above.
    scrollTo({ top: 0, behavior: "instant" });
    tab?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  const key = `${place} ${verb}`;
  const act = doers.get(key);
  if (act) act(detail);
  else waiting.set(key, detail);
}
