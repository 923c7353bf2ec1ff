// What the models tab asks of the server.

/** The JSON answer; an Error with a sentence if it is refused or does not come. `body`: an object or a text to send. */
export async function ask(address, { method = "GET", body = null } = {}) {
  let answer;
  try {
    const text = body === null || typeof body === "string" ? body : JSON.stringify(body);
    answer = await fetch(address, { method, body: text });
  } catch {
    throw new Error("The studio does not answer. Is it still running?");
  }
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(data.error ?? "The studio could not do this. Its window tells more.");
  return data;
}

const listeners = new Set();
let following = false;

/** Call `listener` with each task that is under way or changes; returns what ends that. */
export function onTask(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Follow the tasks that are under way, as long as one is. */
export async function follow() {
  if (following) return;
  following = true;
  try {
    const answer = await fetch("models/tasks");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line) for (const listener of [...listeners]) listener(JSON.parse(line));
      }
    }
  } catch {
    // The studio was closed, or the page is: then there is nothing to follow.
  } finally {
    following = false;
  }
}
