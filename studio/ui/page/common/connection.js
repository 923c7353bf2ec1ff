// What the server tells, over a connection that is made anew however it ends: by a stream of events, and where none gets
// through, by asking.

/** The kinds of events. "beat" only says that the stream is still there. */
const KINDS = ["jobs", "job", "shown", "memory", "rating", "refused", "beat"];

/** Seconds in which the first event must come. A proxy that gathers a whole answer before it passes it on never brings one. */
const FIRST = 10;

/** Seconds of silence after which a connection is taken for dead. The server beats every ten. */
export const SILENT = 25;

/** Seconds that the server may wait with its answer to a question until there is news. */
const WAIT = 12;

/** Seconds between questions of a page that nobody looks at. */
const RESTING = 5;

/** Seconds after which a stream is tried again where none got through. */
const AGAIN = 300;

/** Seconds between two tries at most. */
const LONGEST = 10;

/** The events in a text of server-sent events, as [kind, data]. */
export const eventsIn = (text) =>
  text.split("\n\n").filter(Boolean).map((event) => {
    const [, kind, data] = event.match(/^event: (\w+)\ndata: (.*)$/);
    return [kind, JSON.parse(data)];
  });

export const randomName = () => [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * A connection; closed until `open` is called. `take(kind, data)` gets every event, `tell(isThere)` is told again and again
 * whether the studio answers. `rest(isResting)`: ask now and then instead of listening. `retry()`: do not wait for the next try.
 */
export function makeConnection(take, tell) {
  let isOpen = false;
  let isResting = false;
  let asksSince = 0; // when it was found that no stream gets through; 0 if one does
  let refused = 0; // streams in a row that ended before they began, though questions are answered
  let failures = 0;
  let timer = 0;
  let end = () => {};

  function stop() {
    clearTimeout(timer);
    end();
    end = () => {};
  }

  function after(seconds, act) {
    clearTimeout(timer);
    timer = setTimeout(act, seconds * 1000);
  }

  function begin() {
    stop();
    if (isResting || asksSince) ask(randomName());
    else listen();
  }

  function hear(events) {
    failures = 0;
    tell(true);
    for (const [kind, data] of events) take(kind, data);
  }

  function fail() {
    stop();
    failures += 1;
    // A connection may end and the next one stand a moment later: that is nothing to speak of.
    if (failures > 1) tell(false);
    after(Math.min(LONGEST, 2 ** (failures - 1)) * (0.5 + Math.random() / 2), begin);
  }

  function listen() {
    const source = new EventSource("live");
    end = () => source.close();
    const failAsStream = () => {
      refused += 1;
      asksSince = Date.now();
      fail();
    };
    let onEnd = failAsStream;
    after(FIRST, () => {
      refused = 2;
      asksSince = Date.now();
      begin();
    });
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        refused = 0;
        onEnd = fail;
        after(SILENT, fail);
        hear([[kind, JSON.parse(event.data)]]);
      });
    }
    // A browser gives an EventSource up for good after some answers, and tries others again: here all are made anew.
    source.addEventListener("error", () => onEnd());
  }

  async function ask(name) {
    const stopper = new AbortController();
    end = () => stopper.abort();
    after(SILENT, failToAsk);
    let events;
    try {
      const answer = await fetch(`live/news?reader=${name}&wait=${isResting ? 0 : WAIT}`, { signal: stopper.signal, cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      events = eventsIn(await answer.text());
    } catch {
      if (!stopper.signal.aborted) failToAsk();
      return;
    }
    if (stopper.signal.aborted) return;
    hear(events.length ? events : [["beat", {}]]);
    if (stopper.signal.aborted) return;
    // One refusal may have been the studio's absence: it is there now.
    if (!isResting && (refused === 1 || Date.now() - asksSince > AGAIN * 1000)) asksSince = 0;
    if (isResting || asksSince) after(isResting ? RESTING : 0, () => ask(name));
    else begin();
  }

  function failToAsk() {
    asksSince = refused = 0;
    fail();
  }

  addEventListener("online", () => isOpen && begin());

  return {
    open() {
      isOpen = true;
      begin();
    },
    close() {
      isOpen = false;
      stop();
    },
    rest(now) {
      if (isResting === now) return;
      isResting = now;
      if (isOpen) begin();
    },
    retry: () => isOpen && failures > 0 && begin(),
  };
}
