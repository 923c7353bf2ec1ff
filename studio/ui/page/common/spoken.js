// What is said to those who cannot see it, in one place of the page: a tab that is not shown cannot speak.

import { tabAround } from "./gradio.js";
import { make } from "./words.js";

/** The element that is read out when it changes. */
export const place = make("p", { class: "only-spoken spoken", role: "status", "aria-live": "polite" });

/** Say it when nothing else is being said, the same a second time too. */
export function speak(text) {
  place.textContent = text && place.textContent === text ? `${text}\u00a0` : text;
}

/**
 * Tells how it stands in `section`: tell(text, key) says it if the `key` is another one than before. What it finds at first, and
 * after begin(), is no news. If another tab is shown, the name of its own goes before.
 */
export function makeTeller(section) {
  let told = null;

  function tell(text, key) {
    const isNews = told !== null && key !== told;
    told = key;
    if (!isNews) return;
    const isShown = section.getClientRects().length > 0;
    const tab = tabAround(section);
    speak(isShown || !text || !tab ? text : `${tab.textContent}: ${text}`);
  }

  return {
    tell,
    begin() {
      told = null;
    },
  };
}
