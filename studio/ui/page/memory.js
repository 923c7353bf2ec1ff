// What the easel remembers when the page is loaded again: in the browser itself, each tab of the studio for itself.

const key = (place) => `emerge.easel.${place}`;

/** What was remembered: {picture, entries, brush, settings}, or less. */
export function recall(place) {
  try {
    return JSON.parse(localStorage.getItem(key(place))) ?? {};
  } catch {
    return {};
  }
}

export function remember(place, { entries, ...all }) {
  try {
    const bare = entries.map(({ id, ...entry }) => entry);
    localStorage.setItem(key(place), JSON.stringify({ entries: bare, ...all }));
  } catch {
    // No room, or not allowed: then it is not remembered.
  }
}
