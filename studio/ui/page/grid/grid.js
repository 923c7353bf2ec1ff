// Pictures in rows and columns that all come out of noise at once, and what one steers them with while they do.

import { elsewhereBar } from "../live/elsewhere.js";
import { fullButton, isFullKey, toggleFull } from "../common/full.js";
import { icon } from "../common/icons.js";
import { described, ratioOf } from "../stage/emerging.js";
import { emptyCell, makeCell } from "./cell.js";
import { makeDrops } from "./drops.js";
import { keysPanel, makeSteps } from "./keys.js";
import { makeLook } from "./look.js";
import { AROUND, layoutOf, ORDERS, planOf, tracksFor } from "./plan.js";
import { showPair, WAYS } from "./pair.js";
import { makeSheets } from "./sheet.js";
import { makeTouchBar } from "./touch.js";
import { act, isConnected, isMoving, jobs, layouts, listen, shown } from "../live/live.js";
import { item, opens } from "../common/menu.js";
import { show } from "../stage/pictures.js";
import { offer } from "../common/places.js";
import { isOnPage, lookAtNew, makeTrouble, phase, stands, takeOrders, withNextFrame } from "../stage/stage.js";
import { makeTeller } from "../common/spoken.js";
import { rate, ratingOf, watchRatings } from "../stage/stars.js";
import { make, setText, standingOfAll } from "../common/words.js";

const HINT = "Choose what shall differ and press Generate. All pictures come out of noise here, side by side.";

/** Longer side of the smallest picture; on a small screen, its width. */
const LEAST = { wide: 120, narrow: 112 };

/** Fill `root` with the grid of a tab and give its buttons their keys. `options`: place, start, stop. */
export function mount(root, options, events) {
  const section = root.querySelector(".grid-place-section");
  const words = make("p", { class: "stage-words" });
  const go = make("button", { type: "button", class: "act strong" }, "Continue");
  const discard = make("button", { type: "button", class: "act" }, "Discard stopped");
  const undo = make("button", { type: "button", class: "act" }, icon("undo"), make("span", {}, "Undo"));
  const keys = make("button", { type: "button", class: "act grid-keys", title: "Keys", "aria-label": "Keys" }, icon("keys"));
  const note = make("p", { class: "grid-note" });
  const table = make("div", { class: "grid-table", role: "grid", "aria-label": "Pictures side by side" });
  const box = make("div", { class: "grid-box" }, table);
  const pair = make("div", { class: "grid-pair acts", role: "group", "aria-label": "Compare the two marked" });
  const hint = make("div", { class: "hint" }, make("p", {}, HINT));
  const look = makeLook(table);
  const trouble = makeTrouble(drawSoon);
  const { say } = trouble;
  const teller = makeTeller(section);
  const acts = make("div", { class: "acts" }, undo, go, discard);
  const sheets = makeSheets(section, options.place, events, () => all().some((job) => job.picture), say);
  const sort = make("button", { type: "button", class: "act grid-sort" }, icon("sort"), make("span", {}, "Sort"));
  const full = fullButton(section);
  section.append(make("div", { class: "grid-bar" }, words, acts, look.bar, sort, sheets, full, keys), note, box, hint, pair, elsewhereBar(options.place));
  const touchBar = makeTouchBar(table, (id) => cells.get(id)?.parts ?? []);
  if (touchBar) section.append(touchBar.element);
  undo.title = "Bring back what was discarded last (Ctrl Z)";
  discard.title = "Discard what is stopped. The partial pictures stay in the library.";
  opens(sort, orderItems, { label: "Sort" });
  opens(keys, keysPanel, { role: "dialog", label: "Keys" });
  offer(options.place, "use", (recipe) => events.use_settings({ recipe }));

  /** Job id → its cell; kept as long as the layout has it. */
  const cells = new Map();
  const marked = [];
  const changed = new Set();
  let plan = null;
  let order = "axes";
  let built = { layout: null, known: 0 };
  let heads = { rows: [], columns: [], lines: [] };
  let settled = null;
  let hasAll = false;
  let hasMoved = false;
  let isSeen = false;
  let sized = "";
  let fallback = { key: "", layout: null };

  const drops = makeDrops({
    jobs,
    at: (id) => [placeOf(id).row, placeOf(id).column],
    idAt: ([row, column]) => built.layout?.cells[row]?.[column],
    cancel: (some) => each(some, "cancel"),
    begin: (ids) => events.again({ jobs: ids }),
    draw: () => drawSoon(),
  });
  const isGone = ({ id }) => drops.has(id) || jobs.get(id)?.state === "cancelled" || (hasAll && !jobs.has(id));
  const standing = () => (plan?.cells ?? []).filter(({ id }) => id && stands(jobs.get(id)) && !drops.has(id));
  const all = () => standing().map(({ id }) => jobs.get(id));
  const moving = () => all().filter(isMoving);
  const paused = () => all().filter((job) => job.state === "paused");

  const steps = makeSteps(table, {
    places: () => plan?.cells ?? [],
    standing,
    act: doAct,
    dropLine,
    rate: rateCell,
    flick: () => comparePair("flick"),
    full: () => toggleFull(section),
    look,
    isLabelled: (kind, index) => (kind === "row" ? plan.rows : plan.columns)[index] !== "",
  });

  // ---- Drawing ----

  const soon = withNextFrame(draw);

  /** With the next frame, and only what changed. */
  function drawSoon(id = "") {
    if (id) changed.add(id);
    soon();
  }

  function draw() {
    speak();
    if (!isSeen) return;
    build();
    for (const id of changed) if (jobs.has(id)) cells.get(id)?.update(jobs.get(id));
    changed.clear();
    settle();
    tell();
  }

  function layout() {
    const given = layouts.get(options.place);
    if (given) return given;
    const ids = (shown.get(options.place) ?? []).filter((id) => jobs.has(id));
    if (fallback.key !== ids.join()) {
      fallback = { key: ids.join(), layout: layoutOf(ids, ids.map((id) => jobs.get(id).recipe.seed)) };
    }
    return ids.length ? fallback.layout : null;
  }

  /** The table anew if the layout is another one or more of its jobs are known; pictures that stay are taken over. */
  function build(isResized = false) {
    const now = layout();
    const ids = now ? now.cells.flat().filter(Boolean) : [];
    const known = ids.filter((id) => jobs.has(id)).length;
    if (now === built.layout && known === built.known && !isResized) return;
    const isOther = now !== built.layout;
    const before = built.layout;
    built = { layout: now, known };
    for (const [id] of cells) if (!ids.includes(id)) cells.delete(id);
    if (isOther) forget(ids, isSameGrid(before, now));
    // The box must stand on the page before its room can be measured.
    setText(note, now?.note ?? "");
    section.toggleAttribute("data-empty", !now);
    const job = ids.map((id) => jobs.get(id)).find(Boolean);
    const { rank } = ORDERS[order];
    plan = now && planOf(now, room(), job ? ratioOf(job.recipe) : 1, rank && ((id) => rank(id, scoreOf)));
    section.toggleAttribute("data-list", Boolean(plan?.axis));
    const focused = table.contains(document.activeElement) ? document.activeElement : null;
    touchBar?.clear();
    table.replaceChildren(...(plan ? fill() : []));
    focused?.isConnected && focused.focus({ preventScroll: true });
    settled = null;
  }

  /** What was about pictures that are not here any more. */
  function forget(ids, isSame) {
    drops.forget(ids, isSame);
    const stay = marked.filter((id) => ids.includes(id));
    if (stay.length !== marked.length) {
      marked.splice(0, marked.length, ...stay);
      drawMarks();
    }
    if (cells.size === 0) order = "axes";
    if (!ids.includes(steps.current())) look.fit();
  }

  /** The rows of the table: labels, and a cell for each place. */
  function fill() {
    const isList = plan.axis !== "";
    heads = { rows: [], columns: [], lines: [] };
    const lines = Array.from({ length: plan.height }, () => []);
    for (const place of plan.cells) lines[place.y].push(cellAt(place, isList));
    const rows = lines.map((line, y) => {
      const labels = isList ? [] : [label("row", y)];
      heads.rows.push(...labels);
      return make("div", { class: "grid-row", role: "row" }, ...labels, ...line);
    });
    heads.lines = rows;
    if (isList) return rows;
    heads.columns = plan.columns.map((_, x) => label("column", x));
    const corner = make("div", { class: "grid-corner", role: "columnheader" }, make("span", { class: "only-spoken" }, "Labels"));
    return [make("div", { class: "grid-row", role: "row" }, corner, ...heads.columns), ...rows];
  }

  function cellAt(place, isList) {
    const job = place.id && jobs.get(place.id);
    if (job && !cells.has(place.id)) cells.set(place.id, makeCell(job, doAct, say));
    const cell = job ? cells.get(place.id) : null;
    place.element = cell?.element ?? emptyCell();
    const caption = cell?.caption ?? place.element.firstChild;
    caption.replaceChildren(...(isList && place.name ? captionOf(place) : []));
    cell?.setName(place.name || `seed ${job.recipe.seed}`);
    return place.element;
  }

  function captionOf(place) {
    const words = make("span", { title: place.name }, place.name);
    // In another order a picture is alone at its place, and has its own button for being dropped.
    return plan.axis === "place" ? [words] : [words, dropper(plan.axis, place[plan.axis])];
  }

  /** The label of a row or a column, and its button. */
  function label(kind, index) {
    const text = (kind === "row" ? plan.rows : plan.columns)[index];
    const role = kind === "row" ? "rowheader" : "columnheader";
    return make("div", { class: `grid-label ${kind}`, role, "aria-label": text }, make("span", { title: text }, text), dropper(kind, index));
  }

  function dropper(kind, index) {
    const text = (kind === "row" ? plan.rows : plan.columns)[index];
    const name = `Discard ${kind} ${text}`.trim();
    const button = make("button", { type: "button", class: "act grid-drop", tabIndex: -1, "aria-label": name }, icon("drop"));
    button.title = `${name} (${kind === "row" ? "Shift" : "Alt"} X)`;
    button.addEventListener("click", () => dropLine(kind, index));
    return button;
  }

  // ---- Places and sizes ----

  /** Pixels that there are for the table: what the section's bar and note leave of its height, which is always the same. */
  function room() {
    const style = getComputedStyle(section);
    const width = section.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const bottom = section.getBoundingClientRect().bottom - parseFloat(style.paddingBottom);
    return { width, height: Math.max(bottom - box.getBoundingClientRect().top - (touchBar?.element.offsetHeight ?? 0), 200) };
  }

  /** What was dropped leaves, rows and columns of which nothing is left close, and the others take their room. */
  function settle() {
    if (!plan) return;
    const gone = plan.cells.filter((place) => place.id && isGone(place));
    const key = gone.map(({ id }) => id).join();
    if (key === settled) return;
    settled = key;
    gone.forEach(({ id }) => cells.get(id)?.setDropped(true));
    standing().forEach(({ id }) => cells.get(id)?.setDropped(false));
    const left = marked.filter((id) => standing().some((place) => place.id === id));
    if (left.length !== marked.length) {
      marked.splice(0, marked.length, ...left);
      drawMarks();
    }
    layOut();
    steps.stay();
  }

  function layOut() {
    const space = room();
    const [job] = all();
    const ratio = job ? ratioOf(job.recipe) : 1;
    const tracks = tracksFor(plan, space, ratio, isGone, isNarrow() ? LEAST.narrow : LEAST.wide, isNarrow());
    const list = (first, others) => [first, ...others].filter((size, at) => at > 0 || size > 0).map((size) => `${size}px`).join(" ");
    table.style.gridTemplateColumns = list(tracks.label, tracks.across);
    table.style.gridTemplateRows = list(tracks.head, tracks.down);
    table.style.setProperty("--ratio", ratio);
    table.style.setProperty("--caption", `${tracks.caption}px`);
    table.style.setProperty("--pad", `${AROUND}px`);
    box.style.maxHeight = `${space.height}px`;
    box.style.scrollPadding = `${tracks.head}px 0 0 ${tracks.label}px`;
    for (const place of plan.cells) {
      const isClosed = tracks.across[place.x] === 0 || tracks.down[place.y] === 0;
      place.element.toggleAttribute("data-closed", isClosed);
    }
    heads.columns.forEach((head, x) => head.toggleAttribute("data-closed", tracks.across[x] === 0));
    heads.lines.forEach((line, y) => line.setAttribute("aria-hidden", String(tracks.down[y] === 0)));
    heads.rows.forEach((head, y) => head.toggleAttribute("data-closed", tracks.down[y] === 0));
  }

  function resized() {
    const wasSeen = isSeen;
    isSeen = section.clientWidth > 0;
    if (isSeen && !wasSeen) sized = "";
    const size = `${section.clientWidth} ${innerHeight}`;
    if (!isSeen || size === sized) return;
    sized = size;
    build(true);
    drawAll();
  }

  /** Every picture, as after the tab was out of sight. */
  function drawAll() {
    for (const id of cells.keys()) changed.add(id);
    draw();
  }

  // ---- Words ----

  function tell() {
    const now = all();
    setText(words, trouble.sentence() || (isConnected() ? wordsFor(now) : "The studio does not answer. Trying again…"));
    const held = paused().length;
    go.hidden = held === 0;
    discard.hidden = held === 0;
    go.title = held === 1 ? "Let the stopped picture go on" : `Let the ${held} stopped pictures go on`;
    undo.hidden = !drops.canUndo();
    const stop = document.getElementById(options.stop);
    const isMovingNow = moving().length > 0;
    if (stop) stop.disabled = !isMovingNow && !isComing();
    if (hasMoved && !isMovingNow) events.ended({});
    hasMoved = isMovingNow;
  }

  function wordsFor(now) {
    const isDone = now.length > 0 && now.every((job) => job.state === "finished");
    if (isDone) return now.length > 1 ? `All ${now.length} pictures are finished` : "Finished";
    const held = paused().length;
    const also = held && held < now.length ? ` · ${held} stopped` : "";
    return standingOfAll(now) + also;
  }

  /** Tell those who cannot see it when it starts, is half way, and ends; no more. */
  function speak() {
    const ids = layout()?.cells.flat() ?? [];
    const text = trouble.sentence() || phase(ids.map((id) => jobs.get(id)).filter((job) => stands(job) && !drops.has(job.id)));
    teller.tell(text, `${ids.join()} ${text}`);
  }

  // ---- Steering ----

  async function each(some, verb) {
    const answers = await Promise.all(some.map((job) => act(job, verb, options.place)));
    say(answers.find(Boolean));
    return answers;
  }

  const dropAll = (places) => drops.drop(places.map(({ id }) => id).filter((id) => id && !isGone({ id }) && jobs.has(id)));

  function dropLine(kind, index) {
    const inLine = plan.cells.filter((place) => place[kind] === index);
    steps.leave(inLine, table.contains(document.activeElement));
    dropAll(inLine);
  }

  const placeOf = (id) => plan?.cells.find((place) => place.id === id);

  /** What a button or a key asks of a cell. */
  function doAct(verb, id) {
    const job = jobs.get(id);
    if (!job || isGone({ id })) return;
    if (verb === "hold" && isMoving(job)) each([job], "pause");
    if (verb === "hold" && job.state === "paused") each([job], "resume");
    if (verb === "only") dropAll(standing().filter((place) => place.id !== id));
    if (verb === "large") showLarge(id);
    if (verb === "mark") mark(id);
    if (verb === "drop") {
      steps.leave([placeOf(id)], true);
      dropAll([placeOf(id)]);
    }
  }

  /** All that stand, in the making too, one after another as they lie on the page. */
  function showLarge(id) {
    const places = standing().filter((place) => jobs.get(place.id).state !== "failed");
    const index = places.findIndex((place) => place.id === id);
    if (index < 0) return;
    const nameFor = (place, { recipe }) => place.name || `seed ${recipe.seed}`;
    const pictures = places.map((place) => ({ ...described(jobs.get(place.id)), job: place.id, name: nameFor(place, jobs.get(place.id)) }));
    const shown = show(pictures, index, events, options.place);
    shown.dialog.addEventListener("close", () => steps.go(shown.current().job));
  }

  // ---- Ranking ----

  /** The scores that pictures can be ordered by. */
  const scoreOf = (key, id) => ({ rating: ratingOf })[key](jobs.get(id)?.picture);

  async function rateCell(id, stars) {
    const { picture } = jobs.get(id);
    say(picture ? await rate(picture, stars) : "A picture can be rated once it is finished or stopped.");
  }

  /** The orders to choose from. Choosing one that is there already sorts anew: pictures do not move while they are rated. */
  function orderItems(close) {
    return Object.entries(ORDERS).map(([key, { title, hint }]) => {
      const entry = item(key === order ? "check" : "none", title, () => sortBy(key), close, hint);
      entry.setAttribute("aria-current", String(key === order));
      return entry;
    });
  }

  function sortBy(key) {
    order = key;
    build(true);
    drawAll();
  }

  // ---- Two at once ----

  /** At most two are marked; a third takes the place of the second. */
  function mark(id) {
    const at = marked.indexOf(id);
    if (at >= 0) marked.splice(at, 1);
    else if (marked.length === 2) marked[1] = id;
    else marked.push(id);
    drawMarks();
  }

  function drawMarks() {
    for (const [id, cell] of cells) cell.setMark(["A", "B"][marked.indexOf(id)] ?? "");
    pair.hidden = marked.length === 0;
    if (marked.length === 0) return;
    const clear = make("button", { type: "button", class: "act", title: "Unmark", "aria-label": "Unmark" }, icon("drop"));
    clear.addEventListener("click", () => {
      marked.length = 0;
      drawMarks();
      steps.stay(true);
    });
    const ways = Object.entries(WAYS).map(([way, title]) => {
      const button = make("button", { type: "button", class: "act" }, title);
      button.addEventListener("click", () => comparePair(way));
      return button;
    });
    const say = make("span", { class: "pair-say" }, marked.length === 1 ? "A is marked. Mark another one to compare." : "A and B");
    pair.replaceChildren(say, ...(marked.length === 2 ? ways : []), clear);
  }

  function comparePair(way) {
    if (marked.length === 2) showPair([...marked], marked.map((id) => placeOf(id)?.name || `Seed ${jobs.get(id).recipe.seed}`), way);
  }

  table.addEventListener("dblclick", (event) => {
    const id = event.target.closest(".cell")?.dataset.job;
    if (!id || event.target.closest("button")) return;
    if (look.isZoomed()) look.fit();
    else doAct("large", id);
  });
  // A long press shows what can be done with a cell, and nothing of the browser's own.
  table.addEventListener("contextmenu", (event) => {
    const cell = event.target.closest(".cell[data-job]");
    if (event.pointerType !== "touch" || !cell) return;
    event.preventDefault();
    cell.focus({ preventScroll: true });
  });
  go.addEventListener("click", () => each(paused(), "resume"));
  discard.addEventListener("click", () => dropAll(standing().filter(({ id }) => jobs.get(id).state === "paused")));
  undo.addEventListener("click", drops.undo);
  const isComing = takeOrders(section, options, () => each(moving(), "pause"), () => drawSoon());
  listen((change) => {
    if (change.kind === "jobs") {
      [section.dataset.ready, hasAll] = ["true", true];
      teller.begin();
    }
    if (change.kind === "shown" && options.place in change.data.shown) hasAll = false;
    if (change.kind !== "job") for (const id of cells.keys()) changed.add(id);
    drawSoon(change.kind === "job" ? change.data.id : "");
  });
  watchRatings((picture) => {
    for (const { id } of standing()) if (jobs.get(id).picture === picture) drawSoon(id);
  });
  document.addEventListener("keydown", (event) => {
    const isUndo = event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey;
    if (event.defaultPrevented || !(isUndo || isFullKey(event)) || !isOnPage(section) || !plan) return;
    if (event.target.closest("input:not([type=range]), textarea, [contenteditable], dialog")) return;
    event.preventDefault();
    if (isUndo) drops.undo();
    else toggleFull(section);
  });
  section.addEventListener("fullscreenchange", () => {
    sized = "";
    resized();
  });
  lookAtNew(section, options);
  new ResizeObserver(resized).observe(section);
  addEventListener("resize", resized);
  drawMarks();
}

/** Whether two layouts have the same rows and columns: in one of them pictures were made again. */
const isSameGrid = (one, other) =>
  Boolean(one && other) &&
  JSON.stringify([one.rows, one.columns]) === JSON.stringify([other.rows, other.columns]) &&
  other.cells.flat().some((id) => one.cells.flat().includes(id));

const isNarrow = () => matchMedia("(max-width: 860px)").matches;
