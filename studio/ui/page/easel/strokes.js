// What was painted, as a list, and its drawing. Undo takes the last entry off the list, and the pixels are those
// of before, exactly. Nothing here knows the page but for its canvases.
//
// An entry is a stroke {kind: "stroke", tool, size, amount, soft, colour, points: [x, y, pressure, …]} in pixels of the
// picture, or {kind: "fill" | "clear" | "invert"}, or {kind: "mask", name} for a mask from a file. A mask lives in the
// alpha channel: 0 keeps a pixel, 255 lets it change wholly. Its colour is only for the eye.

export const MASK_COLOUR = "#e2401b";

/** Pixels that are kept of what lay under the latest entries, so that undo need not draw all others anew. */
const KEPT_PIXELS = 24e6;

/** These make what was before them irrelevant. */
const ABSOLUTE = ["fill", "clear", "mask"];

const isStroke = (entry) => entry.kind === "stroke";

let counted = 0;

export class Strokes {
  entries = [];
  undone = [];
  /** Masks from files by name, as canvases with the mask in their alpha channel. */
  masks = new Map();

  /** `mode`: "paint" lays colours, "mask" sets how much may change. */
  constructor(mode) {
    this.mode = mode;
    this.canvas = newCanvas(1, 1); // all entries, and the stroke that is being drawn
    this.settled = newCanvas(1, 1); // all entries but that stroke
    this.wet = newCanvas(1, 1); // the shape of that stroke
    this.kept = new Map(); // entry id → what lay under it
    this.trail = null;
  }

  get width() {
    return this.canvas.width;
  }

  get height() {
    return this.canvas.height;
  }

  /** Says which state this is: equal keys mean equal pixels, also after undo and redo. */
  get key() {
    return this.entries.at(-1)?.id ?? 0;
  }

  get isDrawing() {
    return this.trail !== null;
  }

  /** Whether nothing was painted, or all of it was cleared again. */
  get isEmpty() {
    return this.entries.length === 0 || this.entries.at(-1).kind === "clear";
  }

  /** Begin anew for a picture of this size. */
  resize(width, height) {
    for (const canvas of [this.canvas, this.settled, this.wet]) Object.assign(canvas, { width, height });
    this.entries = [];
    this.undone = [];
    this.kept.clear();
    this.trail = this.dirty = this.fresh = null;
  }

  /** Replace all entries. The masks that they name must be in `masks`. */
  load(entries) {
    this.resize(this.width, this.height);
    this.entries = entries.map((entry) => ({ ...entry, id: ++counted }));
    this.#drawAll();
  }

  /** Begin a stroke; `stroke` lacks its points. */
  begin(stroke) {
    const entry = { ...stroke, kind: "stroke", id: ++counted, points: [] };
    this.trail = startTrail(this.wet, entry, this.mode);
    this.dirty = null;
    return entry;
  }

  /** Lead the stroke on through these points, [x, y, pressure] each, and draw only what is new. */
  extend(points) {
    const { entry } = this.trail;
    for (const [x, y, pressure] of points) {
      const point = [rounded(x, 10), rounded(y, 10), rounded(pressure, 100)];
      entry.points.push(...point);
      this.#wetten(this.trail.add(...point));
    }
    this.trail.draw?.();
    this.#mix();
  }

  /** Finish the stroke and put it on the list. */
  end() {
    const { entry } = this.trail;
    this.#wetten(this.trail.finish());
    this.#mix();
    this.trail = null;
    this.entries.push(entry);
    this.undone = [];
    this.#settle(entry, this.dirty);
  }

  /** Forget the stroke that is being drawn. */
  cancel() {
    this.trail = null;
    if (!this.dirty) return;
    copy(this.settled, this.canvas, this.dirty);
    erase(this.wet, this.dirty);
  }

  /** Put an entry that is no stroke on the list. */
  add(entry) {
    this.entries.push({ ...entry, id: ++counted });
    this.undone = [];
    this.#draw(this.entries.at(-1));
  }

  undo() {
    const entry = this.entries.pop();
    if (!entry) return;
    this.undone.push(entry);
    const under = this.kept.get(entry.id);
    this.kept.delete(entry.id);
    if (under) {
      const { rect, canvas } = under;
      for (const each of [this.canvas, this.settled]) {
        erase(each, rect);
        each.getContext("2d").drawImage(canvas, rect.x, rect.y);
      }
    } else {
      this.#drawAll();
    }
  }

  redo() {
    const entry = this.undone.pop();
    if (!entry) return;
    this.entries.push(entry);
    this.#draw(entry);
  }

  /** The mask as grey values on a canvas: black keeps, white changes. */
  grey() {
    const canvas = newCanvas(this.width, this.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.canvas, 0, 0);
    cover(context, "source-in", "#fff");
    cover(context, "destination-over", "#000");
    return canvas;
  }

  #drawAll() {
    this.kept.clear();
    const all = whole(this.canvas);
    erase(this.canvas, all);
    erase(this.settled, all);
    const from = this.entries.findLastIndex((entry) => ABSOLUTE.includes(entry.kind));
    for (const entry of this.entries.slice(Math.max(from, 0))) this.#draw(entry);
  }

  #draw(entry) {
    if (!isStroke(entry)) {
      this.#keep(entry, whole(this.canvas));
      this.#instant(entry);
      return;
    }
    this.trail = startTrail(this.wet, entry, this.mode);
    this.dirty = null;
    const { points } = entry;
    for (let at = 0; at < points.length; at += 3) {
      this.#wetten(this.trail.add(points[at], points[at + 1], points[at + 2]));
    }
    this.#wetten(this.trail.finish());
    this.#mix();
    this.trail = null;
    this.#settle(entry, this.dirty);
  }

  /** Draw an entry that changes everything at once. */
  #instant(entry) {
    const context = this.canvas.getContext("2d");
    if (entry.kind === "invert") cover(context, "source-out", MASK_COLOUR);
    if (entry.kind === "fill") cover(context, "copy", MASK_COLOUR);
    if (entry.kind === "clear" || entry.kind === "mask") erase(this.canvas, whole(this.canvas));
    if (entry.kind === "mask") context.drawImage(this.masks.get(entry.name), 0, 0);
    copy(this.canvas, this.settled, whole(this.canvas));
  }

  #wetten(rect) {
    const clipped = rect && clip(rect, this.canvas);
    if (!clipped) return;
    this.dirty = union(this.dirty, clipped);
    this.fresh = union(this.fresh, clipped);
  }

  /** Mix the wet stroke with what is settled, where it is new. */
  #mix() {
    const rect = this.fresh;
    this.fresh = null;
    if (!rect) return;
    copy(this.settled, this.canvas, rect);
    const { entry } = this.trail;
    const context = this.canvas.getContext("2d");
    const lay = (operation, alpha) => {
      context.globalCompositeOperation = operation;
      context.globalAlpha = alpha;
      const { x, y, width, height } = rect;
      context.drawImage(this.wet, x, y, width, height, x, y, width, height);
    };
    context.save();
    if (entry.tool === "eraser") {
      lay("destination-out", 1);
    } else if (this.mode === "mask") {
      // A mask is set and not added to: a light brush over a dark place makes it light.
      lay("destination-out", 1);
      lay("lighter", entry.amount);
    } else {
      lay("source-over", entry.amount);
    }
    context.restore();
  }

  #settle(entry, rect) {
    if (!rect) return;
    this.#keep(entry, rect);
    copy(this.canvas, this.settled, rect);
    erase(this.wet, rect);
  }

  /** Keep what lies under an entry; the oldest of such pieces go when they become too many. */
  #keep(entry, rect) {
    const canvas = newCanvas(rect.width, rect.height);
    canvas.getContext("2d").drawImage(this.settled, -rect.x, -rect.y);
    this.kept.set(entry.id, { rect, canvas });
    let pixels = 0;
    for (const [id, each] of [...this.kept].reverse()) {
      pixels += each.rect.width * each.rect.height;
      if (pixels > KEPT_PIXELS && id !== entry.id) this.kept.delete(id);
    }
  }
}

/** A canvas with the values of a grey picture in its alpha channel. */
export function alphaOf(image, width, height) {
  const canvas = newCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  const values = new Uint32Array(pixels.data.buffer);
  // Little-endian ABGR: red becomes alpha, over the colour that masks are shown in.
  const colour = parseInt(MASK_COLOUR.slice(5, 7) + MASK_COLOUR.slice(3, 5) + MASK_COLOUR.slice(1, 3), 16);
  for (let index = 0; index < values.length; index++) values[index] = ((values[index] & 255) << 24) | colour;
  context.putImageData(pixels, 0, 0);
  return canvas;
}

export function newCanvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

// ---- One stroke: the way from its points to a shape on the wet canvas ----

function startTrail(canvas, entry, mode) {
  const context = canvas.getContext("2d");
  const colour = mode === "mask" ? MASK_COLOUR : entry.colour;
  if (entry.tool === "lasso") return lassoTrail(context, entry, colour);
  return lineTrail(entry, entry.soft > 0.02 ? softPen(context, entry, colour) : hardPen(context, entry, colour));
}

/** Through the middles between the points, so that corners of a quick hand become curves. */
function lineTrail(entry, pen) {
  let last = null;
  let middle = null;
  return {
    entry,
    add(...point) {
      const before = last;
      last = point;
      if (!before) {
        middle = point;
        pen.dot(point);
        return around([point], entry.size);
      }
      const from = middle;
      middle = point.map((value, axis) => (value + before[axis]) / 2);
      pen.curve(from, before, middle);
      return around([from, before, middle], entry.size);
    },
    finish() {
      if (!last || last === middle) return null;
      pen.curve(middle, last, last);
      return around([middle, last], entry.size);
    },
  };
}

function hardPen(context, entry, colour) {
  const width = (pressure) => Math.max(entry.size * pressure, 0.6);
  return {
    dot([x, y, pressure]) {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(x, y, width(pressure) / 2, 0, 2 * Math.PI);
      context.fill();
    },
    curve(from, by, to) {
      context.strokeStyle = colour;
      context.lineCap = context.lineJoin = "round";
      context.lineWidth = width((from[2] + to[2]) / 2);
      context.beginPath();
      context.moveTo(from[0], from[1]);
      context.quadraticCurveTo(by[0], by[1], to[0], to[1]);
      context.stroke();
    },
  };
}

/** Stamps of a round, fading spot in even distances. */
function softPen(context, entry, colour) {
  const [full, faint] = [stamp(entry, colour, 1), stamp(entry, colour, 5)];
  const apart = Math.max(entry.size * 0.06, 0.5);
  let left = apart;

  function put(spot, x, y, pressure) {
    const side = Math.max(entry.size * pressure, 1);
    context.drawImage(spot, x - side / 2, y - side / 2, side, side);
  }

  return {
    dot: ([x, y, pressure]) => put(full, x, y, pressure),
    curve(from, by, to) {
      const length = Math.hypot(by[0] - from[0], by[1] - from[1]) + Math.hypot(to[0] - by[0], to[1] - by[1]);
      const pieces = Math.max(Math.ceil((length / apart) * 2), 1);
      let [x, y] = from;
      for (let piece = 1; piece <= pieces; piece++) {
        const t = piece / pieces;
        const at = (axis) => (1 - t) ** 2 * from[axis] + 2 * t * (1 - t) * by[axis] + t ** 2 * to[axis];
        const [nextX, nextY] = [at(0), at(1)];
        left -= Math.hypot(nextX - x, nextY - y);
        [x, y] = [nextX, nextY];
        if (left > 0) continue;
        left += apart;
        put(faint, x, y, at(2));
      }
    },
  };
}

/** A spot that fades to its rim. `layers`: how many of them, one on another, shall come to the full spot. */
function stamp(entry, colour, layers) {
  const side = Math.max(Math.ceil(entry.size), 4);
  const canvas = newCanvas(side, side);
  const context = canvas.getContext("2d");
  const gradient = context.createRadialGradient(side / 2, side / 2, 0, side / 2, side / 2, side / 2);
  const core = 1 - entry.soft;
  const hex = (alpha) => Math.round(alpha * 255).toString(16).padStart(2, "0");
  for (let stop = 0; stop <= 16; stop++) {
    const out = stop / 16;
    const cover = (1 + Math.cos(Math.PI * out)) / 2;
    const alpha = 1 - (1 - Math.min(cover, 0.995)) ** (1 / layers);
    gradient.addColorStop(core + (1 - core) * out, colour + hex(layers === 1 ? cover : alpha));
  }
  context.fillStyle = gradient;
  context.fillRect(0, 0, side, side);
  return canvas;
}

/** The area inside a line that was drawn around it. */
function lassoTrail(context, entry, colour) {
  let drawn = null;
  const draw = () => {
    const { points } = entry;
    if (drawn) context.clearRect(drawn.x, drawn.y, drawn.width, drawn.height);
    context.fillStyle = colour;
    context.beginPath();
    for (let at = 0; at < points.length; at += 3) context.lineTo(points[at], points[at + 1]);
    context.fill();
  };
  return {
    entry,
    add(x, y) {
      drawn = union(drawn, clip(around([[x, y]], 2), context.canvas));
      return drawn;
    },
    draw,
    finish() {
      draw();
      return drawn;
    },
  };
}

// ---- Rectangles of whole pixels ----

function around(points, size) {
  const reach = size / 2 + 2;
  const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
  const x = Math.floor(Math.min(...xs) - reach);
  const y = Math.floor(Math.min(...ys) - reach);
  return { x, y, width: Math.ceil(Math.max(...xs) + reach) - x, height: Math.ceil(Math.max(...ys) + reach) - y };
}

function clip(rect, { width, height }) {
  const x = Math.max(rect.x, 0);
  const y = Math.max(rect.y, 0);
  const right = Math.min(rect.x + rect.width, width);
  const bottom = Math.min(rect.y + rect.height, height);
  return right > x && bottom > y ? { x, y, width: right - x, height: bottom - y } : null;
}

function union(one, other) {
  if (!one || !other) return one ?? other;
  const x = Math.min(one.x, other.x);
  const y = Math.min(one.y, other.y);
  const right = Math.max(one.x + one.width, other.x + other.width);
  const bottom = Math.max(one.y + one.height, other.y + other.height);
  return { x, y, width: right - x, height: bottom - y };
}

const whole = ({ width, height }) => ({ x: 0, y: 0, width, height });

const rounded = (value, parts) => Math.round(value * parts) / parts;

function erase(canvas, { x, y, width, height }) {
  canvas.getContext("2d").clearRect(x, y, width, height);
}

function copy(from, to, rect) {
  const { x, y, width, height } = rect;
  erase(to, rect);
  to.getContext("2d").drawImage(from, x, y, width, height, x, y, width, height);
}

function cover(context, operation, colour) {
  context.save();
  context.globalCompositeOperation = operation;
  context.fillStyle = colour;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.restore();
}
