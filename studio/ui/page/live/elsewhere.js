// What is under way in other windows of this browser, and the way to bring it into this one.

import { elsewhere, isMoving, listen, stageQuery } from "./live.js";
import { post } from "../common/server.js";
import { make, setText } from "../common/words.js";

const pictures = (count) => (count === 1 ? "1 picture" : `${count} pictures`);

/** What there is to say of jobs on other windows' stages. */
function words(all) {
  const moving = all.filter(isMoving).length;
  if (moving === 0) return `${pictures(all.length)} stopped in another window`;
  const stopped = all.length - moving;
  return `${pictures(moving)} being made in another window${stopped ? `, ${stopped} stopped there` : ""}`;
}

/** A line below the stage of a tab: what other windows make there, and a button that brings it here. */
export function elsewhereBar(place) {
  const sentence = make("span", { class: "elsewhere-words" });
  const bring = make("button", { type: "button", class: "act" }, "Bring here");
  const failure = make("span", { role: "alert" });
  const element = make("p", { class: "elsewhere", hidden: true }, sentence, bring, failure);

  bring.addEventListener("click", async () => {
    bring.disabled = true;
    try {
      for (const { stage } of elsewhere(place)) await post(`stages/bring?stage=${encodeURIComponent(stage)}&${stageQuery(place)}`);
      setText(failure, "");
    } catch (error) {
      setText(failure, error.message);
    }
    bring.disabled = false;
  });
  listen(() => {
    const all = elsewhere(place).flatMap((each) => each.jobs);
    element.hidden = all.length === 0;
    if (all.length) setText(sentence, words(all));
  });
  return element;
}
