// Everything that was found in the models folders: a list that can be searched, and one model at a time.

import { makeHub } from "./hub.js";
import { makeMemory } from "./memory.js";
import { showModel } from "./one.js";
import { pictureOf } from "./picture.js";
import { ask as request } from "./server.js";
import { icon } from "../common/icons.js";
import { make, setText, size } from "../common/words.js";

const KINDS = [
  ["model", "Models"], ["lora", "LoRAs"], ["vae", "VAEs"], ["embedding", "Embeddings"], ["controlnet", "ControlNets"],
  ["ip-adapter", "IP-Adapters"], ["text encoder", "Text encoders"], ["image encoder", "Image encoders"], ["depth", "Depth models"], ["upscaler", "Upscalers"], ["other", "Other files"],
];

/** Cards that are put on the page at once; more follow when the last ones come near. */
const BATCH = 90;

/** Fill `root` with the tab. */
export function mount(root) {
  const section = root.querySelector(".models");
  const search = make("input", { type: "search", class: "models-search", placeholder: "Search", "aria-label": "Search models", spellcheck: false });
  const kinds = make("div", { class: "models-kinds", role: "group", "aria-label": "Kind" });
  const family = make("select", { class: "models-family", "aria-label": "Family" });
  const count = make("p", { class: "models-count", role: "status" });
  const list = make("div", { class: "models-cards" });
  const end = make("div", { class: "models-end" });
  const empty = make("div", { class: "models-empty" });
  const trouble = make("p", { class: "notice", role: "alert" });
  const hub = makeHub(load);
  const memory = makeMemory();
  section.append(
    make("div", { class: "models-bar" }, search, family, count, hub.button),
    hub.panel, memory.element, kinds, trouble, list, end, empty,
  );

  let all = [];
  let bases = {};
  let folders = [];
  let kind = "model";
  let matching = [];
  let drawn = 0;
  let known = "";

  function look() {
    load();
    memory.look();
  }

  async function load() {
    try {
      const found = await request("models");
      const text = JSON.stringify(found);
      setText(trouble, "");
      if (text === known) return;
      known = text;
      ({ models: all, bases, folders } = found);
      draw();
    } catch (error) {
      setText(trouble, error.message);
    }
  }

  function draw() {
    drawKinds();
    const present = Object.entries(bases).filter(([base]) => all.some((each) => each.base === base));
    const chosen = family.value;
    family.replaceChildren(make("option", { value: "" }, "All families"), ...present.map(([base, label]) => make("option", { value: base }, label)));
    family.value = present.some(([base]) => base === chosen) ? chosen : "";
    family.hidden = present.length < 2;
    filter();
  }

  function drawKinds() {
    const there = KINDS.filter(([name]) => all.some((each) => each.kind === name));
    if (!there.some(([name]) => name === kind)) kind = there[0]?.[0] ?? "model";
    kinds.replaceChildren(...there.map(([name, label]) => {
      const number = all.filter((each) => each.kind === name).length;
      const button = make("button", { type: "button", class: "models-kind", "aria-pressed": String(name === kind) }, label, make("small", {}, ` ${number}`));
      button.addEventListener("click", () => {
        kind = name;
        for (const each of kinds.children) each.setAttribute("aria-pressed", String(each === button));
        filter();
      });
      return button;
    }));
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    matching = all.filter((each) => {
      if (each.kind !== kind || (family.value && each.base !== family.value)) return false;
      const text = [each.name, each.title, each.author, each.variant, each.own, bases[each.base] ?? each.family, ...each.triggers].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    drawn = 0;
    list.replaceChildren();
    more();
    const total = all.filter((each) => each.kind === kind).length;
    setText(count, matching.length === total ? "" : `${matching.length} of ${total}`);
    drawEmpty(total);
  }

  function more() {
    const next = matching.slice(drawn, drawn + BATCH);
    list.append(...next.map((each) => card(each, bases, () => showModel(each, { bases, changed: load }))));
    drawn += next.length;
  }

  /** Where files go, if there are none but the bundled model; and that nothing fits what was searched for. */
  function drawEmpty(total) {
    const own = all.filter((each) => each.kind === "model").length < 2;
    const parts = [];
    if (total && !matching.length) parts.push(make("p", {}, "Nothing fits. Search for less, or choose another kind or family."));
    else if (own) {
      const begin = make("button", { type: "button", class: "act strong" }, "Which model to begin with");
      begin.addEventListener("click", hub.open);
      parts.push(make("p", {}, "“sketchbook” is the small model that comes with the studio, and draws at once. Others draw more, and better."), begin);
      parts.push(make("p", {}, "Put .safetensors or .gguf files and diffusers folders here, in folders as you like:"));
      const places = folders.map(({ path, there }) => make("li", {}, make("code", {}, path), there ? "" : " (not there yet)"));
      parts.push(make("ul", {}, ...places));
      parts.push(make("p", {}, "Start the studio with --models and the folder of A1111, Forge, ComfyUI or InvokeAI to use what is there. What is added shows up here by itself."));
    }
    empty.replaceChildren(...parts);
    empty.hidden = !parts.length;
  }

  search.addEventListener("input", filter);
  family.addEventListener("change", filter);
  search.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") list.querySelector("button")?.focus();
  });
  new IntersectionObserver((seen) => seen[0].isIntersecting && drawn < matching.length && more(), { rootMargin: "800px" }).observe(end);
  // The folders are looked at whenever the tab comes into sight, and when the person comes back to the window.
  new IntersectionObserver((seen) => seen[0].isIntersecting && look()).observe(section);
  window.addEventListener("focus", () => section.checkVisibility() && look());
  hub.follow();
}

/** What a card shows of a model; a press opens it. */
function card(each, bases, open) {
  const button = make("button", { type: "button", class: "models-card" });
  if (each.problem) button.classList.add("has-problem");
  const kindOf = [bases[each.base] ?? each.family, each.variant].filter(Boolean).join(" ");
  const facts = [each.precision, each.bytes ? size(each.bytes) : "", each.bundled ? "comes with the studio" : ""].filter(Boolean).join(" · ");
  const words = make("span", { class: "models-words" }, make("bdi", { class: "models-name", title: each.name }, each.name));
  if (kindOf) words.append(make("span", { class: "models-facts" }, kindOf));
  if (facts) words.append(make("span", { class: "models-facts" }, facts));
  if (each.problem) words.append(make("span", { class: "models-problem" }, "Cannot be used"));
  else if (each.kind === "lora" && each.triggers.length) words.append(make("span", { class: "models-facts models-triggers" }, each.triggers.join(", ")));
  button.append(pictureOf(each), words);
  button.title = each.problem || each.title || each.name;
  button.addEventListener("click", open);
  return button;
}
