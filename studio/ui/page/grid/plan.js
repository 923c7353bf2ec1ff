// Where the cells of a grid lie, and how large they are. Sums only: nothing here knows the page.

/** Pixels around the picture of a cell, on each side. */
export const AROUND = 4;

/** Height of the label above a picture, where a grid of one axis is broken into lines. */
const CAPTION = 30;
const HEAD = 34;
const SCROLLBAR = 12;

/**
 * The orders in which pictures can stand: what each is called, why one would, and what its pictures are ranked by, the most first.
 * `scoreOf` asks the caller for the score of that name: a score that is added here needs no more than that.
 */
export const ORDERS = {
  axes: { title: "As laid out", hint: "rows and columns", rank: null },
  rating: { title: "By rating", hint: "best first", rank: (id, scoreOf) => scoreOf("rating", id) },
};

/**
 * A layout as cells with a place each. With one axis only, or in another order than that of the axes, its pictures fill lines, so that
 * they become large.
 *
 * `room` is {width, height} in pixels, `ratio` the pictures' width / height. Each cell has `id` (or null), `x` and `y` on the page,
 * `row` and `column` in the layout, and `name`, its labels in words. `axis` is "" for a table with labels at its sides, else what each
 * picture is one of: a "column", a "row" or, in another order, a "place". `rank(id)` gives the place in another order, the most first.
 */
export function planOf(layout, room, ratio, rank = null) {
  const { rows, columns } = layout;
  const axis = isBlank(rows) ? "column" : isBlank(columns) ? "row" : rank ? "place" : "";
  const cells = layout.cells.flatMap((line, row) =>
    line.map((id, column) => ({ id, row, column, x: column, y: row, name: nameOf(rows[row], columns[column]) })),
  );
  if (!axis) return { axis, cells, rows, columns, width: columns.length, height: rows.length };
  // Sorting keeps the order of those that are equal.
  if (rank) cells.sort((a, b) => rank(b.id) - rank(a.id));
  const width = acrossFor(cells.length, room, ratio);
  cells.forEach((cell, index) => Object.assign(cell, { x: index % width, y: Math.floor(index / width) }));
  return { axis, cells, rows, columns, width, height: Math.ceil(cells.length / width) };
}

/** A layout for pictures that just follow one another. `seeds`: of each one. */
export const layoutOf = (ids, seeds) => ({ rows: [""], columns: seeds.map((seed) => `seed ${seed}`), cells: [ids], note: "" });

/**
 * The tracks of the page: {label, head, across, down}, in pixels, and the height of captions. Lines and columns in which nothing is
 * left are 0. `isGone(cell)` tells what was dropped; `least` is the longer side of the smallest picture, or its width if `isNarrow`.
 */
export function tracksFor(plan, room, ratio, isGone, least, isNarrow) {
  const stays = { across: emptyOf(plan, "x", plan.width, isGone), down: emptyOf(plan, "y", plan.height, isGone) };
  const isList = plan.axis !== "";
  const label = isList ? 0 : labelWidth(plan.rows, isNarrow);
  const head = isList ? 0 : HEAD;
  const caption = isList && plan.cells.some((cell) => cell.name) ? CAPTION : 0;
  const [across, down] = [stays.across.filter(Boolean).length || 1, stays.down.filter(Boolean).length || 1];
  const smallest = isNarrow ? least : least * Math.min(ratio, 1);
  const widthIn = (wide) => Math.min((wide - label) / across - 2 * AROUND, heightOf(down) * ratio);
  const heightOf = (count) => (room.height - head) / count - 2 * AROUND - caption;
  let width = Math.max(widthIn(room.width), smallest);
  const isHigh = (width / ratio + 2 * AROUND + caption) * down + head > room.height + 1;
  if (isHigh) width = Math.max(widthIn(room.width - SCROLLBAR), smallest);
  width = Math.floor(width);
  const height = Math.round(width / ratio) + caption;
  const track = (size) => (isStaying) => (isStaying ? size + 2 * AROUND : 0);
  return { label, head, caption, across: stays.across.map(track(width)), down: stays.down.map(track(height)) };
}

/** How many in a line make the pictures of one axis largest. */
function acrossFor(count, room, ratio) {
  let [best, most] = [1, 0];
  for (let across = 1; across <= count; across++) {
    const lines = Math.ceil(count / across);
    const width = Math.min(room.width / across - 2 * AROUND, (room.height / lines - 2 * AROUND - CAPTION) * ratio);
    const worth = width - (lines * across - count);
    if (worth > most) [best, most] = [across, worth];
  }
  return best;
}

/** For each track, whether it stays: one of which all pictures were dropped does not, unless all were. */
function emptyOf(plan, side, count, isGone) {
  const isLeft = plan.cells.some((cell) => cell.id && !isGone(cell));
  return Array.from({ length: count }, (_, at) => {
    const ours = plan.cells.filter((cell) => cell[side] === at && cell.id);
    return !isLeft || ours.length === 0 || !ours.every(isGone);
  });
}

const isBlank = (labels) => labels.length === 1 && labels[0] === "";

const nameOf = (...labels) => labels.filter(Boolean).join(", ");

/** Room for the longest label, broken into lines if it is long, and its button. */
function labelWidth(labels, isNarrow) {
  const longest = Math.max(...labels.map((label) => label.length));
  return Math.min(Math.max(longest * 7.5 + 36, 56), isNarrow ? 74 : 132);
}
