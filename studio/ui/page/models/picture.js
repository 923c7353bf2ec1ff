// The picture by which a model is known: in its card, and large where it is looked at alone.

import { icon } from "../common/icons.js";
import { make } from "../common/words.js";

/** A picture of a model: its own, one that was made with it, or its first letter. */
export function pictureOf(each) {
  const place = make("span", { class: "models-picture" });
  const address = each.thumbnail
    ? `models/thumbnail?key=${encodeURIComponent(each.key)}&version=${each.thumbnail}`
    : each.picture && each.kind === "model" ? `thumbnails/${encodeURIComponent(each.picture)}` : "";
  const letter = () => place.replaceChildren(make("span", { class: "models-letter", "aria-hidden": "true" }, icon(each.kind === "model" ? "picture" : "blank")));
  if (!address) letter();
  else {
    const image = make("img", { alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", letter);
    image.src = address;
    place.append(image);
  }
  return place;
}
