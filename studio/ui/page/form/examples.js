// Examples: pictures that an empty stage invites to draw, and a row of prompts that can be seen to go on.

import { linesOf } from "../common/gradio.js";
import { make } from "../common/words.js";

/** What an empty stage shows below its sentence: pictures of the bundled model. A press fills in the prompt, and draws. */
export function invitations({ examples, place, start }) {
  const pictures = Object.entries(examples ?? {}).map(([name, prompt]) => {
    const image = make("img", { src: `page/examples/${name}.webp`, alt: "", width: 192, height: 192, decoding: "async" });
    const button = make("button", { type: "button", class: "invitation", title: prompt, "aria-label": `Draw “${prompt}”` }, image);
    button.addEventListener("click", () => draw(place, start, prompt));
    return button;
  });
  if (pictures.length === 0) return [];
  const words = "Or press one of these, which “sketchbook” drew, the small model that comes with the studio. Yours will be new ones.";
  return [make("div", { class: "invitations" }, ...pictures), make("p", {}, words)];
}

/** As a person would: type the prompt, then press Generate. */
function draw(place, start, prompt) {
  const field = linesOf(`${place}-prompt`);
  field.value = prompt;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  document.getElementById(start).click();
}

/** The row: an arrow while more of it lies to the right, and the wheel goes along it; its keys are those of all rows (groups.js). */
function goOn(row) {
  const on = make("button", { type: "button", class: "examples-on", title: "More examples", "aria-label": "More examples", tabIndex: -1 }, "›");
  const update = () => (on.hidden = row.scrollLeft + row.clientWidth >= row.scrollWidth - 2);
  row.dataset.goesOn = "";
  row.append(on);
  on.addEventListener("click", () => row.scrollBy({ left: row.clientWidth * 0.7, behavior: "smooth" }));
  row.addEventListener("scroll", update);
  row.addEventListener("wheel", (event) => {
    const before = row.scrollLeft;
    row.scrollLeft += event.deltaX || event.deltaY;
    if (row.scrollLeft !== before) event.preventDefault();
  }, { passive: false });
  new ResizeObserver(update).observe(row);
  update();
}

function find() {
  for (const row of document.querySelectorAll(".examples:not([data-goes-on])")) if (row.querySelector("button")) goOn(row);
}

new MutationObserver(find).observe(document.body, { childList: true, subtree: true });
find();
