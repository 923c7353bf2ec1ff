// Marks on tabs that are not looked at: pictures stand there stopped, or are being made.

import { idOf, TABS } from "../common/gradio.js";
import { isMoving, jobs, listen, shown } from "./live.js";

const TITLES = { moving: "Pictures are being made here", stopped: "Stopped pictures wait here" };

function stateOf(place) {
  const standing = (shown.get(place) ?? []).map((id) => jobs.get(id)).filter(Boolean);
  if (standing.some(isMoving)) return "moving";
  return standing.some((job) => job.state === "paused") ? "stopped" : "";
}

function draw() {
  for (const tab of document.querySelectorAll(TABS)) {
    const state = stateOf(idOf(tab));
    if ((tab.dataset.state ?? "") === state) continue;
    if (state) tab.dataset.state = state;
    else delete tab.dataset.state;
    tab.title = TITLES[state] ?? "";
  }
}

listen(draw);
