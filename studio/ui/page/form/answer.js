// What a form says above its buttons: what went wrong and at which fields, what was filled in, and that a seed is kept.

import { CLOSED_ACCORDION_LINE, controlIn } from "../common/gradio.js";
import { reveal } from "./more.js";
import { make } from "../common/words.js";

/** Fields that are built when the panel of add-ons is first opened. */
const WITHIN_ADDONS = ["controls", "vae", "clip_skip", "guidance_rescale"];

/** Frames after which a panel that was opened has its fields. */
const PATIENCE = 60;

/** Place → the values of its form, as far as they were told of. */
const forms = new Map();

/**
 * Fill `root` with the answers of the tab `place`. `given`: get() and watch(listener) for the newest, JSON as `answer` in
 * studio/ui/canvas.py tells. `events`: undo({values}).
 */
export function mount(root, place, given, events) {
  const section = root.querySelector(".answer");
  const alert = make("div", { class: "notice", role: "alert", id: `${place}-alert` });
  const note = make("div", { class: "notice", role: "status" });
  section.append(alert, note);
  let marked = []; // {control, value}
  let then; // the form's values when the error came, undefined if nothing was told of them yet

  function show() {
    const { sentence, alert: isAlert = false, fields = [], before = null } = given.get() ? JSON.parse(given.get()) : {};
    unmark();
    [alert, note].forEach((each) => each.replaceChildren());
    if (!sentence) return;
    // A new element each time, so that the same sentence is seen and heard as a new one.
    const line = make("p", { class: "answer-line" }, sentence);
    (isAlert ? alert : note).append(line);
    if (before) line.append(" ", undo(before));
    if (!isAlert) return;
    then = forms.get(place);
    mark(fields, line);
    document.dispatchEvent(new CustomEvent("refused", { detail: { place } }));
  }

  function undo(values) {
    const button = make("button", { type: "button", class: "act answer-undo" }, "Undo");
    button.addEventListener("click", () => events.undo({ values }));
    return button;
  }

  async function mark(fields, line) {
    const found = [];
    for (const field of fields) found.push(await controlOf(place, field));
    const controls = found.filter(Boolean);
    if (!line.isConnected) return;
    controls.forEach(reveal);
    for (const control of controls) {
      control.setAttribute("aria-invalid", "true");
      control.setAttribute("aria-describedby", alert.id);
    }
    marked = controls.map((control) => ({ control, value: control.value }));
    controls[0]?.focus();
    controls[0]?.scrollIntoView({ block: "nearest" });
  }

  function unmark(some = marked) {
    for (const { control } of some) {
      control.removeAttribute("aria-invalid");
      control.removeAttribute("aria-describedby");
    }
    marked = marked.filter((each) => !some.includes(each));
  }

  /** The sentence goes when each field that is to blame was changed; one that blames none, with any change. */
  function heed(isOther) {
    if (!alert.hasChildNodes()) return;
    const hadFields = marked.length > 0;
    unmark(marked.filter(({ control, value }) => !control.isConnected || control.value !== value));
    if (hadFields ? marked.length === 0 : isOther) alert.replaceChildren();
  }

  document.addEventListener("form", ({ detail }) => {
    if (detail.place !== place) return;
    const now = JSON.stringify(detail.values);
    forms.set(place, now);
    const isOther = then !== undefined && now !== then;
    then ??= now;
    // Gradio tells of a value before it stands in the field.
    setTimeout(() => heed(isOther));
  });
  document.addEventListener("easel", ({ detail }) => detail.place === place && heed(true));
  given.watch(show);
  show();
}

/** Where a field is typed into or chosen; a closed panel is opened for it. */
async function controlOf(place, field) {
  const find = () => controlIn(`${place}-${field}`);
  const panel = WITHIN_ADDONS.includes(field) && document.querySelector(`#${place}-addons > ${CLOSED_ACCORDION_LINE}`);
  if (panel) panel.click();
  for (let frames = 0; !find() && panel && frames < PATIENCE; frames++) await new Promise(requestAnimationFrame);
  return find();
}

/** Say in `root` that the seed that `given` tells is kept. `events`: let_go(). */
export function pin(root, _, given, events) {
  const line = root.querySelector(".pinned");
  const show = () => {
    const seed = /^\p{Nd}+$/u.test(given.get()) ? given.get() : ""; // anything else is no seed, which Generate says
    const button = make("button", { type: "button", class: "act", title: "Take a new seed each time" }, "Let it go");
    button.addEventListener("click", () => events.let_go({}));
    line.replaceChildren(...(seed ? [make("span", {}, `Seed ${seed} is kept: the same settings make the same picture.`), button] : []));
  };
  given.watch(show);
  show();
}
