// Where a picture lies in its frame: how large, and moved how far. Pixels of the picture ↔ pixels of the window.

import { make } from "./words.js";

const MOST = 32;

/** From this scale on, the picture's pixels are shown as squares. */
const PIXELS = 8;

/** Screen pixels of the picture that always stay in the frame, so that it cannot be lost. */
const STAYS = 48;

export class View {
  /** `sheet` has the picture's own size and is moved within `frame`. `changed` is called after every move. */
  constructor(frame, sheet, changed) {
    Object.assign(this, { frame, sheet, changed, width: 1, height: 1, scale: 1, x: 0, y: 0, isFitted: true });
    new ResizeObserver(() => this.#resized()).observe(frame);
  }

  setSize(width, height) {
    Object.assign(this, { width, height });
    this.sheet.style.width = `${width}px`;
    this.sheet.style.height = `${height}px`;
    this.fit();
  }

  /** The whole picture, as large as possible, in the middle. */
  fit() {
    this.isFitted = true;
    this.scale = this.#fitting();
    this.x = (this.frame.clientWidth - this.width * this.scale) / 2;
    this.y = (this.frame.clientHeight - this.height * this.scale) / 2;
    this.#apply();
  }

  /** Zoom so that what is at this place of the window stays there. */
  zoom(factor, clientX, clientY) {
    const least = Math.min(this.#fitting(), 1) / 2;
    const scale = Math.min(Math.max(this.scale * factor, least), MOST);
    const { left, top } = this.frame.getBoundingClientRect();
    const [atX, atY] = [clientX - left, clientY - top];
    this.x = atX - ((atX - this.x) * scale) / this.scale;
    this.y = atY - ((atY - this.y) * scale) / this.scale;
    this.scale = scale;
    this.isFitted = false;
    this.#apply();
  }

  /** Zoom at the middle of the frame. */
  zoomBy(factor) {
    const { left, top, width, height } = this.frame.getBoundingClientRect();
    this.zoom(factor, left + width / 2, top + height / 2);
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.isFitted = false;
    this.#apply();
  }

  /** The picture's pixel at a place of the window, with fractions. */
  toPicture(clientX, clientY) {
    const { left, top } = this.frame.getBoundingClientRect();
    return [(clientX - left - this.x) / this.scale, (clientY - top - this.y) / this.scale];
  }

  /** The place of the frame where a pixel of the picture is. */
  toFrame(x, y) {
    return [this.x + x * this.scale, this.y + y * this.scale];
  }

  /** Move the picture as little as it needs for this pixel to be in the frame. */
  reveal(x, y) {
    const outside = (at, room) => Math.min(at, 0) + Math.max(at - room, 0);
    const [left, top] = this.toFrame(x, y);
    const [byX, byY] = [outside(left, this.frame.clientWidth), outside(top, this.frame.clientHeight)];
    if (Math.abs(byX) > 1 || Math.abs(byY) > 1) this.pan(-byX, -byY);
  }

  #fitting() {
    const fitting = Math.min(this.frame.clientWidth / this.width, this.frame.clientHeight / this.height);
    return fitting > 0 ? Math.min(fitting, MOST) : 1;
  }

  #resized() {
    if (this.frame.clientWidth === 0) return;
    if (this.isFitted) this.fit();
    else this.#apply();
  }

  #apply() {
    const within = (value, size, room) => Math.min(Math.max(value, STAYS - size), room - STAYS);
    this.x = within(this.x, this.width * this.scale, this.frame.clientWidth);
    this.y = within(this.y, this.height * this.scale, this.frame.clientHeight);
    this.sheet.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.sheet.classList.toggle("pixels", this.scale >= PIXELS);
    this.changed();
  }
}

/**
 * A canvas as large as the frame, on which the picture is drawn whenever the view changes. An <img> under a canvas that
 * is painted on would be scaled down anew with every touch of the brush, which takes twice as long as all the rest.
 * `draw(context)` draws the picture in its own pixels.
 */
export function makeGlass(view, draw) {
  const canvas = make("canvas", { class: "easel-picture", role: "img", "aria-label": "Start picture" });
  const context = canvas.getContext("2d");
  let isWaiting = false;

  function drawNow() {
    isWaiting = false;
    const { frame, scale, x, y } = view();
    const fine = devicePixelRatio;
    const [width, height] = [Math.round(frame.clientWidth * fine), Math.round(frame.clientHeight * fine)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(scale * fine, 0, 0, scale * fine, x * fine, y * fine);
    context.imageSmoothingEnabled = scale < PIXELS;
    context.imageSmoothingQuality = "high";
    draw(context);
  }

  return {
    canvas,
    /** With the next frame: a wheel turns faster than frames come. */
    draw() {
      if (!isWaiting) requestAnimationFrame(drawNow);
      isWaiting = true;
    },
  };
}
