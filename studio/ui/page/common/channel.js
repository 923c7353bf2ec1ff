// What the windows of one browser say to one another. Those of another studio on the same host hear nothing of it.

const listeners = new Set();
const channel = "BroadcastChannel" in window ? new BroadcastChannel(`emerge ${new URL(".", document.baseURI).pathname}`) : null;

/** Whether this browser can. */
export const canSay = channel !== null;

/** Say something to all other windows. */
export const sayToWindows = (message) => channel?.postMessage(message);

/** Call `listener` with what other windows say of `about`. */
export function hearWindows(about, listener) {
  listeners.add((message) => message.about === about && listener(message));
}

channel?.addEventListener("message", ({ data }) => {
  for (const listener of listeners) listener(data);
});
