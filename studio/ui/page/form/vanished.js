// A button that goes when it is pressed (Continue, Stop, Discard, Undo) would take the focus with it, to the top of the page. It stays
// where the button was instead: at what stood around it, so that Tab leads on from there and a second press starts nothing else.

const isThere = (element) => element.isConnected && element.checkVisibility({ visibilityProperty: true });

/** Something around it that can be pointed at: what has no box of its own, or an empty one, cannot. */
const hasRoom = (element) => isThere(element) && element.getBoundingClientRect().height > 0;

const around = (element) => (element.parentElement ? [element.parentElement, ...around(element.parentElement)] : []);

let watched = null; // the button that was pressed by a key, and what stood around it then
let isComing = false;

function look() {
  isComing = false;
  if (!watched) return;
  const { button, places } = watched;
  if (isThere(button) && !button.disabled) return;
  forget();
  if (document.activeElement !== document.body && document.activeElement !== button) return;
  const place = places.find(hasRoom);
  if (!place || place === document.body) return;
  if (place.tabIndex < 0) place.tabIndex = -1;
  place.focus({ preventScroll: true });
}

/** Once the page is drawn: only then it is known what can be seen. */
const observer = new MutationObserver(() => {
  if (!isComing) requestAnimationFrame(look);
  isComing = true;
});

function forget() {
  observer.disconnect();
  watched = null;
}

// A click that no pointer made.
addEventListener(
  "click",
  (event) => {
    const button = event.target.closest?.("button");
    if (event.detail > 0 || !button || button !== document.activeElement) return;
    forget();
    watched = { button, places: around(button) };
    observer.observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["hidden", "disabled", "class"] });
  },
  { capture: true },
);
addEventListener("focusin", (event) => watched && event.target !== watched.button && forget());
