// Fetching a model from Hugging Face's hub: first what it is, how large and under which licence, then with progress.

import { icon } from "../common/icons.js";
import { makeBeginnings } from "./beginnings.js";
import { ask, follow, onTask } from "./server.js";
import { make, setText, size } from "../common/words.js";

/** The button that opens it, the panel, `follow()` and `open()`. `arrived` is called when a download has ended. */
export function makeHub(arrived) {
  const button = make("button", { type: "button", class: "models-open-hub", "aria-expanded": "false" }, icon("download"), make("span", {}, "Get from the hub"));
  const field = make("input", { type: "text", class: "models-search", placeholder: "owner/name, as stabilityai/sdxl-turbo", "aria-label": "Name on huggingface.co", spellcheck: false, autocapitalize: "off" });
  const look = make("button", { type: "submit", class: "act strong" }, "Look it up");
  const form = make("form", { class: "models-hub-form" }, field, look);
  const found = make("div", { class: "models-plan", role: "status" });
  const hint = make("p", { class: "models-facts" }, "The studio calls huggingface.co only when you press a button here. Nothing is fetched before you have seen its size and licence.");
  const beginnings = makeBeginnings((name) => {
    field.value = name;
    form.requestSubmit();
    field.scrollIntoView({ block: "nearest" });
  });
  const box = make("div", { class: "models-hub", hidden: true }, form, hint, found, beginnings.element);
  const tasks = make("div", { class: "models-tasks", role: "group", "aria-label": "Downloads" });
  const panel = make("div", { class: "models-hub-place" }, box, tasks);
  const rows = new Map();

  function open(isOpen) {
    box.hidden = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) return;
    beginnings.load();
    field.focus();
  }
  button.addEventListener("click", () => open(box.hidden));

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    look.disabled = true;
    found.replaceChildren(make("p", {}, "Asking the hub…"));
    try {
      found.replaceChildren(...describe(await ask(`models/hub/look?text=${encodeURIComponent(field.value)}`, { method: "POST" })));
    } catch (error) {
      found.replaceChildren(make("p", { class: "notice", role: "alert" }, error.message));
    }
    look.disabled = false;
  });

  /** What a download would bring, and the button that begins it. */
  function describe(plan) {
    const start = make("button", { type: "button", class: "act strong" }, icon("download"), make("span", {}, "Download"));
    const facts = make("p", { class: "models-facts" });
    const choice = make("select", { class: "models-family", "aria-label": "File", hidden: !plan.choices.length });
    choice.append(...plan.choices.map((file) => make("option", { value: file.name }, `${file.name} · ${size(file.bytes)}`)));
    const draw = () => {
      const bytes = plan.choices.length ? plan.choices[choice.selectedIndex].bytes : plan.bytes;
      const files = plan.files.length > 1 ? `${plan.files.length} files` : "";
      setText(facts, [size(bytes), files, `licence: ${plan.license || "not told"}`, `goes to ${plan.folder}`].filter(Boolean).join(" · "));
    };
    draw();
    choice.addEventListener("change", draw);
    start.addEventListener("click", async () => {
      const ok = await begin(plan, plan.choices.length ? choice.value : "");
      if (ok) found.replaceChildren();
    });
    return [make("p", { class: "models-plan-name" }, make("bdi", {}, plan.repository)), facts, choice, start];
  }

  async function begin(plan, choice) {
    try {
      drawTask(await ask(`models/hub/get?choice=${encodeURIComponent(choice)}`, { method: "POST", body: plan }), { plan, choice });
      follow();
      return true;
    } catch (error) {
      found.replaceChildren(make("p", { class: "notice", role: "alert" }, error.message));
      return false;
    }
  }

  function drawTask(task, again = null) {
    if (task.kind !== "download") return;
    if (!rows.has(task.id)) rows.set(task.id, makeRow(task.id));
    const row = rows.get(task.id);
    if (again) row.again = again;
    row.draw(task);
  }

  function makeRow(id) {
    const name = make("bdi", { class: "models-task-name" });
    const bar = make("progress", { max: 1, value: 0 });
    const words = make("span", { class: "models-facts", role: "status" });
    const act = make("button", { type: "button", class: "act" });
    const element = make("div", { class: "models-task" }, name, bar, words, act);
    const row = { again: null, state: "", draw };
    tasks.append(element);

    function draw(task) {
      setText(name, task.title);
      bar.value = task.total ? task.done / task.total : 0;
      bar.setAttribute("aria-label", task.title);
      setText(words, wordsFor(task));
      setText(act, task.state === "running" ? "Cancel" : row.again && task.state !== "finished" ? "Go on" : "Hide");
      element.dataset.state = task.state;
      act.onclick = () => press(task);
      if (task.state === "finished" && row.state === "running") arrived();
      row.state = task.state;
    }

    function press(task) {
      if (task.state === "running") {
        ask(`models/tasks/${id}/cancel`, { method: "POST" }).catch(() => {});
        return;
      }
      element.remove();
      if (row.again && task.state !== "finished") begin(row.again.plan, row.again.choice);
    }

    return row;
  }

  onTask((task) => drawTask(task));
  return { button, panel, follow, open: () => open(true) };
}

function wordsFor(task) {
  if (task.state === "failed") return task.sentence;
  if (task.state === "cancelled") return `Stopped at ${size(task.done)} of ${size(task.total)}. What has arrived is kept.`;
  if (task.state === "finished") return `${size(task.total)}, complete`;
  return `${size(task.done)} of ${size(task.total)}`;
}
