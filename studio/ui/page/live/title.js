// How far the pictures are, in the title of the browser's tab, for who works in another one meanwhile.

import { isMoving, jobs, listen } from "./live.js";

const NAME = "Emerge Studio";

/** Tell it from now on. */
export function watchTitle() {
  let batch = new Set(); // ids of what was asked for since nothing moved
  let ended = ""; // a sign for how it ended, until the page is looked at

  function draw() {
    const moving = [...jobs.values()].filter(isMoving);
    if (moving.length) ended = "";
    for (const { id } of moving) batch.add(id);
    const all = [...batch].map((id) => jobs.get(id)).filter(Boolean);
    if (!moving.length && batch.size) {
      if (document.hidden) ended = signFor(all);
      batch = new Set();
    }
    const part = moving.length ? `${percent(all)}%` : ended;
    const title = [part, NAME].filter(Boolean).join(" · ");
    if (document.title !== title) document.title = title;
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ended = "";
    draw();
  });
  listen(({ kind }) => ["jobs", "job", "connection"].includes(kind) && draw());
}

/** How much of all steps is done; what has ended, however, is done wholly. */
function percent(all) {
  const shares = all.map((job) => (isMoving(job) ? (job.total ? (job.done ?? 0) / job.total : 0) : 1));
  return Math.floor((100 * shares.reduce((sum, each) => sum + each, 0)) / shares.length);
}

function signFor(all) {
  if (all.some(({ state }) => state === "failed")) return "!";
  return all.some(({ state }) => state === "finished") ? "✓" : "";
}
