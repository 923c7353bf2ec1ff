// The ways a picture comes onto the easel: a file, the clipboard, the camera, the library, a blank sheet.

import { icon } from "../common/icons.js";
import { heading, item, items, opens } from "../common/menu.js";
import { numberField, numberOf, read } from "../common/numbers.js";
import { isTyping } from "./pen.js";
import { recent } from "../common/server.js";
import { make, onEnter, setText, thumbnailRatio } from "../common/words.js";

const SHAPES = [[9, 16], [2, 3], [3, 4], [1, 1], [4, 3], [3, 2], [16, 9]];
const LEAST = 8;
const MOST = 4096;

/**
 * Make the ways. `take` has file(blob), picture({id, recipe}) of the library, blank({width, height, colour}) and say(sentence);
 * `isShown()` tells whether the easel can be seen, and `settings` keeps `matte`, the colour behind transparency.
 * Returns `invite`, the element of an empty easel, and `menuOn(button)`.
 */
export function makeWays(section, mode, take, isShown, settings) {
  const chooser = make("input", { type: "file", accept: "image/*", class: "only-spoken", tabIndex: -1 });
  chooser.setAttribute("aria-label", "Picture file");
  chooser.addEventListener("change", () => {
    if (chooser.files[0]) take.file(chooser.files[0]);
    chooser.value = "";
  });
  const ways = [
    ["upload", "Upload", () => chooser.click()],
    ["library", "Library", () => pickFromLibrary(take)],
    ["camera", "Camera", () => takePhoto(take)],
  ];
  if (mode === "paint") ways.push(["blank", "Blank", () => askForBlank(take, settings)]);

  const buttons = ways.map(([drawing, text, act]) => {
    const button = make("button", { type: "button", class: "act" }, icon(drawing), make("span", {}, text));
    button.addEventListener("click", act);
    return button;
  });
  const words = mode === "paint" ? "Drop a picture here to change it or paint on it" : "Drop a picture here to repaint parts of it";
  const open = make("button", { type: "button", class: "invite-open" }, icon("picture"), make("span", {}, words));
  open.append(make("small", {}, "or click to upload, or paste with Ctrl V"));
  open.addEventListener("click", () => chooser.click());
  const invite = make("div", { class: "easel-invite" }, open, make("div", { class: "acts" }, ...buttons));
  section.append(chooser);
  listenForDrops(section, take);
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (!file || !isShown() || document.querySelector("dialog[open]")) return;
    if (isTyping(event.target) && event.clipboardData.types.includes("text/plain")) return;
    event.preventDefault();
    take.file(file);
  });

  function menuOn(button) {
    opens(button, (close) => [
      items(...ways.map(([drawing, text, act]) => item(drawing, LONG[text], act, close))),
      make("p", { class: "panel-hint" }, "Or drop a picture, or paste one with Ctrl V."),
      matteField(settings),
    ], { role: "dialog", label: "Bring in a picture" });
  }

  return { invite, menuOn };
}

const LONG = { Upload: "Upload a file", Library: "From the library", Camera: "Take a photo", Blank: "A blank sheet" };

function matteField(settings) {
  const input = make("input", { type: "color", value: settings.matte, "aria-label": "Behind transparency" });
  input.addEventListener("input", () => {
    settings.matte = input.value;
  });
  return make("label", { class: "panel-field" }, make("span", {}, "Behind transparency"), input);
}

// ---- Dropping ----

/** The kind of data that thumbnails of the library carry when they are dragged. */
export const DRAGGED = "application/x-emerge-picture";

/** Take files and thumbnails that are dropped on `section`, which has data-dropping while one is held over it. */
export function listenForDrops(section, take) {
  let depth = 0;
  const carries = (event) => ["Files", DRAGGED].some((kind) => event.dataTransfer.types.includes(kind));
  const mark = (by) => {
    depth = Math.max(depth + by, 0);
    section.toggleAttribute("data-dropping", depth > 0);
  };
  section.addEventListener("dragenter", (event) => carries(event) && mark(1));
  section.addEventListener("dragleave", (event) => carries(event) && mark(-1));
  section.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  section.addEventListener("drop", (event) => {
    mark(-Infinity);
    if (!carries(event)) return;
    event.preventDefault();
    const picture = event.dataTransfer.getData(DRAGGED);
    if (picture) take.picture(JSON.parse(picture));
    else if (event.dataTransfer.files.length) take.file(event.dataTransfer.files[0]);
  });
}

// ---- Library ----

/** Pictures that are shown at first, and with each "Older". */
const AT_ONCE = 36;

async function pickFromLibrary(take) {
  const grid = make("div", { class: "picker-grid" });
  const more = make("button", { type: "button", class: "act" }, "Older");
  const problem = make("p", { class: "dialog-problem", role: "alert" });
  const { dialog, close } = openDialog("From the library", grid, problem, more);
  dialog.classList.add("picker");
  let last = "";

  async function load() {
    const found = await recent(AT_ONCE, last);
    if (!found) return setText(problem, "The studio does not answer. Is it still running?");
    setText(problem, "");
    for (const picture of found.pictures) {
      const image = make("img", { src: `thumbnails/${picture.id}`, alt: picture.recipe.prompt || "Picture without a prompt" });
      const button = make("button", { type: "button", class: "thumbnail", title: picture.recipe.prompt.slice(0, 200) }, image);
      button.style.aspectRatio = thumbnailRatio(picture.recipe);
      button.addEventListener("click", () => {
        close();
        take.picture(picture);
      });
      grid.append(button);
    }
    more.hidden = !found.more;
    last = found.pictures.at(-1)?.id;
    if (!grid.firstChild) grid.append(make("p", {}, "There are no pictures yet. Make one in Text to image first."));
  }

  more.addEventListener("click", load);
  await load();
  grid.querySelector("button")?.focus();
}

// ---- Camera ----

async function takePhoto(take) {
  if (!navigator.mediaDevices?.getUserMedia) {
    take.say("The browser gives its camera only to pages of this machine or over https. Upload a photo instead.");
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } }, audio: false });
  } catch (error) {
    const isForbidden = error.name === "NotAllowedError" || error.name === "SecurityError";
    take.say(isForbidden ? "The camera is not allowed for this page. Allow it in the browser, or upload a photo." : "No camera was found. Upload a photo instead.");
    return;
  }
  const video = make("video", { autoplay: true, muted: true, playsInline: true, srcObject: stream, "aria-label": "What the camera sees" });
  const shoot = make("button", { type: "button", class: "act strong" }, icon("camera"), make("span", {}, "Take the photo"));
  const { dialog, close } = openDialog("Camera", video, shoot);
  dialog.addEventListener("close", () => stream.getTracks().forEach((track) => track.stop()));
  shoot.addEventListener("click", () => {
    if (!video.videoWidth) return;
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => take.file(blob), "image/png");
    close();
  });
}

// ---- Blank sheet ----

function askForBlank(take, settings) {
  const { width, height, colour } = { width: 512, height: 512, colour: "#ffffff", ...settings.sheet };
  const number = (label, value) => numberField({ value, least: LEAST, most: MOST, step: 8, "aria-label": label });
  const [across, down] = [number("Sheet width", width), number("Sheet height", height)];
  const paint = make("input", { type: "color", value: colour, "aria-label": "Sheet colour" });
  const shapes = SHAPES.map(([x, y]) => {
    const button = make("button", { type: "button", class: "shape" }, `${x}:${y}`);
    button.addEventListener("click", () => {
      const side = Math.sqrt((numberOf(across.value) ?? 0) * (numberOf(down.value) ?? 0) || 512 * 512);
      across.value = Math.max(8, Math.round((side * Math.sqrt(x / y)) / 8) * 8);
      down.value = Math.max(8, Math.round((side * Math.sqrt(y / x)) / 8) * 8);
    });
    return button;
  });
  const field = (text, input) => make("label", { class: "panel-field" }, make("span", {}, text), input);
  const problem = make("p", { class: "dialog-problem", role: "alert" });
  const fields = make("div", { class: "blank-fields" }, field("Width", across), field("Height", down), field("Colour", paint));
  const ok = make("button", { type: "button", class: "act strong" }, "Put on the easel");
  [across, down].forEach((input) => onEnter(input, ok));
  const { close } = openDialog("A blank sheet", make("div", { class: "blank-shapes" }, ...shapes), fields, problem, ok);
  ok.addEventListener("click", () => {
    const [width, height] = [read(across), read(down)];
    if (width === undefined || height === undefined) {
      setText(problem, `Width and height are whole numbers from ${LEAST} to ${MOST}.`);
      return;
    }
    settings.sheet = { width, height, colour: paint.value };
    close();
    take.blank(settings.sheet);
  });
}

function openDialog(title, ...children) {
  const dialog = make("dialog", { class: "easel-dialog", "aria-label": title });
  const shut = make("button", { type: "button", class: "act dialog-close", title: "Close", "aria-label": "Close" }, icon("drop"));
  const close = () => dialog.close();
  shut.addEventListener("click", close);
  dialog.append(heading(title), ...children, shut);
  dialog.addEventListener("click", (event) => event.target === dialog && close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return { dialog, close };
}
