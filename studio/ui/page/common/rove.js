// Groups of controls that are one stop for Tab, in which the arrow keys lead on: as in any program's toolbar or radio buttons.

const NEXT = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** Make `group` one stop: what `find()` returns of it, in their order, which may change. */
export function rove(group, find = () => [...group.querySelectorAll("button")]) {
  let stop = null; // where Tab leads to

  function point(to) {
    stop = to;
    for (const each of find()) each.tabIndex = each === to ? 0 : -1;
  }

  function renew() {
    const all = find();
    point(all.includes(stop) ? stop : (all[0] ?? null));
  }

  group.addEventListener("focusin", ({ target }) => find().includes(target) && point(target));
  group.addEventListener("keydown", (event) => {
    const all = find();
    const at = all.indexOf(event.target);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = { Home: 0, End: all.length - 1 }[event.key] ?? at + (NEXT[event.key] ?? NaN);
    if (Number.isNaN(to)) return;
    event.preventDefault();
    all[Math.min(Math.max(to, 0), all.length - 1)].focus();
  });
  new MutationObserver(renew).observe(group, { childList: true, subtree: true });
  renew();
}
