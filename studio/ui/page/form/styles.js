// Bringing a table of styles from a file.

import { post } from "../common/server.js";
import { make } from "../common/words.js";

/** A button that sends a chosen file. `brought({added})` or `brought({told})` is called with how it went. */
export function mount(element, { brought }) {
  const chooser = make("input", { type: "file", accept: ".csv", class: "only-spoken", tabIndex: -1 });
  chooser.setAttribute("aria-label", "Table of styles");
  const button = make("button", { type: "button" }, "Bring styles.csv");
  button.addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", async () => {
    const file = chooser.files[0];
    chooser.value = "";
    if (!file) return;
    button.disabled = true;
    try {
      brought(await post(`styles?name=${encodeURIComponent(file.name)}`, file));
    } catch (error) {
      brought({ told: error.message });
    }
    button.disabled = false;
  });
  element.querySelector(".bring-styles").append(button, chooser);
}
