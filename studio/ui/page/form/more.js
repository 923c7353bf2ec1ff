// The button that shows the further settings of the forms, or hides them. One choice for all tabs, which the browser keeps.

import { make, setText } from "../common/words.js";

const KEY = "emerge-more";
const CHANGED = "emerge:more";

const isOpen = () => document.documentElement.dataset.more === "open";

function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function show(choice) {
  document.documentElement.dataset.more = choice;
  dispatchEvent(new Event(CHANGED));
}

/** Show the further settings if `element` is among them. That is nobody's choice, so it is not kept. */
export function reveal(element) {
  if (element.closest(".more-settings") && !isOpen()) show("open");
}

function choose(choice) {
  show(choice);
  try {
    localStorage.setItem(KEY, choice);
  } catch {
    // No room, or not allowed: then it is not kept.
  }
}

/** Fill the button in. `told`: get() says which further settings are not as they begin, and watch(listener). */
export function mount(root, told) {
  const button = root.querySelector(".more");
  const words = make("span");
  const differ = make("span", { class: "more-told" });
  button.append(words, differ);
  const draw = () => {
    setText(words, isOpen() ? "Fewer settings" : "More settings");
    setText(differ, told.get() ? ` · ${told.get()}` : "");
  };
  // Not aria-expanded: Escape belongs to what is open there (stage.js), and these settings stay open while one works.
  button.addEventListener("click", () => choose(isOpen() ? "closed" : "open"));
  addEventListener(CHANGED, draw);
  told.watch(draw);
  draw();
}

document.documentElement.dataset.more ??= kept() ?? "closed";
