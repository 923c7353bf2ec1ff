// How the stage's tiles lie: in how many columns, how large, and with the bar below them or beside them.

/** Pixels beside tiles that are scrolled: the bar for that, and the space around them. */
const SCROLLBAR = 22;

/**
 * Lay `count` tiles of shape `ratio` (width / height) out as large as the stage's room allows; the sizes of all else are custom
 * properties of it, in studio.css. Says in `data-bar` where the bar is, and returns the width of a `tile` in pixels.
 */
export function spread(section, tiles, count, ratio) {
  const style = getComputedStyle(section);
  const pixels = (name) => parseFloat(style.getPropertyValue(name)) || 0;
  const room = { width: section.clientWidth, height: section.clientHeight };
  const label = count > 1 ? pixels("--label") : 0;
  const sizes = { gap: pixels("--gap"), label, least: pixels("--least") * Math.min(ratio, 1) };
  const below = best(Math.max(count, 1), ratio, { ...room, height: room.height - pixels("--bar") }, sizes);
  const panel = pixels("--panel");
  // Without a picture there is nothing to say beside it; 0 means that the screen is too small for that.
  const canBeBeside = panel > 0 && count > 0;
  const beside = canBeBeside ? best(count, ratio, { ...room, width: room.width - panel }, sizes) : { tile: 0, scrolls: true };
  const isBeside = !beside.scrolls && (below.scrolls || beside.tile > below.tile);
  const chosen = isBeside ? beside : below;
  section.dataset.bar = isBeside ? "beside" : "below";
  tiles.toggleAttribute("data-many", count > 1);
  tiles.toggleAttribute("data-scrolls", chosen.scrolls);
  tiles.style.setProperty("--columns", chosen.columns);
  tiles.style.setProperty("--tile", `${chosen.tile}px`);
  tiles.style.setProperty("--ratio", ratio);
  return chosen;
}

/** The columns that make tiles largest, with few gaps at the end; if they become too small for that, all the width. */
function best(count, ratio, room, { gap, label, least }) {
  let found = { tile: 0, columns: 1, scrolls: false };
  let most = 0;
  const across = (columns, width = room.width) => Math.floor((width - (columns - 1) * gap) / columns);
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const high = (room.height - (rows - 1) * gap) / rows - label;
    const tile = Math.floor(Math.min(across(columns), high * ratio));
    const worth = tile - (rows * columns - count);
    if (worth < most) continue;
    most = worth;
    found = { tile, columns, scrolls: false };
  }
  if (found.tile >= Math.min(least, across(1))) return found;
  const columns = Math.max(1, Math.min(count, Math.floor((room.width - SCROLLBAR + gap) / (least + gap))));
  return { tile: Math.min(across(columns, room.width - SCROLLBAR), Math.max(least, room.height * ratio)), columns, scrolls: true };
}
