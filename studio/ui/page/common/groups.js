// What Gradio leaves single and belongs together: radio buttons, the tabs, rows of buttons.

import { CHOICES, FIELD_NAME } from "./gradio.js";
import { rove } from "./rove.js";

const ROWS = "[role=tablist], .examples, .intents";

let count = 0;

/** Make groups of all that is on the page, and of what comes. */
export function watchGroups() {
  const look = () => {
    document.querySelectorAll(CHOICES).forEach(nameGroup);
    document.querySelectorAll(ROWS).forEach((row) => {
      if (row.dataset.roves) return;
      row.dataset.roves = "true";
      rove(row, () => [...row.querySelectorAll("button:not(.examples-on)")].filter((button) => button.checkVisibility()));
    });
  };
  let isComing = false;
  new MutationObserver(() => {
    if (isComing) return;
    isComing = true;
    queueMicrotask(() => {
      isComing = false;
      look();
    });
  }).observe(document.body, { childList: true, subtree: true });
  look();
}

/** Radio buttons of one name are one stop for Tab, go on with the arrow keys, and are told as "1 of 4". */
function nameGroup(fieldset) {
  const radios = [...fieldset.querySelectorAll("input[type=radio]")];
  fieldset.dataset.group ??= `group-${++count}`;
  for (const radio of radios) if (radio.name !== fieldset.dataset.group) radio.name = fieldset.dataset.group;
  if (fieldset.getAttribute("role") === "radiogroup") return;
  fieldset.setAttribute("role", "radiogroup");
  fieldset.setAttribute("aria-label", fieldset.querySelector(FIELD_NAME)?.textContent.trim() ?? "");
}
