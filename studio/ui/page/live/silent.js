// What is said at a tab's Generate button when the studio does not answer.

import { isConnected, isThere, listen } from "./live.js";

const SILENT = "The studio does not answer. This page tries to reach it again; if no picture begins then, press Generate once more.";

const notices = new Set();

/** Generate was pressed in this tab: say so below it if the studio is not there. */
export async function sayIfSilent(place) {
  const notice = document.querySelector(`#${place}-notice [role=alert]`);
  if (!notice || (await isThere())) return;
  notice.textContent = SILENT;
  notices.add(notice);
}

// When it is there again, the sentence goes; it may only have been slow.
listen(({ kind }) => {
  if (!["jobs", "shown"].includes(kind) && !(kind === "connection" && isConnected())) return;
  for (const notice of notices) if (notice.textContent === SILENT) notice.textContent = "";
  notices.clear();
});
