// One connection for all windows of a browser, which has only six for a site: one window leads and passes on what it hears,
// the others follow. A window that is seen goes before one that is hidden, for browsers let those sleep.

import { canSay, hearWindows, sayToWindows } from "../common/channel.js";
import { SILENT, eventsIn, makeConnection, randomName } from "../common/connection.js";

/** Milliseconds in which whoever leads has answered. Where it takes longer two lead for a moment, which does no harm. */
const ANSWERED = 250;

/** Seconds after which a leader that nobody looks at only asks now and then. */
const HIDDEN_SECONDS = 30;

/** Seconds after which it is asked again how things stand. */
const AGAIN = 2;

/** Hear what the server tells. `take(kind, data)` and `tell(isThere)`, as of `makeConnection`. Returns `{retry}`. */
export function hearTogether(take, tell) {
  const me = randomName();
  const connection = makeConnection(pass, (isThere) => {
    tell(isThere);
    say({ isThere });
  });
  let leads = false;
  let patience = 0;
  let resting = 0;
  let isCaughtUp = false;
  let waiting = null; // what was heard while it was asked how things stand

  const rank = () => `${document.hidden ? 0 : 1}${me}`;
  const say = (message) => sayToWindows({ about: "news", from: rank(), ...message });

  function pass(kind, data) {
    take(kind, data);
    say({ news: [kind, data] });
  }

  function lead() {
    clearTimeout(patience);
    leads = true;
    waiting = null;
    say({ leads });
    connection.rest(document.hidden);
    connection.open();
  }

  function follow() {
    if (leads) {
      leads = isCaughtUp = false;
      clearTimeout(resting);
      connection.close();
    }
    clearTimeout(patience);
    patience = setTimeout(lead, SILENT * 1000);
    if (!isCaughtUp) catchUp();
  }

  /** Lead, unless one that leads already answers. */
  function seek(milliseconds) {
    clearTimeout(patience);
    patience = setTimeout(lead, milliseconds);
    say({ seeks: true });
  }

  /** Ask how things stand; what is heard meanwhile may be newer than the answer, and comes after it. */
  async function catchUp() {
    isCaughtUp = true;
    const news = (waiting = []);
    try {
      const answer = await fetch("live/news", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      const events = eventsIn(await answer.text());
      if (waiting === news) for (const event of [...events, ...news]) take(...event);
    } catch {
      setTimeout(() => (isCaughtUp = false), AGAIN * 1000);
    }
    if (waiting === news) waiting = null;
  }

  hearWindows("news", ({ from, seeks, left, news, isThere }) => {
    if (seeks) return leads && say({ leads });
    if (left) return leads || seek(Math.random() * ANSWERED);
    // What is left comes from one that leads.
    if (leads) return from > rank() ? follow() : say({ leads });
    if (from[0] < rank()[0]) return lead();
    follow();
    if (news && waiting) waiting.push(news);
    else if (news) take(...news);
    if (isThere !== undefined) tell(isThere);
  });

  document.addEventListener("visibilitychange", () => {
    clearTimeout(resting);
    if (!leads) return document.hidden || seek(ANSWERED);
    say({ leads });
    if (document.hidden) resting = setTimeout(() => connection.rest(true), HIDDEN_SECONDS * 1000);
    else connection.rest(false);
  });
  addEventListener("pagehide", () => {
    if (leads) say({ left: true });
    leads = false;
    clearTimeout(patience);
    connection.close();
  });
  addEventListener("pageshow", (event) => event.persisted && seek(ANSWERED));

  seek(canSay ? ANSWERED : 0);
  return { retry: () => (leads ? connection.retry() : undefined) };
}
