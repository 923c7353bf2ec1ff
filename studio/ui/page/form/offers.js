// Names that can be values of an axis, to be pressed instead of typed.

import { make } from "../common/words.js";

/** Fill `root` with the names that `given` tells, JSON: [name, whether it is chosen] of each. `events`: toggle({name}). */
export function mount(root, _, given, events) {
  const group = root.querySelector(".offers");

  function show() {
    const names = given.get() ? JSON.parse(given.get()) : [];
    const before = [...group.children];
    const isSame = names.length === before.length && names.every(([name], at) => before[at].textContent === name);
    // Those that stay keep the focus.
    if (!isSame) group.replaceChildren(...names.map(([name]) => entry(name)));
    names.forEach(([, isChosen], at) => group.children[at].setAttribute("aria-pressed", String(isChosen)));
  }

  function entry(name) {
    const button = make("button", { type: "button", class: "offer" }, name);
    button.addEventListener("click", () => events.toggle({ name }));
    return button;
  }

  given.watch(show);
  show();
}
