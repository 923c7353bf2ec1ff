// What the page asks of the server, and what it says of failures.

const SILENT = "The studio does not answer. Is it still running?";

/** The server's answer to a file, or to nothing but the address; an Error with a sentence if it is refused. */
export async function post(address, body = null) {
  let answer;
  try {
    answer = await fetch(address, { method: "POST", body });
  } catch {
    throw new Error(SILENT);
  }
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(data.error ?? "The studio could not take this. Its window tells more.");
  return data;
}

/**
 * Pictures of the library, the newest first: `count` of them from the one after `before` on, and whether there are `more`. Null
 * if the studio does not answer.
 */
export async function recent(count, before = "") {
  // One more than is wanted tells whether there is anything left.
  const query = new URLSearchParams({ count: count + 1, ...(before && { before }) });
  const answer = await fetch(`pictures?${query}`).catch(() => null);
  if (!answer?.ok) return null;
  const { pictures } = await answer.json();
  return { pictures: pictures.slice(0, count), more: pictures.length > count };
}

/** A start picture or a mask that can be drawn; an Error with a sentence if there is none of this name. */
export async function sourceImage(name) {
  const image = new Image();
  image.src = `sources/${name}.png`;
  try {
    await image.decode();
  } catch {
    throw new Error("The start picture is not in the studio any more. Bring it in again.");
  }
  return image;
}

/** The file that a canvas makes. */
export const fileOf = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
