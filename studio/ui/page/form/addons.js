// Add-ons in a tab's form: LoRAs that are written into the prompt, and pictures that guide the drawing.

import { ACCORDION_LINE, AS_FIELD_NAME, linesOf } from "../common/gradio.js";
import { icon } from "../common/icons.js";
import { numberField, read, type } from "../common/numbers.js";
import { post } from "../common/server.js";
import { make, setText } from "../common/words.js";

const KINDS = [["none", "As it is"], ["canny", "Edges (canny)"], ["scribble", "Lines (scribble)"], ["tile", "Soft copy (tile)"]];
const NO_LORAS = "LoRAs are found in a folder named loras or Lora below a models folder.";
const NO_MODELS = "ControlNets are found in a folder named controlnet below a models folder, IP-Adapters in one named ip_adapter.";

/** The name of a part that is no field of Gradio's, marked as the labels of those are, so that it gets its "?" too (help.js). */
const title = (text) => make("span", { class: "addon-title", ...AS_FIELD_NAME }, text);

let asked = null;

/** What there is on disk; asked for once for all tabs, and again when a panel is opened. */
async function found(again = false) {
  if (again || !asked) {
    asked = fetch("addons").then((answer) => answer.json()).catch(() => ({ loras: [], controlnets: [], ip_adapters: [] }));
  }
  return asked;
}

/** The list of LoRAs, with a search and a weight; a click writes one into the prompt of the tab `place`. */
export async function loras(element, place) {
  const section = element.querySelector(".loras");
  const search = make("input", { type: "search", placeholder: "Search LoRAs", class: "addon-field" });
  search.setAttribute("aria-label", "Search LoRAs");
  const weight = numberField({ step: 0.1, value: "0.8", title: "Weight of the LoRA that is added", class: "addon-field addon-number" });
  weight.setAttribute("aria-label", "LoRA weight");
  const list = make("ul", { class: "lora-list" });
  const nothing = make("p", { class: "addon-hint" });
  section.append(title("LoRAs"), make("div", { class: "addon-row" }, search, weight), list, nothing);

  const show = async (again) => {
    const { loras: all } = await found(again);
    const words = search.value.trim().toLowerCase();
    const shown = all.filter((each) => [each.name, ...each.words].join(" ").toLowerCase().includes(words));
    list.replaceChildren(...shown.map((each) => make("li", {}, line(each))));
    search.hidden = weight.hidden = !all.length;
    setText(nothing, all.length ? (shown.length ? "" : "None of the LoRAs is called so.") : NO_LORAS);
  };
  const line = (lora) => {
    const button = make("button", { type: "button", class: "lora", title: "Add it to the prompt" }, make("span", {}, lora.name));
    const told = [lora.base, lora.words.length ? `says: ${lora.words.join(", ")}` : ""].filter(Boolean).join(" · ");
    if (told) button.append(make("small", {}, told));
    button.addEventListener("click", () => {
      const number = read(weight);
      if (number !== undefined) write(place, `<lora:${lora.name}:${number}>`);
    });
    return button;
  };
  search.addEventListener("input", () => show());
  // What is on disk is looked at anew when the panel is opened.
  section.closest(".addons")?.addEventListener("click", (event) => {
    if (event.target.closest(ACCORDION_LINE)) show(true);
  });
  await show();
  section.dataset.ready = "";
}

/** Add a tag at the end of a tab's prompt, as if it had been typed. */
function write(place, tag) {
  const prompt = linesOf(`${place}-prompt`);
  if (!prompt) return;
  type(prompt, `${prompt.value.trimEnd()} ${tag}`.trimStart());
}

/** The pictures that guide the drawing. `held` has get(), set(list) and watch(listener) for what the form holds. */
export async function controls(element, held) {
  const section = element.querySelector(".guides");
  const rows = make("div", { class: "guide-rows" });
  const add = make("button", { type: "button", class: "act guide-add" }, icon("upload"), make("span", {}, "Add a control"));
  const chooser = make("input", { type: "file", accept: "image/*", class: "only-spoken", tabIndex: -1 });
  chooser.setAttribute("aria-label", "Control picture file");
  const sentence = make("p", { class: "addon-hint", role: "status" });
  section.append(title("Controls"), rows, add, chooser, sentence);
  const listed = () => {
    try {
      return held.get();
    } catch {
      return []; // what the browser kept was damaged
    }
  };
  let models = { controlnets: [], ip_adapters: [], depth: false };
  let place = -1;
  let written = null;

  const change = (index, values) => {
    const list = listed();
    if (index < 0) list.push(values);
    else if (values) list[index] = { ...list[index], ...values };
    else list.splice(index, 1);
    written = JSON.stringify(list);
    held.set(list);
    show();
  };
  const choose = (index) => {
    place = index;
    chooser.click();
  };
  chooser.addEventListener("change", async () => {
    const file = chooser.files[0];
    chooser.value = "";
    if (!file) return;
    try {
      const source = await post("sources", file);
      setText(sentence, source.note);
      change(place, place < 0 ? fresh(source.name) : { picture: source.name });
    } catch (error) {
      setText(sentence, error.message);
    }
  });
  const fresh = (picture) => {
    const [net, adapter] = [models.controlnets[0], models.ip_adapters[0]];
    return { model: net ?? adapter, picture, kind: net ? "canny" : "ip-adapter", weight: 1, start: 0, end: 1 };
  };
  add.addEventListener("click", () => choose(-1));

  const row = (control, index) => {
    const picture = make("img", { alt: "What the model is given", src: `sources/${control.picture}/prepared/${control.kind}.png` });
    const open = make("button", { type: "button", class: "guide-picture", title: "Choose another picture" }, picture);
    open.addEventListener("click", () => choose(index));
    picture.addEventListener("error", () => setText(sentence, "The control's picture is not there any more, or cannot be prepared."));
    const adapter = control.kind === "ip-adapter";
    const model = select("Control model", [
      ...models.controlnets.map((name) => [`net ${name}`, name]),
      ...models.ip_adapters.map((name) => [`ip ${name}`, `${name} (IP-Adapter)`]),
    ], `${adapter ? "ip" : "net"} ${control.model}`, (value) => {
      const [kind, ...name] = value.split(" ");
      const reads = kind === "ip" ? "ip-adapter" : adapter ? "canny" : control.kind;
      change(index, { model: name.join(" "), kind: reads });
    });
    const kinds = models.depth ? [...KINDS, ["depth", "Depth"]] : KINDS;
    const kind = select("Prepared by", kinds, control.kind, (value) => change(index, { kind: value }));
    kind.hidden = adapter;
    const numbers = [["weight", "Weight", 2], ["start", "From", 1], ["end", "To", 1]].map(([name, label, most]) => {
      const field = numberField({ least: 0, most, step: 0.05, value: control[name], class: "addon-field" });
      field.addEventListener("change", () => {
        const number = read(field);
        if (number !== undefined) change(index, { [name]: number });
      });
      return make("label", {}, make("span", {}, label), field);
    });
    const away = make("button", { type: "button", class: "act", title: "Take this control away" }, icon("drop"));
    away.setAttribute("aria-label", "Take this control away");
    away.addEventListener("click", () => change(index, null));
    const choices = make("div", { class: "guide-choices" }, model, kind, make("div", { class: "guide-numbers" }, ...numbers));
    return make("div", { class: "guide", role: "group" }, open, choices, away);
  };

  function show() {
    const list = listed();
    rows.replaceChildren(...list.map(row));
    const none = !models.controlnets.length && !models.ip_adapters.length;
    add.hidden = none;
    if (none) setText(sentence, NO_MODELS);
  }
  held.watch(() => {
    if (JSON.stringify(listed()) !== written) show();
  });
  const refresh = async (again) => {
    models = await found(again);
    setText(sentence, "");
    show();
  };
  section.closest(".addons")?.addEventListener("click", (event) => {
    if (event.target.closest(ACCORDION_LINE)) refresh(false);
  });
  await refresh(false);
  section.dataset.ready = "";
}

function select(label, options, value, act) {
  const known = options.some(([each]) => each === value) ? options : [[value, value.replace(/^(net|ip) /, "")], ...options];
  const element = make("select", { class: "addon-field" }, ...known.map(([each, text]) => make("option", { value: each }, text)));
  element.setAttribute("aria-label", label);
  element.value = value;
  element.addEventListener("change", () => act(element.value));
  return element;
}
