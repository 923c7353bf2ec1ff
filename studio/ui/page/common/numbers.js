// Fields for numbers. They are texts: a browser's own field makes another number of a comma or a point, or none, as its
// language has it. Those of Gradio's forms are known by the class "number", our own are made here.

import { FIELD_BLOCK, lineOf } from "./gradio.js";
import { counted, make, stepsRun } from "./words.js";

/** The zeros of the digits that people type: Arabic, Persian, Devanagari, Bengali. */
const ZEROS = ["٠", "۰", "०", "০"];

const NUMBER = /^[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?$/i;

const FIELDS = ".number input, input.number";

/** The number that was typed, null if it is none. The same rule as `number` in studio/numerals.py. */
export function numberOf(text) {
  if (/\p{No}/u.test(text ?? "")) return null; // 7² is not 72
  const plain = String(text ?? "").normalize("NFKC").replace(/\u066b/g, ",").replace(/\u2212/g, "-").trim();
  const digits = [...plain].map(digit).join("");
  return NUMBER.test(digits) ? Number(digits.replace(",", ".")) : null;
}

function digit(letter) {
  const zero = ZEROS.find((each) => letter >= each && letter.charCodeAt(0) < each.charCodeAt(0) + 10);
  return zero ? String(letter.charCodeAt(0) - zero.charCodeAt(0)) : letter;
}

/**
 * A field for a number from `least` to `most`; the arrow keys add `step`, and where that is whole, only whole numbers will do.
 * An `empty` one may be left so. Other `properties` are the element's.
 */
export function numberField({ least = -Infinity, most = Infinity, step = 1, empty = false, ...properties }) {
  const field = make("input", { type: "text", inputMode: "decimal", autocomplete: "off", ...properties });
  field.classList.add("number");
  Object.assign(field.dataset, { least, most, step, empty });
  return field;
}

/** The number in a field of ours; null if it is left empty. Without one it says so at the field, and is undefined. */
export function read(field) {
  if (!judge(field)) return numberOf(field.value);
  field.focus();
  return undefined;
}

/** Put a number into a field as if it had been typed. */
export function type(field, text) {
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Fill `root` with a slider for the field with the id `field`; `given` tells what that field holds. */
export function slide(root, { label, field, least, most }, given) {
  const range = root.querySelector(".slider");
  Object.assign(range, { min: least, max: most, step: 0.01 });
  const input = () => lineOf(field);
  range.setAttribute("aria-label", label);
  const follow = () => {
    const number = numberOf(given.get());
    if (number !== null) range.value = number;
  };
  range.addEventListener("input", () => type(input(), String(Number(range.value))));
  given.watch(follow);
  follow();
}

/** What a strength comes to with so many steps; nothing where they are none that can be run. */
export function stepsSaid(strength, steps) {
  const [share, all] = [numberOf(strength), numberOf(steps)];
  if (share === null || share < 0 || share > 1 || !Number.isInteger(all) || all < 1) return "";
  const run = stepsRun({ source: "any", steps: all, strength: share });
  if (run) return `${run} of ${counted(all, "step")} ${all === 1 ? "is" : "are"} run`;
  return "No step is run: the model's autoencoder reads the picture and draws it again, which changes fine details.";
}

/** What is wrong with what a field holds: nothing, or a sentence. */
function fault(field) {
  const { least = -Infinity, most = Infinity, empty } = field.dataset;
  if (!field.value.trim()) return empty === "false" ? "Fill in a number." : "";
  const number = numberOf(field.value);
  if (number === null) return "That is no number. Write it in digits, such as 7.5 or 7,5, and without marks between thousands.";
  if (field.dataset.step && Number.isInteger(Number(field.dataset.step)) && !Number.isInteger(number)) return "Only a whole number will do here.";
  if (number < Number(least) || number > Number(most)) return `This can be ${least} ${most === "Infinity" ? "or more" : `to ${most}`}.`;
  return "";
}

/** Field → the sentence below it, and what it held then. */
const faults = new Map();
let count = 0;

/** Say below a field what is wrong with it, and whether something is. */
function judge(field) {
  const sentence = fault(field);
  acquit(field);
  if (!sentence) return false;
  const line = make("span", { class: "number-fault", role: "alert", id: `number-fault-${++count}` }, sentence);
  (field.closest(`${FIELD_BLOCK}.number`) ?? field.parentElement).append(line);
  faults.set(field, { line, value: field.value });
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", line.id);
  return true;
}

function acquit(field) {
  if (!faults.has(field)) return;
  faults.get(field).line.remove();
  faults.delete(field);
  field.removeAttribute("aria-invalid");
  field.removeAttribute("aria-describedby");
}

/** How much the arrow keys add. */
function stepOf(field) {
  const name = [...(field.closest(".number")?.classList ?? [])].find((each) => each.startsWith("step-"));
  return Number(field.dataset.step ?? name?.slice(5) ?? 1);
}

function onArrow(event) {
  const sign = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  if (!sign || event.ctrlKey || event.altKey || event.metaKey || !event.target.matches?.(FIELDS)) return;
  event.preventDefault();
  const field = event.target;
  const number = numberOf(field.value || field.placeholder) ?? 0;
  const { least = -Infinity, most = Infinity } = field.dataset;
  const next = Math.min(Math.max(number + sign * stepOf(field), Number(least)), Number(most));
  type(field, String(Number(next.toFixed(6))));
  field.dispatchEvent(new Event("change", { bubbles: true }));
}

document.addEventListener("keydown", onArrow);
document.addEventListener("focusin", ({ target }) => {
  if (target.matches?.(FIELDS)) Object.assign(target, { inputMode: "decimal", autocomplete: "off" });
});
// A form can also be filled in. Gradio tells of a value before it stands in the field.
document.addEventListener("form", () => setTimeout(() => {
  for (const [field, { value }] of faults) if (!field.isConnected || field.value !== value) acquit(field);
}));
document.addEventListener("input", ({ target }) => target.matches?.(FIELDS) && acquit(target));

// A sentence that comes while a button is held down would move the button away from under the pointer.
let isPressed = false;
addEventListener("pointerdown", () => (isPressed = true), { capture: true });
for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, () => (isPressed = false), { capture: true });
document.addEventListener("change", ({ target }) => {
  if (!target.matches?.(FIELDS)) return;
  if (isPressed) addEventListener("pointerup", () => setTimeout(() => judge(target)), { once: true });
  else judge(target);
});
