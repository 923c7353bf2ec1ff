// What a person dropped from the grid, and how it comes back: what was finished at once, the rest is begun again.

/**
 * `grid` has at(id), the cell of the layout in which a job stands; idAt(cell), the job there now; jobs, what is known of each by id;
 * cancel(jobs), whose answers are sentences where one could not be cancelled; begin(ids), which has dropped ones made again; draw().
 */
export function makeDrops(grid) {
  /** Ids that the person dropped: what is finished cannot be cancelled, and the others go from the page at once. */
  const dropped = new Set();
  /** Cells that were dropped together, the latest last. By their places, since what comes back is another job. */
  const done = [];

  const lives = ({ state }) => !["finished", "failed", "cancelled"].includes(state);

  /** They leave the page at once; what cannot be cancelled after all comes back. */
  async function drop(ids) {
    if (ids.length === 0) return;
    ids.forEach((id) => dropped.add(id));
    done.push(ids.map(grid.at));
    grid.draw();
    const living = ids.map((id) => grid.jobs.get(id)).filter(lives);
    const answers = await grid.cancel(living);
    living.forEach((job, index) => answers[index] && dropped.delete(job.id));
    grid.draw();
  }

  /** Bring back what was dropped last. */
  function undo() {
    const ids = (done.pop() ?? []).map(grid.idAt).filter((id) => id && dropped.delete(id));
    const gone = ids.filter((id) => !["finished", "failed"].includes(grid.jobs.get(id)?.state));
    if (gone.length) grid.begin(gone);
    grid.draw();
  }

  /** The grid has other jobs now: `ids`. `isSame`: in the same rows and columns. */
  function forget(ids, isSame) {
    for (const id of dropped) if (!ids.includes(id)) dropped.delete(id);
    if (!isSame) done.length = 0;
  }

  return { drop, undo, forget, has: (id) => dropped.has(id), canUndo: () => done.length > 0 };
}
