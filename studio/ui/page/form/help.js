// A "?" beside each setting of the forms: what it does, and where the help tells more. It is no stop of the Tab key, which would
// take twice as many to Generate; F1 opens it from within its setting.

import { CONTROLS, FIELD_BLOCK, FIELD_NAME, TAB_ROW } from "../common/gradio.js";
import { make } from "../common/words.js";

const explained = JSON.parse(document.getElementById("explained").textContent);

/** The labels of settings. */
const LABELS = `.controls ${FIELD_NAME}`;

const words = make("p");
const link = make("a", { target: "_blank" }, "More about it");
const bubble = make("div", { class: "help-bubble", popover: "auto", role: "group", "aria-label": "Help" }, words, link);
let asked = null;
let from = null; // where the keys were when it was opened by F1
let wasOpen = false; // when the pointer went down: by then, a press outside has closed it already

/** Put a "?" beside each label that has none yet. It stands outside of the label, which would be a name for both. */
function decorate() {
  for (const label of document.querySelectorAll(LABELS)) {
    const text = label.textContent.trim();
    const block = label.closest(FIELD_BLOCK);
    if (!explained[text] || !block || block.querySelector(":scope > .help")) continue;
    const button = make("button", { type: "button", class: "help", "aria-label": "What is this?", "aria-expanded": "false", tabIndex: -1 }, "?");
    button.title = "What is this? From within the setting: F1";
    button.addEventListener("pointerdown", () => (wasOpen = asked === button));
    button.addEventListener("click", (event) => {
      if (event.detail > 0 ? wasOpen : asked === button) bubble.hidePopover();
      else show(button, explained[text]);
      wasOpen = false;
    });
    block.classList.add("has-help");
    block.append(button);
    describe(block, button, explained[text].text);
  }
}

/**
 * The sentence is spoken with its field and with the "?". That has no name with the label in it, because whoever looks
 * for a field by its label would find two.
 */
function describe(block, button, text) {
  const spoken = make("span", { id: `help-${Math.random().toString(36).slice(2)}`, hidden: true }, text);
  block.append(spoken);
  for (const field of [button, ...block.querySelectorAll(CONTROLS)]) field.setAttribute("aria-describedby", spoken.id);
}

function show(button, { text, more }) {
  if (bubble.matches(":popover-open")) bubble.hidePopover();
  leave(); // the news that it was closed comes late, and not at all when it opens again at once
  words.textContent = text;
  link.href = more;
  button.after(bubble); // the link is the next stop of the Tab key
  bubble.showPopover();
  asked = button;
  place();
  button.setAttribute("aria-expanded", "true");
}

function leave() {
  asked?.setAttribute("aria-expanded", "false");
  asked = from = null;
}

/** Below its button, or above where there is no room; also while the page is scrolled. */
function place() {
  const { left, right, bottom, top } = asked.getBoundingClientRect();
  const { width, height } = bubble.getBoundingClientRect();
  bubble.style.left = `${Math.max(8, Math.min(right - width, innerWidth - width - 8, left))}px`;
  bubble.style.top = `${bottom + 6 + height > innerHeight ? Math.max(8, top - height - 6) : bottom + 6}px`;
  if (bottom < 0 || top > innerHeight) bubble.hidePopover();
}

bubble.addEventListener("toggle", ({ newState }) => {
  if (newState === "open") return;
  if (bubble.contains(document.activeElement)) (from ?? asked)?.focus();
  leave();
});
addEventListener("keydown", (event) => {
  const button = event.key === "F1" && event.target.closest?.(".has-help")?.querySelector(":scope > .help");
  if (!button) return;
  event.preventDefault();
  const label = button.parentElement.querySelector(LABELS);
  show(button, explained[label.textContent.trim()]);
  from = event.target;
});
// Escape closes it, and stops no picture. The window hears of a key before everything else.
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !bubble.matches(":popover-open")) return;
  event.stopPropagation();
  event.preventDefault();
  const back = from ?? asked;
  bubble.hidePopover();
  back?.focus();
}, { capture: true });
addEventListener("scroll", () => asked && place(), { capture: true });

/** Gradio makes fields anew when they are shown, and tabs when they are first opened. */
let isComing = false;
new MutationObserver(() => {
  if (isComing) return;
  isComing = true;
  requestAnimationFrame(() => {
    isComing = false;
    decorate();
    offerHelp();
  });
}).observe(document.body, { childList: true, subtree: true });

/** The link to the help, beside the tabs. */
function offerHelp() {
  const tabs = document.querySelector(`.tabs-of-studio > ${TAB_ROW}`);
  if (tabs && !tabs.querySelector(".help-link")) tabs.append(make("a", { class: "help-link", href: "help", target: "_blank" }, "Help"));
}

decorate();
offerHelp();
