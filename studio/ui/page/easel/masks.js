// What only the easel for masks has: masks as files, and a picture that is extended beyond its sides.

import { heading, item, items, opens } from "../common/menu.js";
import { numberField, read } from "../common/numbers.js";
import { fileOf } from "../common/server.js";
import { make, onEnter } from "../common/words.js";

const SIDES = ["left", "top", "right", "bottom"];
const MOST = 4096;

/** The colours that a mask can be shown in, as turns of the one it is drawn in. */
const HUES = { Orange: "0deg", Green: "110deg", Blue: "200deg" };

/**
 * A menu on `button` to upload and download the mask, and for the colour it is shown in, which `settings` keeps.
 * `take(file)` takes a mask; `strokes` holds what is painted; `changed()` is called after the colour was changed.
 */
export function maskMenuOn(button, section, strokes, take, settings, changed) {
  const chooser = make("input", { type: "file", accept: "image/*", class: "only-spoken", tabIndex: -1, "aria-label": "Mask file" });
  chooser.addEventListener("change", () => {
    if (chooser.files[0]) take(chooser.files[0]);
    chooser.value = "";
  });
  section.append(chooser);

  function showIn(name) {
    settings.hue = name;
    const turn = HUES[name] ?? "0deg";
    // Without a filter, painting stays quicker.
    strokes.canvas.style.filter = turn === "0deg" ? "" : `hue-rotate(${turn})`;
  }

  const hues = (close) =>
    Object.keys(HUES).map((name) => {
      const one = make("button", { type: "button", class: "shape" }, name);
      one.setAttribute("aria-pressed", String((settings.hue ?? "Orange") === name));
      one.addEventListener("click", () => {
        showIn(name);
        changed();
        close();
      });
      return one;
    });
  showIn(settings.hue ?? "Orange");

  async function download() {
    const address = URL.createObjectURL(await fileOf(strokes.grey()));
    make("a", { href: address, download: "mask.png" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }

  opens(button, (close) => [
    items(item("upload", "Upload a mask", () => chooser.click(), close), item("download", "Download the mask", download, close)),
    heading("Show it in"),
    make("div", { class: "blank-shapes" }, ...hues(close)),
    make("p", { class: "panel-hint" }, "A grey picture as large as this one: white changes, black stays."),
  ], { role: "dialog", label: "Mask" });
}

/** A form on `button` for how many pixels to add on each side. `extend` gets them as {left, top, right, bottom}. */
export function extendFormOn(button, sizeOfPicture, extend) {
  opens(button, (close) => {
    const { width, height } = sizeOfPicture();
    const inputs = SIDES.map((side) => numberField({ least: 0, most: MOST, step: 8, value: 0, "aria-label": `Extend ${side}` }));
    const fields = inputs.map((input, at) => {
      const name = SIDES[at][0].toUpperCase() + SIDES[at].slice(1);
      return make("label", { class: `extend-${SIDES[at]}` }, make("span", {}, name), input);
    });
    const quick = (text, share, among) => {
      const one = make("button", { type: "button", class: "shape" }, text);
      one.addEventListener("click", () => {
        SIDES.forEach((side, at) => {
          const length = at % 2 ? height : width;
          inputs[at].value = among.includes(side) ? Math.round((length * share) / 8) * 8 : 0;
        });
      });
      return one;
    };
    const go = make("button", { type: "button", class: "act strong" }, "Extend");
    go.addEventListener("click", () => {
      const pixels = inputs.map(read);
      if (pixels.includes(undefined)) return;
      close();
      extend(Object.fromEntries(SIDES.map((side, at) => [side, pixels[at]])));
    });
    inputs.forEach((input) => onEnter(input, go));
    return [
      heading("Pixels to add on each side"),
      make("div", { class: "extend-fields" }, ...fields, make("div", { class: "extend-middle", "aria-hidden": "true" })),
      make(
        "div",
        { class: "blank-shapes" },
        quick("25 % all round", 0.25, SIDES),
        quick("50 % wider", 0.25, ["left", "right"]),
        quick("50 % taller", 0.25, ["top", "bottom"]),
      ),
      go,
    ];
  }, { role: "dialog", label: "Extend the picture" });
}
