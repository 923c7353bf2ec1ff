// One cell of the grid: the picture in the making, how it stands, and what one can do with it.

import { icon } from "../common/icons.js";
import { isMoving } from "../live/live.js";
import { makePicture, ratioOf } from "../stage/emerging.js";
import { makeStars, ratingWords } from "../stage/stars.js";
import { make, setText } from "../common/words.js";

/** What one can do → its drawing and its name; the name of the cell follows it for those who cannot see. */
const ACTS = {
  large: ["larger", "Show large"],
  mark: ["compare", "Compare"],
  hold: ["hold", "Hold"],
  only: ["only", "Only this one"],
  drop: ["drop", "Discard"],
};

const KEYS = { large: "Space", mark: "M", hold: "H", only: "O", drop: "X" };

/** `act(verb, id)` is called with a key of ACTS; `say(sentence)` with what went wrong. */
export function makeCell(job, act, say) {
  const look = make("span", { class: "look" });
  const badge = make("span", { class: "cell-mark", "aria-hidden": "true" });
  const words = make("span", { class: "cell-words", "aria-hidden": "true" });
  const buttons = Object.fromEntries(Object.keys(ACTS).map((verb) => [verb, button(verb)]));
  const own = make("div", { class: "cell-acts" }, ...Object.values(buttons));
  const stars = makeStars(say);
  const foot = make("div", { class: "cell-foot" }, stars.element, words);
  for (const star of stars.element.children) star.tabIndex = -1;
  const frame = make("div", { class: "frame" });
  const caption = make("div", { class: "cell-caption" });
  const element = make("div", { class: "cell tile", role: "gridcell", tabIndex: -1, "data-job": job.id }, caption, frame);
  const picture = makePicture(element, job, 256);
  look.append(...picture.layers);
  frame.append(look, picture.veil, picture.bar, foot, badge, own);
  frame.style.setProperty("--own", ratioOf(job.recipe));
  let name = "";
  let mark = "";
  let drawn = "";
  let current = job;

  function button(verb) {
    const [drawing, title] = ACTS[verb];
    const made = make("button", { type: "button", class: "act", tabIndex: -1, "data-act": verb }, icon(drawing));
    made.title = `${title} (${KEYS[verb]})`;
    made.addEventListener("click", (event) => {
      event.stopPropagation();
      // The keys go on from here, also if the button goes away.
      element.focus({ preventScroll: true });
      act(verb, job.id);
    });
    return made;
  }

  function nameButtons() {
    const verbs = { hold: current.state === "paused" ? "Continue" : "Hold", only: "Only" };
    for (const [verb, made] of Object.entries(buttons)) {
      const title = verbs[verb] ?? ACTS[verb][1];
      made.setAttribute("aria-label", `${title} ${name}`);
    }
    const goes = current.state === "paused";
    buttons.hold.replaceChildren(icon(goes ? "continue" : "hold"));
    buttons.hold.title = `${goes ? "Continue" : "Hold"} (H)`;
    buttons.hold.hidden = !goes && !isMoving(current);
    buttons.large.hidden = current.state === "failed";
    stars.show(current.picture ?? "");
    buttons.mark.setAttribute("aria-pressed", String(mark !== ""));
  }

  function update(now) {
    current = now;
    picture.update(now);
    const stopped = now.state === "paused" && !now.reason ? `Stopped at step ${now.done}` : "";
    if (words.textContent !== stopped) words.replaceChildren(...(stopped ? stoppedAt(now.done) : []));
    const key = `${now.state} ${now.picture} ${mark} ${name}`;
    if (key !== drawn) nameButtons();
    drawn = key;
    const state = element.hasAttribute("data-dropped") ? "discarded" : spokenState(now);
    const label = [name, state, now.picture && ratingWords(now.picture), mark && `marked ${mark}`].filter(Boolean).join(", ");
    if (element.getAttribute("aria-label") !== label) element.setAttribute("aria-label", label);
  }

  return {
    element,
    caption,
    /** What can be done with it, and its stars. */
    parts: [own, stars.element],
    update,
    setName(next) {
      name = next;
      update(current);
    },
    setMark(next) {
      mark = next;
      setText(badge, mark);
      element.dataset.mark = mark;
      element.setAttribute("aria-selected", String(mark !== ""));
      update(current);
    },
    /** A dropped cell keeps its place, empty. */
    setDropped(isDropped) {
      if (element.hasAttribute("data-dropped") === isDropped) return;
      element.toggleAttribute("data-dropped", isDropped);
      frame.inert = isDropped;
      update(current);
    },
  };
}

/** A place of the grid at which there is no picture, or none yet. */
export const emptyCell = () => make("div", { class: "cell", role: "gridcell" }, make("div", { class: "cell-caption" }), make("div", { class: "frame" }));

/** The middle one of the words is left out where there is no room. */
const stoppedAt = (step) => ["Stopped at ", make("span", { class: "cell-step" }, "step "), String(step)];

function spokenState(job) {
  switch (job.state) {
    case "queued":
      return "waiting";
    case "loading":
      return "loading";
    case "step":
      return `step ${job.done} of ${job.total}`;
    case "paused":
      return job.reason || `stopped at step ${job.done} of ${job.total}`;
    case "failed":
      return job.reason;
    default:
      return job.state;
  }
}
