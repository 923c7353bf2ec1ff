// What the server tells of this browser's jobs, over one event stream that all scripts of the page share.

import { say } from "./saying.js";

/** Job id → the newest that is known of it: `state`, `recipe`, `done`, `total`, `preview`, `picture`, `reason`… */
export const jobs = new Map();

/** Place (a tab's name) → ids of the jobs that stand there. */
export const shown = new Map();

/** Place → how its jobs lie in rows and columns: `rows`, `columns`, `cells`, `note`; null if they just follow one another. */
export const layouts = new Map();

/** Seconds after which a page that nobody looks at gives its connection back: a browser has only six for a site. */
const HIDDEN_SECONDS = 30;

const listeners = new Set();
let source = null;
let connected = true;
let hasSnapshot = false;
let hiding = 0;

/**
 * Call `listener` after every change, with the change: `{kind: "jobs" | "job" | "shown" | "memory" | "rating" | "connection", …}`.
 * Who comes late, in a tab that is built later, is told of the jobs that are known already.
 */
export function listen(listener) {
  listeners.add(listener);
  if (source === null) open();
  if (hasSnapshot) queueMicrotask(() => listener({ kind: "jobs" }));
  return () => listeners.delete(listener);
}

/** Whether the stream is there; if not, it is tried again by itself. */
export const isConnected = () => connected;

/** Whether a job is on its way to a picture. */
export const isMoving = (job) => ["queued", "loading", "step"].includes(job.state);

/**
 * Pause, resume or cancel a job. The answer is a sentence if it could not be done, else empty.
 * `place`: where a job that left the stage shall be shown again.
 */
export async function act(job, verb, place = "") {
  try {
    const answer = await fetch(`jobs/${job.id}/${verb}?place=${place}`, { method: "POST" });
    return answer.ok ? "" : (await answer.json()).error;
  } catch {
    return "The studio does not answer. Is it still running?";
  }
}

/** The stopped job that a partial picture came from, if it can still be continued. */
export function stoppedAt(pictureId) {
  return [...jobs.values()].find((job) => job.state === "paused" && job.picture === pictureId);
}

function open() {
  source = new EventSource("live");
  source.addEventListener("open", () => setConnected(true));
  source.addEventListener("error", () => setConnected(false));
  on("jobs", takeAll);
  on("job", take);
  on("shown", takeShown);
  // Told to everyone; who listens knows what to do.
  on("memory", () => {});
  on("rating", () => {});
  on("refused", ({ sentence }) => say(sentence));
}

function on(kind, handle) {
  source.addEventListener(kind, (event) => {
    const data = JSON.parse(event.data);
    handle(data);
    tell({ kind, data });
  });
}

function takeAll(snapshot) {
  hasSnapshot = true;
  jobs.clear();
  shown.clear();
  layouts.clear();
  snapshot.jobs.forEach(take);
  takeShown(snapshot);
}

function take(job) {
  // What an event says nothing about stays known: the settings, and how far the picture was.
  const { recipe, number, forked_at, done, total, preview } = jobs.get(job.id) ?? {};
  jobs.set(job.id, { recipe, number, forked_at, done, total, preview, ...job });
}

function takeShown(news) {
  for (const [place, ids] of Object.entries(news.shown)) shown.set(place, ids);
  for (const [place, layout] of Object.entries(news.layouts)) layouts.set(place, layout);
}

function setConnected(now) {
  if (connected === now) return;
  connected = now;
  tell({ kind: "connection" });
}

function tell(change) {
  for (const listener of [...listeners]) listener(change);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (!document.hidden && source?.readyState === EventSource.CLOSED) open();
  if (document.hidden) hiding = setTimeout(() => source?.close(), HIDDEN_SECONDS * 1000);
});
