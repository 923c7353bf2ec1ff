// What the server tells of this browser's jobs, in which all its windows share, and what of it stands in this window.

import { windowName } from "../common/memory.js";
import { say } from "../common/saying.js";
import { hearTogether } from "./together.js";

/** Job id → the newest that is known of it: `state`, `recipe`, `done`, `total`, `preview`, `picture`, `reason`… */
export const jobs = new Map();

/** Place (a tab's name) → ids of the jobs that stand there, in this window. */
export const shown = new Map();

/** Place → how its jobs lie in rows and columns: `rows`, `columns`, `cells`, `note`; null if they just follow one another. */
export const layouts = new Map();

/** The same of all windows: stage ("window/place") → ids, and → layout. */
const stages = { shown: new Map(), layouts: new Map() };

/** Milliseconds in which the studio answers, if it is there. */
const PATIENCE = 5000;

const listeners = new Set();
let name = "";
let connection = null;
let connected = true;
let hasSnapshot = false;

/**
 * Call `listener` after every change, with the change: `{kind: "jobs" | "job" | "shown" | "memory" | "rating" | "connection", …}`.
 * Who comes late, in a tab that is built later, is told of the jobs that are known already.
 */
export function listen(listener) {
  listeners.add(listener);
  if (listeners.size === 1) begin();
  if (hasSnapshot) queueMicrotask(() => listener({ kind: "jobs" }));
  return () => listeners.delete(listener);
}

/** Whether the studio answers; if not, it is tried again by itself. */
export const isConnected = () => connected;

/** Ask the studio now whether it is there. */
export async function isThere() {
  try {
    const answer = await fetch("live/here", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (answer.ok && !connected) connection?.retry();
    return answer.ok;
  } catch {
    return false;
  }
}

/** The stage of a tab of this window, as the server knows it. */
const stageOf = (place) => `${name}/${place}`;

/** The same for an address. */
export const stageQuery = (place) => new URLSearchParams({ place, window: name });

/** Stages of a tab in other windows on which something is under way or stopped: {stage, jobs}, in no order. */
export function elsewhere(place) {
  const here = new Set(shown.get(place));
  return [...stages.shown]
    .filter(([stage]) => stage !== stageOf(place) && placeOf(stage) === place)
    .map(([stage, ids]) => ({ stage, jobs: ids.map((id) => jobs.get(id)).filter((job) => job && isOpen(job) && !here.has(job.id)) }))
    .filter((each) => each.jobs.length > 0);
}

/** Whether a job is on its way to a picture. */
export const isMoving = (job) => ["queued", "loading", "step"].includes(job.state);

/** Whether it is on its way, or stopped and can go on. */
const isOpen = (job) => isMoving(job) || job.state === "paused";

/**
 * Pause, resume or cancel a job. The answer is a sentence if it could not be done, else empty.
 * `place`: where a job that left the stage shall be shown again.
 */
export async function act(job, verb, place = "") {
  try {
    const answer = await fetch(`jobs/${job.id}/${verb}?${stageQuery(place)}`, { method: "POST" });
    return answer.ok ? "" : (await answer.json()).error;
  } catch {
    return "The studio does not answer. Is it still running?";
  }
}

/** The stopped job that a partial picture came from, if it can still be continued. */
export function stoppedAt(pictureId) {
  return [...jobs.values()].find((job) => job.state === "paused" && job.picture === pictureId);
}

async function begin() {
  name = await windowName((next) => {
    name = next;
    lookAtOwn();
    tell({ kind: "jobs" });
  });
  connection = hearTogether(hear, setConnected);
}

function hear(kind, data) {
  if (kind === "beat") return;
  if (kind === "jobs") takeAll(data);
  if (kind === "job") take(data);
  if (kind === "shown") takeShown(data);
  if (kind === "refused") say(data.sentence);
  // Told to everyone; who listens knows what to do.
  tell({ kind, data: kind === "shown" ? { shown: ownOf(data.shown), layouts: ownOf(data.layouts) } : data });
}

function takeAll(snapshot) {
  hasSnapshot = true;
  jobs.clear();
  stages.shown.clear();
  stages.layouts.clear();
  snapshot.jobs.forEach(take);
  takeShown(snapshot);
}

function take(job) {
  // What an event says nothing about stays known: the settings, and how far the picture was.
  const { recipe, number, forked_at, done, total, preview } = jobs.get(job.id) ?? {};
  jobs.set(job.id, { recipe, number, forked_at, done, total, preview, ...job });
}

function takeShown(news) {
  for (const part of ["shown", "layouts"]) {
    for (const [stage, value] of Object.entries(news[part])) {
      if (value === null) stages[part].delete(stage);
      else stages[part].set(stage, value);
    }
  }
  lookAtOwn();
}

/** What of all windows' stages is this one's. */
function lookAtOwn() {
  for (const [all, own] of [[stages.shown, shown], [stages.layouts, layouts]]) {
    own.clear();
    for (const [place, value] of Object.entries(ownOf(Object.fromEntries(all)))) own.set(place, value);
  }
}

/** Place → value, of an object of stages. */
const ownOf = (all) => Object.fromEntries(Object.entries(all).filter(([stage]) => stage === stageOf(placeOf(stage))).map(([stage, value]) => [placeOf(stage), value]));

const placeOf = (stage) => stage.slice(stage.indexOf("/") + 1);

function setConnected(now) {
  if (connected === now) return;
  connected = now;
  tell({ kind: "connection" });
}

function tell(change) {
  for (const listener of [...listeners]) listener(change);
}
