// The easel: a picture, and over it what a person paints. In the mode "paint" these are colours that the model works
// from, in the mode "mask" it is where, and how much, the picture may change.

import { makeWays } from "./bring.js";
import { makeHandOver } from "./handover.js";
import { icon } from "../common/icons.js";
import { extendFormOn, maskMenuOn } from "./masks.js";
import { listenToKeys } from "./keys-pen.js";
import { recall, remember } from "../common/memory.js";
import { isMenuOpen } from "../common/menu.js";
import { isTyping, listenToPen } from "./pen.js";
import { offer } from "../common/places.js";
import { post, sourceImage } from "../common/server.js";
import { speak } from "../common/spoken.js";
import { Strokes, alphaOf, newCanvas } from "./strokes.js";
import { makeTools } from "./tools.js";
import { View, makeGlass } from "../common/view.js";
import { make, namedSize, setText } from "../common/words.js";

/** Keys after which it is said what one paints with. */
const TOLD = ["b", "e", "i", "[", "]"];

/** What is said when it is done. */
const DONE = { undo: "Undone", redo: "Done again", invert: "Inverted", fill: "All of it can change", clear: "Cleared" };

/** Milliseconds for which the brush is shown after it was changed away from the picture. */
const SHOWN = 900;

/**
 * Fill `root` with the easel of a tab. `options`: place, mode ("paint" or "mask"), start (the id of its Generate button).
 * `events`: start({source, mask}); loaded({name, width, height, recipe}), the recipe only of pictures of the library, and
 * no name for a blank sheet; shows({width, height}); vary({picture, strength}), the picture one of the library.
 * `value`: get() and watch(listener) for what the server puts on the easel, {source, mask}.
 */
export async function mount(root, options, events, value) {
  const section = root.querySelector(".easel");
  const { place, mode } = options;
  const memory = (await recall(`easel of ${place}`)) ?? {};
  const settings = { matte: "#ffffff", sheet: null, ...memory.settings };
  const strokes = new Strokes(mode);
  const handOver = makeHandOver(mode, strokes, drawPicture);
  let picture = null; // {name, width, height, colour}; a blank sheet has a colour and no name
  let image = null; // its pixels, unless it is blank
  let asked = 0;
  let keysPen = null;
  let bringing = Promise.resolve();

  // ---- What there is to see ----

  const glass = makeGlass(() => view, (context) => picture && drawPicture(context));
  strokes.canvas.className = "easel-strokes";
  const sheet = make("div", { class: "easel-sheet" }, strokes.canvas);
  const paper = make("div", { class: "easel-paper" }, glass.canvas, sheet);
  const cursor = make("div", { class: "easel-cursor", hidden: true });
  const size = make("span", { class: "easel-size" });
  const frame = make("div", { class: "easel-view", id: `${place}-frame` }, paper, cursor, size);
  const alert = make("p", { class: "easel-sentence", role: "alert" });
  const note = make("p", { class: "easel-sentence", role: "note" });
  const tools = makeTools(mode, memory.brush, act, () => {
    save();
    showBrush();
  });
  const { zooms, showScale, showLarge } = makeZooms(() => view, () => enlarge(!section.classList.contains("large")));
  const view = new View(frame, sheet, () => {
    showScale(view.scale);
    glass.draw();
    showCursor();
    keysPen?.draw();
  });
  const take = { file: takeFile, picture: takeFromLibrary, blank: takeBlank, say };
  const ways = makeWays(section, mode, take, isShown, settings);
  frame.append(zooms, ways.invite, make("p", { class: "easel-drop", "aria-hidden": "true" }, "Drop it here"));
  section.append(tools.rail, frame, tools.options, make("div", { class: "easel-sentences" }, alert, note));
  ways.menuOn(tools.button("picture"));
  if (mode === "mask") {
    maskMenuOn(tools.button("maskfile"), section, strokes, takeMask, settings, save);
    extendFormOn(tools.button("extend"), () => picture, extend);
  }

  // ---- Painting ----

  let hovering = null;
  let lastPoint = null;
  let showing = 0;

  const hand = {
    ready: () => picture !== null,
    picks: () => tools.state.tool === "pick",
    pick: mode === "paint" ? pick : null,
    begin(point, { straight, erase }) {
      say("");
      const { tool, amount, soft, colour } = tools.state;
      strokes.begin({ tool: erase ? "eraser" : tool, size: tools.pixels(), amount, soft, colour });
      strokes.extend(straight && lastPoint && tool !== "lasso" ? [lastPoint, point] : [point]);
      lastPoint = point;
    },
    extend(points) {
      if (!strokes.isDrawing) return;
      strokes.extend(points);
      lastPoint = points.at(-1);
    },
    end() {
      if (!strokes.isDrawing) return;
      strokes.end();
      tools.used();
      changed();
    },
    cancel: () => strokes.cancel(),
    hover(event) {
      hovering = event && [event.clientX, event.clientY];
      showCursor();
    },
  };
  listenToPen(paper, view, hand);
  keysPen = listenToKeys(paper, frame, view, {
    ...hand,
    size: () => picture,
    tool: () => tools.state.tool,
    show(...at) {
      hovering = at.length ? at : null;
      showCursor();
    },
  });

  function showCursor(at = hovering) {
    const { tool } = tools.state;
    const isRound = tool === "brush" || tool === "eraser";
    paper.classList.toggle("round", picture !== null && isRound);
    cursor.hidden = !at || !picture || !isRound;
    if (cursor.hidden) return;
    const { left, top } = frame.getBoundingClientRect();
    const side = tools.pixels() * view.scale;
    cursor.style.width = cursor.style.height = `${side}px`;
    cursor.style.transform = `translate(${at[0] - left - side / 2}px, ${at[1] - top - side / 2}px)`;
  }

  /** Show a brush that is being set in the middle of the picture for a moment. */
  function showBrush() {
    const { left, top, width, height } = frame.getBoundingClientRect();
    showCursor(hovering ?? [left + width / 2, top + height / 2]);
    clearTimeout(showing);
    showing = setTimeout(showCursor, SHOWN);
  }

  /** Take the colour of a pixel as it is seen, picture and paint together. */
  function pick([x, y]) {
    const dot = newCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    drawPicture(dot, -Math.floor(x), -Math.floor(y));
    dot.drawImage(strokes.canvas, -Math.floor(x), -Math.floor(y));
    const [red, green, blue] = dot.getImageData(0, 0, 1, 1).data;
    const hex = [red, green, blue].map((each) => each.toString(16).padStart(2, "0")).join("");
    tools.set({ colour: `#${hex}`, tool: tools.state.tool === "pick" ? "brush" : tools.state.tool });
  }

  function drawPicture(context, x = 0, y = 0) {
    const { width, height, colour } = picture;
    if (!colour) return context.drawImage(image, x, y, width, height);
    context.fillStyle = colour;
    context.fillRect(x, y, width, height);
  }

  function act(name) {
    if (!picture || strokes.isDrawing) return;
    if (name === "undo") strokes.undo();
    else if (name === "redo") strokes.redo();
    else if (["invert", "fill", "clear"].includes(name)) strokes.add({ kind: name });
    else return;
    lastPoint = null;
    speak(DONE[name]);
    changed();
  }

  /** After every change of what is painted, and of the picture. */
  function changed() {
    section.dataset.strokes = strokes.entries.length;
    tellOfChange();
    const has = picture !== null;
    const needing = ["brush", "eraser", "lasso", "pick", "invert", "fill", "maskfile", "extend"];
    tools.enable({
      ...Object.fromEntries(needing.map((name) => [name, has])),
      undo: strokes.entries.length > 0,
      redo: strokes.undone.length > 0,
      clear: has && !strokes.isEmpty,
    });
    save();
  }

  let told = "";

  function tellOfChange() {
    const now = `${picture?.name} ${picture?.width} ${picture?.height} ${strokes.key}`;
    if (told && now !== told) document.dispatchEvent(new CustomEvent("easel", { detail: { place } }));
    told = now;
  }

  // ---- Keys ----

  const keys = {
    b: () => tools.choose("brush"),
    e: () => tools.choose("eraser"),
    l: () => tools.choose("lasso"),
    i: () => mode === "paint" && tools.choose("pick"),
    x: () => mode === "mask" && act("invert"),
    f: () => enlarge(!section.classList.contains("large")),
    0: () => view.fit(),
    "+": () => view.zoomBy(1.4),
    "-": () => view.zoomBy(1 / 1.4),
    "[": () => tools.resize(1 / 1.15),
    "]": () => tools.resize(1.15),
  };

  document.addEventListener("keydown", (event) => {
    if (!isShown() || isTyping(event.target) || isMenuOpen() || document.querySelector("dialog[open]")) return;
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (event.altKey || !["z", "y"].includes(key)) return;
      event.preventDefault();
      act(key === "y" || event.shiftKey ? "redo" : "undo");
    } else if (event.key === "Escape" && section.classList.contains("large")) {
      enlarge(false);
    } else if (picture && !event.altKey && keys[key]) {
      event.preventDefault();
      keys[key]();
      if (TOLD.includes(key)) speak(`${tools.button(tools.state.tool).getAttribute("aria-label")}, ${tools.pixels()} pixels wide`);
    }
  });

  function isShown() {
    return section.getClientRects().length > 0;
  }

  function enlarge(isLarge) {
    section.classList.toggle("large", isLarge);
    showLarge(isLarge);
    view.fit();
  }

  // ---- Pictures ----

  /**
   * Put a picture on the easel. Throws an Error with a sentence if it cannot be shown; then all stays as it was. False if
   * another was asked for meanwhile. `keep`: what is painted stays if the size is the same; else `entries` replace it.
   */
  async function put(next, { keep = false, entries = [] } = {}) {
    const ticket = ++asked;
    const shown = next.colour ? null : await sourceImage(next.name);
    const masks = new Map();
    for (const { kind, name } of entries) {
      if (kind === "mask") masks.set(name, alphaOf(await sourceImage(name), next.width, next.height));
    }
    if (ticket !== asked) return false;
    const fits = picture?.width === next.width && picture.height === next.height;
    picture = next;
    for (const [name, canvas] of masks) strokes.masks.set(name, canvas);
    if (!(keep && fits)) {
      strokes.resize(next.width, next.height);
      strokes.load(entries);
    }
    lastPoint = null;
    showPicture(shown);
    changed();
    return true;
  }

  function showPicture(shown) {
    const { name, width, height, colour } = picture;
    image = shown;
    section.style.setProperty("--ratio", width / height);
    section.dataset.source = name;
    section.toggleAttribute("data-blank", colour !== "");
    setText(size, `${width} × ${height}`);
    const hasFocus = ways.invite.contains(document.activeElement);
    keysPen.ready(true);
    ways.invite.hidden = true;
    if (hasFocus) paper.focus({ preventScroll: true });
    zooms.hidden = false;
    tools.setLonger(Math.max(width, height));
    view.setSize(width, height);
    events.shows({ width, height });
  }

  /** Do something that brings a picture in, say so meanwhile, and say what went wrong. */
  function bring(words, get, how = {}) {
    bringing = (async () => {
      say("", words);
      section.toggleAttribute("data-busy", true);
      try {
        const { name, width, height, note: remark = "", colour = "", recipe = null, entries = [] } = await get();
        const before = { picture, entries: strokes.entries };
        if (!(await put({ name, width, height, colour }, { ...how, entries }))) return;
        say("", remark);
        offerBack(before);
        events.loaded({ name, width, height, recipe });
      } catch (error) {
        say(error.message);
      } finally {
        section.toggleAttribute("data-busy", false);
      }
    })();
    return bringing;
  }

  /** What was painted on the picture before is not lost by bringing in another. */
  function offerBack(before) {
    if (!before.picture || before.entries.length === 0 || before.entries === strokes.entries) return;
    const back = make("button", { type: "button", class: "act" }, icon("undo"), "Put the last one back");
    back.addEventListener("click", () => {
      bring("", async () => before.picture && { ...before.picture, entries: before.entries });
    });
    note.append(" ", back);
  }

  function takeFile(file) {
    const query = `background=${encodeURIComponent(settings.matte)}`;
    return bring("Bringing the picture in…", () => post(`sources?${query}`, file));
  }

  function takeFromLibrary({ id, recipe }, how) {
    const get = async () => ({ ...(await post(`sources?picture=${encodeURIComponent(id)}`)), recipe });
    return bring("Bringing the picture in…", get, how);
  }

  function takeBlank({ width, height, colour }) {
    return bring("", async () => ({ name: "", width, height, colour }));
  }

  /** What the server wants to see here: the start of a picture whose settings are used again. */
  async function takeValue(now) {
    if (!now?.source) return;
    const entries = now.mask ? [{ kind: "mask", name: now.mask }] : [];
    const before = { picture, entries: strokes.entries };
    try {
      await put({ name: now.source, ...namedSize(now.source), colour: "" }, { entries });
      say("");
      offerBack(before);
    } catch (error) {
      say(error.message);
    }
  }

  async function takeMask(file) {
    const { name: source, width, height } = picture;
    try {
      const { name } = await post(`sources/masks?source=${source}`, file);
      const canvas = alphaOf(await sourceImage(name), width, height);
      if (picture.name !== source) return;
      strokes.masks.set(name, canvas);
      strokes.add({ kind: "mask", name });
      say("");
      changed();
    } catch (error) {
      say(error.message);
    }
  }

  function askHowFar() {
    if (picture) tools.button("extend").click();
    else say("There is no picture to extend. Bring one in first.");
  }

  function extend(by) {
    return bring("Extending the picture…", async () => {
      const { source, mask } = await post(`sources/${picture.name}/extended?${new URLSearchParams(by)}`);
      return { ...source, entries: [{ kind: "mask", name: mask }] };
    });
  }

  function say(problem, remark = "") {
    setText(alert, problem);
    setText(note, remark);
  }

  // ---- Generate ----

  let isHandingOver = false;
  document.addEventListener("click", async (event) => {
    if (!event.target.closest?.(`#${CSS.escape(options.start)}`) || isHandingOver) return;
    isHandingOver = true;
    enlarge(false);
    try {
      await bringing;
      events.start(await handOver(picture));
      setText(alert, "");
    } catch (error) {
      say(error.message);
    } finally {
      isHandingOver = false;
    }
  });

  // ---- Memory, and what other tabs ask for ----

  function save() {
    if (!section.dataset.ready) return;
    const entries = strokes.entries.map(({ id, ...entry }) => entry);
    remember(`easel of ${place}`, { picture, entries, brush: { ...tools.state }, settings: { ...settings } });
  }

  function offerAll() {
    // A mask stays for the next round.
    offer(place, "send", (sent) => takeFromLibrary(sent, { keep: mode === "mask" }));
    offer(place, "vary", events.vary);
    if (mode === "mask") offer(place, "extend", askHowFar);
  }

  async function restore() {
    try {
      if (memory.picture) await put(memory.picture, { entries: memory.entries });
    } catch (error) {
      say(error.message);
    }
    section.dataset.ready = "true";
    changed();
    takeValue(value.get());
    value.watch(() => takeValue(value.get()));
    offerAll();
  }

  section.dataset.mode = mode;
  zooms.hidden = true;
  changed();
  restore();
}

/** Zoom out, fit, zoom in, and large. `view()` gives the view, `larger` makes the easel large or small again. */
function makeZooms(view, larger) {
  const button = (text, act, ...content) => {
    const element = make("button", { type: "button" }, ...content);
    element.addEventListener("click", act);
    name(element, text);
    return element;
  };
  const name = (element, text) => {
    element.title = text;
    element.setAttribute("aria-label", text.replace(/ \(.*/, ""));
  };
  const out = button("Zoom out (-)", () => view().zoomBy(1 / 1.4), icon("minus"));
  const percent = button("Fit into the frame (0)", () => view().fit());
  percent.className = "zoom-percent";
  const into = button("Zoom in (+)", () => view().zoomBy(1.4), icon("plus"));
  const large = button("Large easel (F)", larger, icon("larger"));
  const zooms = make("div", { class: "easel-zoom", role: "group", "aria-label": "View" }, out, percent, into, large);
  return {
    zooms,
    showScale(scale) {
      const share = `${Math.round(scale * 100)} %`;
      setText(percent, share);
      percent.setAttribute("aria-label", `${share}, fit into the frame`);
    },
    showLarge(isLarge) {
      large.replaceChildren(icon(isLarge ? "smaller" : "larger"));
      name(large, isLarge ? "Back to the page (F)" : "Large easel (F)");
    },
  };
}
