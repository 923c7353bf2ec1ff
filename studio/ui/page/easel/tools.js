// The easel's tools: a rail of buttons, and what can be set of the brush.

import { icon } from "../common/icons.js";
import { make, setText } from "../common/words.js";

/** Sizes are shares of the picture's longer side, so that a brush feels the same on every picture. */
const SMALLEST = 0.001;
const LARGEST = 0.6;

const COLOURS = ["#1f1f1f", "#ffffff", "#c8402f", "#e8a33d", "#4f9a4a", "#2f6fb7", "#7d4aa5", "#8a5a3b"];

const FIRST = {
  paint: { tool: "brush", size: 0.03, amount: 1, soft: 0, colour: "#c8402f", colours: COLOURS },
  mask: { tool: "brush", size: 0.1, amount: 1, soft: 0, colour: "#ffffff", colours: [] },
};

/**
 * The rail and the options. `brush` is what was set before, or null. `act(name)` is called for the other buttons, and
 * `changed()` after the brush was changed.
 */
export function makeTools(mode, brush, act, changed) {
  const state = { ...FIRST[mode], ...brush };
  if (state.tool === "pick") state.tool = "brush";
  let longer = 512;

  const rail = make("div", { class: "easel-rail", role: "group", "aria-label": "Tools" });
  const buttons = new Map();
  const group = (...items) => rail.append(make("div", { class: "easel-group" }, ...items));
  const tool = (name, text, hint) => {
    const button = railButton(name, text, hint);
    button.addEventListener("click", () => choose(name));
    buttons.set(name, button);
    return button;
  };
  const action = (name, text, hint, drawing = name) => {
    const button = railButton(drawing, text, hint);
    button.addEventListener("click", () => act(name, button));
    buttons.set(name, button);
    return button;
  };

  group(action("picture", "Picture", "Bring in another picture"));
  group(
    tool("brush", "Brush", mode === "mask" ? "Paint what shall change (B)" : "Paint (B)"),
    tool("eraser", "Eraser", "Take paint away (E)"),
    tool("lasso", "Lasso", "Fill what you draw a line around (L)"),
    ...(mode === "paint" ? [tool("pick", "Pick", "Take a colour from the picture (I, or Alt and click)")] : []),
  );
  group(action("undo", "Undo", "Undo (Ctrl Z)"), action("redo", "Redo", "Redo (Ctrl Y)"));
  if (mode === "mask") {
    group(
      action("invert", "Invert", "Swap what changes and what stays (X)"),
      action("fill", "Fill all", "Let everything change"),
      action("clear", "Clear", "Take all of the mask away"),
    );
    group(
      action("maskfile", "Mask", "Upload or download the mask", "mask"),
      action("extend", "Extend", "Make the picture larger and paint what lies beyond"),
    );
  } else {
    group(action("clear", "Clear", "Take all paint away"));
  }

  const options = make("div", { class: "easel-options", role: "group", "aria-label": "Brush" });
  const swatches = mode === "paint" ? makeSwatches(state, (colour) => set({ colour })) : null;
  const size = slider("Size", 0, 100, (at) => set({ size: SMALLEST * (LARGEST / SMALLEST) ** (at / 100) }));
  const amount = slider(mode === "mask" ? "How much" : "Opacity", 10, 100, (at) => set({ amount: at / 100 }));
  const soft = slider("Softness", 0, 100, (at) => set({ soft: at / 100 }));
  amount.element.title =
    mode === "mask" ? "How much may change under the brush: 100 % wholly, less only a little" : "How much the paint covers";
  size.element.title = "The brush's width in pixels of the picture ([ and ])";
  soft.element.title = "How softly the brush ends";
  if (swatches) options.append(swatches.element);
  options.append(size.element, amount.element, soft.element);

  const pixels = () => Math.max(1, Math.round(state.size * longer));

  function choose(name) {
    set({ tool: name });
  }

  function set(values) {
    Object.assign(state, values);
    state.size = Math.min(Math.max(state.size, SMALLEST), LARGEST);
    show();
    changed();
  }

  function show() {
    for (const name of ["brush", "eraser", "lasso", "pick"]) {
      buttons.get(name)?.setAttribute("aria-pressed", String(state.tool === name));
    }
    size.show((Math.log(state.size / SMALLEST) / Math.log(LARGEST / SMALLEST)) * 100, `${pixels()} px`);
    amount.show(state.amount * 100, `${Math.round(state.amount * 100)} %`);
    soft.show(state.soft * 100, `${Math.round(state.soft * 100)} %`);
    const isLine = state.tool === "brush" || state.tool === "eraser";
    size.disable(!isLine);
    soft.disable(!isLine);
    amount.disable(state.tool === "eraser" || state.tool === "pick");
    swatches?.show();
  }

  show();
  return {
    rail,
    options,
    state,
    pixels,
    choose,
    set,
    /** The button of an action or a tool. */
    button: (name) => buttons.get(name),
    /** Say how large the picture is, so that sizes can be told in its pixels. */
    setLonger(side) {
      longer = side;
      show();
    },
    /** A colour that was painted with comes first among the swatches. */
    used: () => swatches?.used(),
    resize: (factor) => set({ size: Math.max(state.size * factor, factor > 1 ? (pixels() + 1) / longer : 0) }),
    enable(names) {
      for (const [name, isEnabled] of Object.entries(names)) {
        const button = buttons.get(name);
        if (button) button.disabled = !isEnabled;
      }
    },
  };
}

function railButton(drawing, text, hint) {
  const button = make("button", { type: "button", class: "tool", title: hint, "aria-label": text });
  button.append(icon(drawing), make("span", { "aria-hidden": "true" }, text));
  return button;
}

function slider(name, min, max, moved) {
  const input = make("input", { type: "range", min, max, step: "any", "aria-label": name });
  const value = make("output", {});
  const element = make("label", { class: "easel-slider" }, make("span", {}, name), value, input);
  input.addEventListener("input", () => moved(Number(input.value)));
  return {
    element,
    show(at, text) {
      if (Math.abs(Number(input.value) - at) > 0.01) input.value = at;
      input.style.setProperty("--at", `${((at - min) / (max - min)) * 100}%`);
      input.setAttribute("aria-valuetext", text);
      setText(value, text);
    },
    disable(isDisabled) {
      input.disabled = isDisabled;
      element.classList.toggle("off", isDisabled);
    },
  };
}

/** A colour field, and the colours used last beside it. */
function makeSwatches(state, choose) {
  const input = make("input", { type: "color", "aria-label": "Colour", title: "Any colour" });
  const row = make("div", { class: "easel-swatches", role: "group", "aria-label": "Colours" });
  const element = make("div", { class: "easel-colours" }, input, row);
  let shown = "";
  input.addEventListener("input", () => choose(input.value));

  function show() {
    input.value = state.colour;
    if (shown !== String(state.colours)) row.replaceChildren(...state.colours.map(swatch));
    shown = String(state.colours);
    for (const button of row.children) button.setAttribute("aria-pressed", String(button.title === state.colour));
  }

  function swatch(colour) {
    const button = make("button", { type: "button", class: "swatch", title: colour, "aria-label": `Colour ${colour}` });
    button.style.background = colour;
    button.addEventListener("click", () => choose(colour));
    return button;
  }

  function used() {
    if (state.colours.includes(state.colour)) return;
    state.colours = [state.colour, ...state.colours].slice(0, COLOURS.length);
    show();
  }

  return { element, show, used };
}
