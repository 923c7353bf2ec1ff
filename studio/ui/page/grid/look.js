// The same part of every picture, equally large: zoomed with the wheel, two fingers or a slider, moved by dragging.

import { make } from "../common/words.js";

const MOST = 12;

/**
 * Zoom and place for all `.look` elements within `table`, through custom properties that they inherit.
 * The pictures' frames are `.frame`. `bar` is the slider to put on the page.
 */
export function makeLook(table) {
  const slider = make("input", { type: "range", min: 0, max: 100, value: 0, "aria-label": "Zoom of all pictures" });
  const percent = make("output", { class: "grid-percent", "aria-hidden": "true" });
  const bar = make("label", { class: "grid-zoom", title: "Zoom all pictures together. Ctrl and the wheel or two fingers do it too; Z shows them whole." });
  bar.append(make("span", {}, "Zoom"), slider, percent);
  let [zoom, x, y] = [1, 0, 0];
  let drag = null;
  let pinch = null;

  function apply() {
    const within = (value) => Math.min(Math.max(value, 1 - zoom), 0);
    [x, y] = [within(x), within(y)];
    table.style.setProperty("--look-zoom", zoom);
    table.style.setProperty("--look-x", `${x * 100}%`);
    table.style.setProperty("--look-y", `${y * 100}%`);
    table.toggleAttribute("data-zoomed", zoom > 1);
    slider.value = (Math.log(zoom) / Math.log(MOST)) * 100;
    slider.style.setProperty("--at", `${slider.value}%`);
    percent.textContent = `${Math.round(zoom * 100)} %`;
    slider.setAttribute("aria-valuetext", percent.textContent);
  }

  /** Zoom so that what is at (atX, atY) of each frame, 0 to 1, stays there. */
  function zoomTo(next, atX = 0.5, atY = 0.5) {
    next = Math.min(Math.max(next, 1), MOST);
    x = atX - ((atX - x) * next) / zoom;
    y = atY - ((atY - y) * next) / zoom;
    zoom = next;
    apply();
  }

  function fit() {
    [zoom, x, y] = [1, 0, 0];
    apply();
  }

  slider.addEventListener("input", () => zoomTo(MOST ** (slider.value / 100)));
  table.addEventListener("wheel", (event) => {
    const frame = event.target.closest?.(".frame");
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    if (!frame) return;
    const { left, top, width, height } = frame.getBoundingClientRect();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    zoomTo(zoom * Math.exp(-event.deltaY * lines * 0.003), (event.clientX - left) / width, (event.clientY - top) / height);
  }, { passive: false });

  table.addEventListener("pointerdown", (event) => {
    const frame = event.target.closest?.(".frame");
    if (!frame || zoom === 1 || event.button !== 0 || event.target.closest("button")) return;
    const { width, height } = frame.getBoundingClientRect();
    drag = { pointer: event.pointerId, x: event.clientX, y: event.clientY, width, height };
    frame.setPointerCapture(event.pointerId);
  });
  table.addEventListener("pointermove", (event) => {
    if (drag?.pointer !== event.pointerId || pinch) return;
    x += (event.clientX - drag.x) / drag.width;
    y += (event.clientY - drag.y) / drag.height;
    Object.assign(drag, { x: event.clientX, y: event.clientY });
    table.toggleAttribute("data-panning", true);
    apply();
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    table.addEventListener(kind, (event) => {
      if (drag?.pointer !== event.pointerId) return;
      drag = null;
      table.removeAttribute("data-panning");
    });
  }

  /** Two fingers: where their middle is in the frame, 0 to 1, and how far apart they are in pixels. */
  function fingers({ touches: [one, two] }, { left, top, width, height }) {
    return {
      x: ((one.clientX + two.clientX) / 2 - left) / width,
      y: ((one.clientY + two.clientY) / 2 - top) / height,
      far: Math.max(Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY), 1),
    };
  }

  // The frame is the one in which the first finger stands; the second may be in another.
  table.addEventListener("touchstart", (event) => {
    const frame = event.touches[0].target.closest?.(".frame");
    if (event.touches.length !== 2 || !frame || !table.contains(frame)) return;
    event.preventDefault();
    const box = frame.getBoundingClientRect();
    pinch = { box, ...fingers(event, box) };
    drag = null;
  }, { passive: false });
  table.addEventListener("touchmove", (event) => {
    if (!pinch || event.touches.length !== 2) return;
    if (event.cancelable) event.preventDefault();
    const now = fingers(event, pinch.box);
    x += now.x - pinch.x;
    y += now.y - pinch.y;
    zoomTo((zoom * now.far) / pinch.far, now.x, now.y);
    Object.assign(pinch, now);
  }, { passive: false });
  for (const kind of ["touchend", "touchcancel"]) {
    table.addEventListener(kind, (event) => {
      if (event.touches.length < 2) pinch = null;
    });
  }

  apply();
  return { bar, fit, zoomBy: (factor) => zoomTo(zoom * factor), isZoomed: () => zoom > 1 };
}
