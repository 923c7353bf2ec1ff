// One model: its picture, what is known of it, own notes, defaults, hash, and the way to use it.

import { icon } from "../common/icons.js";
import { pictureOf } from "./picture.js";
import { ask, follow, onTask } from "./server.js";
import { numberField, read } from "../common/numbers.js";
import { ask as askTab } from "../common/places.js";
import { make, setText, size } from "../common/words.js";

/** Show a model large. `bases`: names of families. `changed` is called when something was kept. */
export async function showModel(each, { bases, changed }) {
  const dialog = make("dialog", { class: "viewer models-one", "aria-label": each.name });
  const close = make("button", { type: "button", class: "act viewer-close", title: "Close", "aria-label": "Close" }, "×");
  const trouble = make("p", { class: "notice", role: "alert" });
  const body = make("div", { class: "models-body" });
  const side = make("div", { class: "models-side" }, pictureOf(each));
  dialog.append(make("div", { class: "models-sheet" }, side, body), close);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  body.append(make("h2", { class: "models-title" }, make("bdi", {}, each.name)));
  if (each.title && each.title !== each.name) body.append(make("p", { class: "models-subtitle" }, make("bdi", {}, each.title)));
  body.append(trouble);
  if (each.problem || each.advice) setText(trouble, each.problem || each.advice);
  document.body.append(dialog);
  dialog.showModal();

  let more;
  try {
    more = await ask(`models/one?key=${encodeURIComponent(each.key)}`);
  } catch (error) {
    setText(trouble, error.message);
    return;
  }
  const say = (error) => setText(trouble, error.message);
  side.append(...using(each, dialog));
  body.append(...triggers(more, say));
  body.append(table(each, more, bases));
  if (more.parts.length) body.append(parts(each, more, changed, say));
  if (more.notes) body.append(make("details", { class: "models-notes", open: true }, make("summary", {}, "Notes that came with it"), make("p", { class: "models-text" }, more.notes)));
  body.append(ownNotes(each, more, changed, say));
  if (more.distillations.length) body.append(distilled(each, more, say));
  if (more.samplers.length) body.append(defaults(each, more, say));
  if (each.single) body.append(hash(each, more, dialog, say));
}

/** The button that takes a model to the first tab; how a LoRA or an embedding is written in a prompt. */
function using(each, dialog) {
  if (each.kind === "model" && !each.problem) {
    const use = make("button", { type: "button", class: "act strong models-use" }, icon("send"), make("span", {}, "Use in text to image"));
    use.addEventListener("click", () => {
      dialog.close();
      askTab("text_to_image", "model", each.name);
    });
    return [use];
  }
  const written = { lora: `<lora:${each.name}:1>`, embedding: each.name }[each.kind];
  if (!written || each.problem) return [];
  return [make("p", { class: "models-facts" }, "In a prompt:"), copies(written)];
}

/** Text that a press copies. */
function copies(text) {
  const button = make("button", { type: "button", class: "models-word", title: "Copy" }, make("bdi", {}, text));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1200);
    } catch {
      // Not allowed, over plain http from another machine: then it is selected, to be copied by hand.
      getSelection().selectAllChildren(button);
    }
  });
  return button;
}

function triggers(more) {
  if (!more.triggers.length) return [];
  const words = make("div", { class: "models-words-row", role: "group", "aria-label": "Trigger words" }, ...more.triggers.map(copies));
  return [make("h3", {}, "Trigger words"), words];
}

function table(each, more, bases) {
  const lines = [
    ["Kind", [bases[each.base] ?? each.family, each.variant, each.kind === "model" ? "" : each.kind].filter(Boolean).join(" ")],
    ["Precision", each.precision],
    ["Size", [each.bytes && size(each.bytes), each.parameters && parameters(each.parameters)].filter(Boolean).join(" · ")],
    ["Prediction", { epsilon: "noise (epsilon)", v_prediction: "velocity (v)", flow: "flow" }[each.prediction] ?? ""],
    ["Trained on", each.trained_on],
    ["Weight", more.weight ? `${more.weight} is suggested` : ""],
    ["Author", each.author],
    ["Licence", each.license],
    ["File", more.path],
  ];
  const list = make("dl", { class: "models-table" });
  for (const [name, value] of lines) if (value) list.append(make("dt", {}, name), make("dd", {}, make("bdi", {}, value)));
  return list;
}

/** Which file serves as each part that this one lacks. With an empty choice, the one that suits best. */
function parts(each, more, changed, say) {
  const saved = make("span", { class: "models-facts", role: "status" });
  const row = make("div", { class: "models-defaults" });
  for (const part of more.parts) {
    const best = part.files[0]?.name ?? "none is there";
    const options = part.files.map((file) => make("option", { value: file.key }, file.name));
    const field = make("select", {}, make("option", { value: "" }, `${best} (suits best)`), ...options);
    field.value = part.chosen;
    field.addEventListener("change", async () => {
      const query = new URLSearchParams({ key: each.key, part: part.part, choice: field.value });
      try {
        await ask(`models/part?${query}`, { method: "POST" });
        part.chosen = field.value;
        setText(saved, "Kept");
        say({ message: "" });
        changed();
      } catch (error) {
        field.value = part.chosen;
        setText(saved, "");
        say(error);
      }
    });
    row.append(make("label", {}, make("span", {}, part.label), field));
  }
  return make("div", { class: "models-own" }, make("h3", {}, "Works with ", saved), row);
}

function parameters(count) {
  return count >= 1e9 ? `${(count / 1e9).toFixed(1)} billion weights` : `${Math.max(0.1, count / 1e6).toFixed(1)} million weights`;
}

function ownNotes(each, more, changed, say) {
  const field = make("textarea", { rows: 3, value: more.own, placeholder: "What you want to remember about it", "aria-label": "Your notes" });
  const saved = make("span", { class: "models-facts", role: "status" });
  let kept = more.own;
  field.addEventListener("change", async () => {
    if (field.value === kept) return;
    try {
      await ask(`models/notes?key=${encodeURIComponent(each.key)}`, { method: "POST", body: field.value });
      kept = field.value;
      setText(saved, "Kept");
      changed();
    } catch (error) {
      say(error);
    }
  });
  field.addEventListener("input", () => setText(saved, ""));
  return make("div", { class: "models-own" }, make("h3", {}, "Your notes ", saved), field);
}

/** Why a file counts as distilled or not, and a way to say otherwise; kept, and taken back by the first choice. */
function distilled(each, more, say) {
  const why = { klein: "FLUX.2 klein is distilled unless the file's name has the word base." }[each.distilled]
    ?? (each.distilled ? `The file's name has the word ${each.distilled}.` : "The file's name has no word that says so.");
  const field = make("select", { "aria-label": "Distilled" }, make("option", { value: "" }, "as its name says"));
  for (const kind of more.distillations) field.append(make("option", { value: kind }, kind === "no" ? "not distilled" : kind));
  field.value = more.distilled;
  const saved = make("span", { class: "models-facts", role: "status" });
  const reason = make("p", { class: "models-facts" }, more.distilled ? "You said so; the first choice takes it back." : why);
  field.addEventListener("change", async () => {
    try {
      const answer = await ask(`models/distilled?key=${encodeURIComponent(each.key)}&kind=${encodeURIComponent(field.value)}`, { method: "POST" });
      setText(saved, answer.note || "Kept");
      setText(reason, field.value ? "You said so; the first choice takes it back." : "");
    } catch (error) {
      say(error);
    }
  });
  return make("div", { class: "models-own" }, make("h3", {}, "Distilled to few steps ", saved), field, reason);
}

/** Settings to begin with when this model is chosen; an empty field means what suits the model. */
function defaults(each, more, say) {
  const inputs = {};
  const saved = make("span", { class: "models-facts", role: "status" });
  const row = make("div", { class: "models-defaults" });
  const isChoice = ({ kind }) => kind === "text";
  for (const setting of more.fields) {
    const { name, label, step } = setting;
    const field = isChoice(setting) ? make("select") : numberField({ least: 0, step, empty: true });
    if (isChoice(setting)) {
      const options = more[`${name}s`].map((label) => make("option", { value: label }, label));
      field.append(make("option", { value: "" }, `${more.suited[name]} (its own)`), ...options);
    } else field.placeholder = String(more.suited[name] ?? "");
    field.value = more.defaults[name] ?? "";
    inputs[name] = field;
    field.addEventListener("change", keep);
    row.append(make("label", {}, make("span", {}, label), field));
  }

  async function keep() {
    const values = Object.fromEntries(more.fields.map((setting) => {
      const { name } = setting;
      return [name, isChoice(setting) ? inputs[name].value : read(inputs[name])];
    }));
    if (Object.values(values).includes(undefined)) return;
    try {
      await ask(`models/defaults?key=${encodeURIComponent(each.key)}`, { method: "POST", body: values });
      setText(saved, "Kept");
      say({ message: "" });
    } catch (error) {
      setText(saved, "");
      say(error);
    }
  }

  return make("div", { class: "models-own" }, make("h3", {}, "Begin with ", saved), row);
}

/** The hash that other programs and sites know the file by, made when it is asked for. */
function hash(each, more, dialog, say) {
  const place = make("div", { class: "models-hash" });
  const show = (digits) => place.replaceChildren(make("span", {}, "Hash (AutoV2) "), Object.assign(copies(digits.slice(0, 10)), { title: `SHA-256 ${digits}` }));
  if (more.sha256) {
    show(more.sha256);
    return place;
  }
  const start = make("button", { type: "button", class: "act" }, icon("keys"), make("span", {}, "Work out its hash"));
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Working out the hash" });
  place.append(start);
  start.addEventListener("click", async () => {
    try {
      const mine = await ask(`models/hash?key=${encodeURIComponent(each.key)}`, { method: "POST" });
      place.replaceChildren(bar);
      const end = onTask(async (task) => {
        if (task.id !== mine.id) return;
        bar.value = task.total ? task.done / task.total : 0;
        if (task.state === "running") return;
        end();
        if (task.state === "failed") say({ message: task.sentence });
        const now = await ask(`models/one?key=${encodeURIComponent(each.key)}`).catch(() => ({}));
        if (now.sha256) show(now.sha256);
        else place.replaceChildren(start);
      });
      dialog.addEventListener("close", end);
      follow();
    } catch (error) {
      say(error);
    }
  });
  return place;
}
