// Handing what is on the easel to the server. What it has already is not sent again.

import { fileOf, post } from "../common/server.js";
import { newCanvas } from "./strokes.js";

/**
 * A function that sends what is missing and returns the names, {source, mask}, empty where there is nothing.
 * `drawPicture(context)` draws the picture without what was painted on it.
 */
export function makeHandOver(mode, strokes, drawPicture) {
  let sent = { key: "", name: "" };

  async function once(key, send) {
    if (sent.key !== key) sent = { key, name: (await send()).name };
    return sent.name;
  }

  const mask = (picture) =>
    once(`${picture.name} ${strokes.key}`, async () => post(`sources/masks?source=${picture.name}`, await fileOf(strokes.grey())));

  function sketch({ name, width, height, colour }) {
    if (!colour && strokes.isEmpty) return name;
    return once(`${name || `${colour} ${width} ${height}`} ${strokes.key}`, async () => {
      const canvas = newCanvas(width, height);
      const context = canvas.getContext("2d");
      drawPicture(context);
      context.drawImage(strokes.canvas, 0, 0);
      return post("sources", await fileOf(canvas));
    });
  }

  return async (picture) => {
    if (!picture) return { source: "", mask: "" };
    if (mode === "mask") return { source: picture.name, mask: await mask(picture) };
    return { source: await sketch(picture), mask: "" };
  };
}
