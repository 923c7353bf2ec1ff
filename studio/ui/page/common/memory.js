// What a window remembers when it is loaded again: its form, its easels, and which window it is. It lies in the browser
// itself, in IndexedDB, which has room for pictures; where there is none, in the session's storage.
//
// A window that is new begins with what the one before remembered. So does a copy of a window. Each keeps its own from
// there on: a name that another window answers to is given up for a new one.

import { canSay, hearWindows, sayToWindows } from "./channel.js";
import { randomName } from "./connection.js";
import { say } from "./saying.js";

/** Windows of which it is remembered what they held; the one opened longest ago is forgotten first. */
const WINDOWS_KEPT = 30;

const KEPT = "kept";
const NAME = "emerge.window";
const NO_ROOM =
  "This browser has no room left for this page, or allows it none: what you type and paint is lost when you load the page " +
  "again. Free some room in the browser's settings for this site.";

const listeners = new Set();
const me = randomName();
let base = null;
let name = "";
let hasSaid = false;

/** The name of this window, once it is known; a listener is called with every name it gets later. */
export async function windowName(listener = null) {
  await ready;
  if (listener) listeners.add(listener);
  return name;
}

/** What was remembered under `key`, null if nothing was. */
export async function recall(key) {
  await ready;
  try {
    const text = base ? await done(stored("readonly").get(`${name}/${key}`)) : sessionStorage.getItem(`${NAME}/${key}`);
    return JSON.parse(text ?? null);
  } catch {
    return null;
  }
}

/** Remember a plain value under `key`. A sentence is shown, once, if there is no room for it. */
export async function remember(key, value) {
  const text = JSON.stringify(value);
  if (!name) await ready;
  try {
    if (!base) return sessionStorage.setItem(`${NAME}/${key}`, text);
    const store = stored("readwrite");
    store.put(name, "latest");
    await finished(store.put(text, `${name}/${key}`));
  } catch {
    if (!hasSaid) say(NO_ROOM);
    hasSaid = true;
  }
}

async function begin() {
  base = await open().catch(() => null);
  for (const key of Object.keys(attempt(() => localStorage) ?? {})) {
    if (key.startsWith("emerge.")) localStorage.removeItem(key); // it was kept there once
  }
  const latest = base && canSay ? await done(stored("readonly").get("latest")).catch(() => null) : null;
  name = attempt(() => sessionStorage.getItem(NAME)) || latest || randomName();
  beCalled(name);
  answerTo();
  if (base) forgetOld().catch(() => {});
}

function beCalled(next) {
  name = next;
  attempt(() => sessionStorage.setItem(NAME, name));
}

/** Ask the others whether this window's name is theirs, and answer them when they ask. */
function answerTo() {
  hearWindows("name", ({ asks, of, to }) => {
    if (to === me) takeAnother();
    else if (asks && of === name) sayToWindows({ about: "name", to: asks });
  });
  sayToWindows({ about: "name", asks: me, of: name });
}

async function takeAnother() {
  const before = name;
  beCalled(randomName());
  for (const listener of listeners) listener(name);
  if (base) await copyAll(before, name).catch(() => {});
}

// ---- IndexedDB ----

async function open() {
  const request = indexedDB.open(`emerge ${new URL(".", document.baseURI).pathname}`, 1);
  request.addEventListener("upgradeneeded", () => request.result.createObjectStore(KEPT));
  return done(request);
}

const stored = (mode) => base.transaction(KEPT, mode).objectStore(KEPT);

const allOf = (window) => IDBKeyRange.bound(`${window}/`, `${window}/\uffff`);

const done = (request) =>
  new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error));
    request.addEventListener("blocked", () => reject(request.error));
  });

/** When all of a request's transaction is on the disk; it is handed over at once, for the page may be left. */
const finished = ({ transaction }) =>
  new Promise((resolve, reject) => {
    transaction.addEventListener("complete", resolve);
    transaction.addEventListener("abort", () => reject(transaction.error));
    transaction.commit?.();
  });

async function copyAll(from, to) {
  const [keys, values] = await Promise.all([done(stored("readonly").getAllKeys(allOf(from))), done(stored("readonly").getAll(allOf(from)))]);
  const store = stored("readwrite");
  keys.forEach((key, at) => store.put(values[at], `${to}${key.slice(from.length)}`));
  store.put(Date.now(), `${to}:opened`);
}

async function forgetOld() {
  stored("readwrite").put(Date.now(), `${name}:opened`);
  const keys = (await done(stored("readonly").getAllKeys())).filter((key) => key.endsWith(":opened"));
  const times = await Promise.all(keys.map((key) => done(stored("readonly").get(key))));
  const windows = keys.map((key, at) => [times[at], key.slice(0, -":opened".length)]).sort(([one], [other]) => other - one);
  const store = stored("readwrite");
  for (const [, window] of windows.slice(WINDOWS_KEPT)) store.delete(allOf(window));
}

function attempt(act) {
  try {
    return act();
  } catch {
    return null; // storage is not allowed here
  }
}

const ready = begin();
