// Which models are in memory and how they are held, asked for anew whenever that changes.

import { listen } from "../live/live.js";
import { ask } from "./server.js";
import { setText } from "../common/words.js";

const listeners = new Set();
/** `card`, `bytes`, `free`, and of each of `models` its `name`, `bytes`, `precision` and `note`; null until it is known. */
let memory = null;

/** Call `listener` with what is known now, if anything is, and after every change. */
export function watchMemory(listener) {
  listeners.add(listener);
  if (memory) listener(memory);
  return () => listeners.delete(listener);
}

/** Ask anew: how much is free also depends on other programs. */
export async function askMemory() {
  try {
    memory = await ask("models/memory");
  } catch {
    return; // the stream says when the studio is there again
  }
  for (const listener of [...listeners]) listener(memory);
}

/** Say in `root` how the model is held whose name `named.get()` tells, unless it is whole in its full precision. */
export function mount(root, named) {
  const sentence = root.querySelector(".notice");
  const draw = () => setText(sentence, memory?.models.find(({ name }) => name === named.get())?.note ?? "");
  named.watch(draw);
  watchMemory(draw);
}

listen(({ kind }) => {
  if (kind === "jobs" || kind === "memory") askMemory();
});
