// What the easel asks of the server, and what it says of failures.

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
