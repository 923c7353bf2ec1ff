// The contact sheet: the whole grid as one picture to keep, and the grid again from it.

import { listenForDrops } from "../easel/bring.js";
import { icon } from "../common/icons.js";
import { stageQuery } from "../live/live.js";
import { item, opens } from "../common/menu.js";
import { post } from "../common/server.js";
import { make } from "../common/words.js";

/**
 * A button with what can be done with sheets, and a place to drop one on: the whole tab around `section`. `hasPictures()`
 * tells whether there is something to keep; `say(sentence)` tells the person. A picture of the library can be dropped too:
 * the grid is then about it.
 */
export function makeSheets(section, place, events, hasPictures, say) {
  const chooser = make("input", { type: "file", accept: "image/png", class: "only-spoken", tabIndex: -1 });
  chooser.setAttribute("aria-label", "File of a sheet");
  const button = make("button", { type: "button", class: "act" }, icon("library"), make("span", {}, "Contact sheet"));
  const target = make("p", { class: "grid-target", "aria-hidden": "true" }, "Drop a contact sheet here, or a picture to compare from");
  section.append(chooser, target);

  async function take(file) {
    try {
      events.restore(await post("sheets", file));
      say("What the sheet was made of is in the form. Press Generate to make it again.");
    } catch (error) {
      say(error.message);
    }
  }

  function save() {
    const link = make("a", { href: `sheets/${place}.png?${stageQuery(place)}`, download: "" });
    document.body.append(link);
    link.click();
    link.remove();
  }

  opens(button, (close) => {
    const saving = item("download", "Save as PNG", save, close, "with its settings inside");
    saving.disabled = !hasPictures();
    return [saving, item("upload", "Open one…", () => chooser.click(), close, "or drop it here")];
  }, { label: "Contact sheet" });
  chooser.addEventListener("change", () => {
    if (chooser.files[0]) take(chooser.files[0]);
    chooser.value = "";
  });
  listenForDrops(section.closest(".workplace") ?? section, {
    file: take,
    picture: (picture) => events.use_settings({ recipe: picture.recipe }),
  });
  return button;
}
