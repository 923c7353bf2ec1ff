// Models to begin with, and the folder that files brought by hand go into.

import { icon } from "../common/icons.js";
import { ask } from "./server.js";
import { make, setText } from "../common/words.js";

/** An element and `load()`, which fills it. `choose(name)` is called with the one that a person wants. */
export function makeBeginnings(choose) {
  const list = make("ul", { class: "beginnings" });
  const dated = make("p", { class: "models-facts" });
  const path = make("code");
  const folder = make("button", { type: "button", class: "act" });
  const said = make("p", { class: "models-facts", role: "status" });
  const element = make("div", {},
    make("h3", {}, "Good models to begin with"), dated, list,
    make("h3", {}, "Files that you have"),
    make("p", { class: "models-facts" }, "Put .safetensors and .gguf files and diffusers folders into ", path, ", in folders as you like. They show up here by themselves."),
    folder, said,
  );

  async function load() {
    try {
      draw(await ask("models/beginnings"));
    } catch (error) {
      setText(said, error.message);
    }
  }

  function draw(found) {
    setText(path, found.folder);
    setText(folder, found.opens ? "Open the models folder" : "Copy the folder's path");
    const memory = `${Math.round(found.memory.bytes / 1e9)} GB of memory${found.memory.card ? " on its graphics card" : ""}`;
    setText(dated, `As of ${found.looked_up}; the hub's page of each has more. This machine has ${memory}: what is larger is drawn too, but slowly.`);
    list.replaceChildren(...found.models.map((each) => row(each)));
  }

  function row(each) {
    const get = make("button", { type: "button", class: "act" }, icon("download"), make("span", {}, "Look up"));
    get.setAttribute("aria-label", `Look up ${each.title}`);
    get.addEventListener("click", () => choose(each.name));
    const fits = make("span", { class: "beginnings-fit" }, each.fits ? "Fits this machine" : "Larger than this machine's memory");
    fits.dataset.fits = each.fits;
    const gated = each.gated ? "asks you to accept it on its page and to sign in" : "";
    const facts = [`${each.disk_gb} GB to download`, `${each.memory_gb} GB of memory`, each.license, gated].filter(Boolean).join(" · ");
    return make("li", {}, make("div", {}, make("strong", {}, each.title), " ", fits, make("p", {}, each.for), make("p", { class: "models-facts" }, facts)), get);
  }

  folder.addEventListener("click", async () => {
    try {
      const made = await ask("models/folder", { method: "POST" });
      setText(path, made.folder);
      if (!made.opened) await navigator.clipboard.writeText(made.folder);
      setText(said, made.opened ? "The folder is open in your file manager." : "The path is copied.");
    } catch (error) {
      setText(said, error instanceof DOMException ? "The path could not be copied. It stands above." : error.message);
    }
  });

  return { element, load };
}
