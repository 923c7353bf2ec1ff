// Mouse, pen and fingers over the picture: what they do becomes strokes, or moves the picture.

/**
 * Listen on `paper`. `hand` does what is asked for:
 * ready() whether there is something to paint on; begin(point, {straight, erase}), extend(points), end(), cancel() a stroke;
 * pick(point) a colour, or null if there is nothing to pick; hover(event or null) where the pointer is.
 * Points are [x, y, pressure], in pixels of the picture, pressure from 0 to 1.
 */
export function listenToPen(paper, view, hand) {
  const fingers = new Map();
  let drawing = null; // id of the pointer that draws
  let panning = null; // {id, x, y} of the pointer that moves the picture
  let isSpaceDown = false;
  let hasPen = false;

  const point = (event) => [...view.toPicture(event.clientX, event.clientY), pressure(event)];

  function down(event) {
    if (!hand.ready()) return;
    capture(paper, event.pointerId);
    hasPen ||= event.pointerType === "pen";
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (fingers.size > 1) return stopDrawing();
    }
    // Who has a pen rests the hand on the glass.
    const isHand = hasPen && event.pointerType === "touch";
    if (event.button === 1 || isSpaceDown || isHand) {
      event.preventDefault();
      panning = { id: event.pointerId, x: event.clientX, y: event.clientY };
      paper.classList.add("panning");
    } else if (event.button === 0 || event.button === 5) {
      start(event);
    }
  }

  function start(event) {
    if (drawing !== null) return;
    if ((event.altKey || hand.picks()) && hand.pick) return hand.pick(point(event));
    drawing = event.pointerId;
    hand.begin(point(event), { straight: event.shiftKey, erase: event.button === 5 });
  }

  function move(event) {
    hand.hover(event.pointerType === "touch" ? null : event);
    if (fingers.has(event.pointerId)) {
      const before = [...fingers.values()];
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (fingers.size > 1) return pinch(before, [...fingers.values()]);
    }
    if (panning?.id === event.pointerId) {
      view.pan(event.clientX - panning.x, event.clientY - panning.y);
      Object.assign(panning, { x: event.clientX, y: event.clientY });
    }
    if (drawing !== event.pointerId) return;
    const all = event.getCoalescedEvents?.() ?? [];
    hand.extend((all.length ? all : [event]).map(point));
  }

  function up(event) {
    fingers.delete(event.pointerId);
    if (panning?.id === event.pointerId) {
      panning = null;
      paper.classList.remove("panning");
    }
    if (drawing !== event.pointerId) return;
    drawing = null;
    hand.end();
  }

  /** A second finger means that the first did not want to paint. */
  function stopDrawing() {
    panning = null;
    if (drawing === null) return;
    drawing = null;
    hand.cancel();
  }

  function pinch([a, b], [c, d]) {
    const apart = ([x, y], [u, v]) => Math.hypot(x - u, y - v);
    const [fromX, fromY] = middle(a, b);
    const [toX, toY] = middle(c, d);
    view.pan(toX - fromX, toY - fromY);
    view.zoom(apart(c, d) / Math.max(apart(a, b), 1), toX, toY);
  }

  function wheel(event) {
    if (!hand.ready()) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    view.zoom(Math.exp(-Math.max(-240, Math.min(event.deltaY * lines, 240)) / 400), event.clientX, event.clientY);
    hand.hover(event);
  }

  paper.addEventListener("pointerdown", down);
  paper.addEventListener("pointermove", move);
  paper.addEventListener("pointerup", up);
  paper.addEventListener("pointercancel", up);
  paper.addEventListener("pointerleave", () => hand.hover(null));
  paper.addEventListener("wheel", wheel, { passive: false });
  paper.addEventListener("contextmenu", (event) => event.pointerType === "touch" && event.preventDefault());
  // The middle button scrolls by itself in some browsers.
  paper.addEventListener("mousedown", (event) => event.button === 1 && event.preventDefault());
  // Space moves the picture while the pointer is over it; elsewhere it presses the focused button, as always.
  addEventListener("keydown", (event) => {
    if (event.key !== " " || !paper.matches(":hover") || isTyping(event.target)) return;
    event.preventDefault();
    isSpaceDown = true;
    paper.classList.add("movable");
  });
  addEventListener("keyup", (event) => {
    if (event.key !== " " || !isSpaceDown) return;
    event.preventDefault();
    letGo();
  });
  addEventListener("blur", letGo);

  function letGo() {
    isSpaceDown = false;
    paper.classList.remove("movable");
  }
}

/** Whether keys go into a text there. */
export function isTyping(target) {
  if (target.isContentEditable || target.matches?.("textarea, select")) return true;
  return target.matches?.("input") && !["range", "color", "checkbox", "radio", "button"].includes(target.type);
}

/** Only a pen tells how hard it is pressed. */
const pressure = (event) => (event.pointerType === "pen" ? Math.max(event.pressure, 0.05) : 1);

const middle = ([x, y], [u, v]) => [(x + u) / 2, (y + v) / 2];

function capture(element, id) {
  try {
    element.setPointerCapture(id);
  } catch {
    // A pointer that is gone already, or was never there.
  }
}
