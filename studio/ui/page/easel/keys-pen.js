// Painting by keyboard: a point that the arrow keys move over the picture, and that draws from one press of Space to the next.

import { speak } from "../common/spoken.js";
import { make } from "../common/words.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Parts of the picture's longer side by which an arrow moves the point, alone and with Shift. */
const STEP = 1 / 64;
const LEAP = 1 / 8;

const HELP =
  "Arrow keys move the brush, with Shift further. Space or Enter begins to paint, and again ends it; Escape takes it back. " +
  "B is the brush, E the eraser, L the lasso, which fills a rectangle from where it begins to where it ends. " +
  "Square brackets set the brush's size. Control Z undoes.";

/**
 * Let `paper` take the focus and be painted on. `hand` is as in pen.js, and has besides: size() of the picture, {width, height};
 * tool(), its name; show(x, y), which shows the brush at a place of the window, and nothing with none.
 * Returns draw(), to be called when the view has moved, and ready(has), when there is a picture or none.
 */
export function listenToKeys(paper, frame, view, hand) {
  const help = make("p", { class: "only-spoken", id: `${frame.id}-help` }, HELP);
  const cross = make("div", { class: "easel-cross", hidden: true });
  frame.append(help, cross);
  paper.setAttribute("role", "application");
  paper.setAttribute("aria-label", "Picture to paint on");
  paper.setAttribute("aria-describedby", help.id);
  let at = null; // the point, in pixels of the picture
  let from = null; // where what is being drawn began
  let isShown = false;
  let isByPointer = false;

  const isDrawing = () => from !== null;
  const isArea = () => hand.tool() === "lasso";
  const placeOf = ([x, y]) => `${Math.round(x)} from the left, ${Math.round(y)} from the top`;

  function draw() {
    const isOn = paper.hasAttribute("data-keys") && at !== null;
    cross.hidden = !isOn;
    if (!isOn && isShown) hand.show();
    isShown = isOn;
    if (!isOn) return;
    const [x, y] = view.toFrame(...at);
    cross.style.transform = `translate(${x}px, ${y}px)`;
    const { left, top } = frame.getBoundingClientRect();
    hand.show(left + x, top + y);
  }

  function move([byX, byY], share) {
    const { width, height } = hand.size();
    const by = Math.max(1, Math.round(Math.max(width, height) * share));
    const within = (value, most) => Math.min(Math.max(value, 0), most);
    at = [within(at[0] + byX * by, width), within(at[1] + byY * by, height)];
    view.reveal(...at);
    if (!isDrawing()) return speak(placeOf(at));
    lead();
    speak(isArea() ? `Rectangle ${sizeOf(from, at)}` : placeOf(at));
  }

  /** Lead on what is being drawn to the point; a rectangle is drawn anew. */
  function lead() {
    if (!isArea()) return hand.extend([[...at, 1]]);
    hand.cancel();
    hand.begin([...from, 1], {});
    hand.extend([[at[0], from[1], 1], [...at, 1], [from[0], at[1], 1]]);
  }

  function press() {
    if (hand.tool() === "pick") {
      hand.pick(at);
      speak("Colour taken");
    } else if (!isDrawing()) {
      from = at;
      hand.begin([...at, 1], {});
      speak(`${isArea() ? "Rectangle" : NAMES[hand.tool()]} begins at ${placeOf(at)}`);
    } else {
      hand.end();
      const done = isArea() ? `Rectangle of ${sizeOf(from, at)} filled, from ${placeOf(corner(from, at))}` : `${NAMES[hand.tool()]} ends at ${placeOf(at)}`;
      from = null;
      speak(done);
    }
    paper.toggleAttribute("data-drawing", isDrawing());
  }

  function drop() {
    if (!isDrawing()) return;
    hand.cancel();
    from = null;
    paper.removeAttribute("data-drawing");
  }

  function onKey(event) {
    if (!hand.ready() || event.ctrlKey || event.metaKey || event.altKey) return;
    const isArrow = event.key in ARROWS;
    // After a click, Space still moves the picture, until an arrow says that the keys are meant.
    if (isArrow) begin();
    if (!paper.hasAttribute("data-keys")) return;
    if (isArrow) move(ARROWS[event.key], event.shiftKey ? LEAP : STEP);
    else if (event.key === " " || event.key === "Enter") event.repeat || press();
    else if (event.key === "Escape" && isDrawing()) {
      drop();
      speak("Taken back");
    } else return isDrawing() && TOOLS.includes(event.key.toLowerCase()) && event.stopPropagation(); // one stroke, one tool
    event.preventDefault();
    event.stopPropagation();
    draw();
  }

  function begin() {
    const { width, height } = hand.size();
    if (!at || at[0] > width || at[1] > height) at = [Math.round(width / 2), Math.round(height / 2)];
    paper.setAttribute("data-keys", "");
    draw();
  }

  paper.addEventListener("keydown", onKey);
  function leave() {
    drop();
    paper.removeAttribute("data-keys");
    draw();
  }

  paper.addEventListener("focus", () => !isByPointer && hand.ready() && begin());
  paper.addEventListener("blur", () => {
    isByPointer = false;
    leave();
  });
  paper.addEventListener("pointerdown", () => {
    isByPointer = true;
    leave();
  }, { capture: true });
  // Who moves the mouse over the picture paints with it, and Space moves the picture.
  paper.addEventListener("pointermove", (event) => (event.movementX || event.movementY) && !isDrawing() && leave());

  return {
    draw,
    ready(has) {
      paper.tabIndex = has ? 0 : -1;
      if (!has) paper.removeAttribute("data-keys");
    },
  };
}

const NAMES = { brush: "Brush", eraser: "Eraser" };

const TOOLS = ["b", "e", "l", "i", "x"];

const sizeOf = ([x, y], [u, v]) => `${Math.round(Math.abs(u - x))} wide and ${Math.round(Math.abs(v - y))} high`;

const corner = ([x, y], [u, v]) => [Math.min(x, u), Math.min(y, v)];
