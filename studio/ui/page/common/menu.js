// Small panels that open beside their button: menus of actions, and forms of a few fields.

import { icon } from "./icons.js";
import { make } from "./words.js";

let count = 0;

/** Whether a panel is open, for keys that would otherwise mean something else. */
export const isMenuOpen = () => document.querySelector(".panel:popover-open") !== null;

/**
 * Let `button` open a panel of what `fill()` returns; it is filled anew each time.
 * `fill` gets a function that closes the panel. `role` is "menu" for nothing but a list of actions.
 */
export function opens(button, fill, { role = "menu", label = "" } = {}) {
  const panel = make("div", { class: "panel", popover: "auto", role, id: `panel-${++count}` });
  if (label) panel.setAttribute("aria-label", label);
  const close = () => panel.isConnected && panel.hidePopover();
  button.setAttribute("aria-haspopup", role);
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-controls", panel.id);

  // The press that closes the panel, because it is outside of it, shall not open it again.
  let wasOpen = false;
  button.addEventListener("pointerdown", () => {
    wasOpen = panel.isConnected && panel.matches(":popover-open");
  });
  button.addEventListener("click", () => {
    if (wasOpen) {
      wasOpen = false;
      return;
    }
    panel.replaceChildren(...fill(close));
    // Within a dialog, what lies outside of it cannot be pressed.
    button.closest("dialog, main").append(panel);
    panel.showPopover();
    button.setAttribute("aria-expanded", "true");
    place(panel, button);
    const first = panel.querySelector("input, button");
    if (!first) panel.tabIndex = 0; // nothing but words, which can be scrolled
    (first ?? panel).focus();
  });
  panel.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    button.setAttribute("aria-expanded", "false");
    const focused = panel.contains(document.activeElement) || document.activeElement === document.body;
    panel.remove();
    if (focused) button.focus({ preventScroll: true });
  });
  panel.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by || !event.target.closest("[role=menuitem]")) return;
    event.preventDefault();
    const items = [...panel.querySelectorAll("[role=menuitem]")];
    items.at((items.indexOf(document.activeElement) + by) % items.length)?.focus();
  });
}

/** A line of a menu: a drawing, words, and what it does. */
export function item(drawing, text, act, close, hint = "") {
  const element = make("button", { type: "button", class: "item", role: "menuitem" }, icon(drawing), make("span", {}, text));
  if (hint) element.append(make("small", {}, hint));
  element.addEventListener("click", () => {
    close();
    act();
  });
  return element;
}

/** Lines of a menu in a panel that has other things too, and so has another role. */
export const items = (...lines) => make("div", { role: "menu", class: "panel-items" }, ...lines);

/** A quiet line above some items. */
export const heading = (text) => make("p", { class: "panel-heading" }, text);

/** Beside a rail; else below the button if there is room, else above it; and always within the window. */
function place(panel, button) {
  const gap = 6;
  const at = button.getBoundingClientRect();
  const { width, height } = panel.getBoundingClientRect();
  const rail = button.closest(".easel-rail")?.getBoundingClientRect();
  if (rail && rail.height > rail.width) {
    panel.style.left = `${at.right + gap}px`;
    panel.style.top = `${Math.max(gap, Math.min(at.top, innerHeight - height - gap))}px`;
    return;
  }
  const below = at.bottom + gap + height <= innerHeight || at.top < height + gap;
  const top = below ? at.bottom + gap : at.top - gap - height;
  panel.style.left = `${Math.max(gap, Math.min(at.left, innerWidth - width - gap))}px`;
  panel.style.top = `${Math.max(gap, Math.min(top, innerHeight - height - gap))}px`;
}
