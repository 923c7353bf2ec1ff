// Small drawings for buttons: one path each, on a grid of 24, drawn with a pen of even width.

const ICONS = {
  download: "M12 4v11m0 0-4-4m4 4 4-4M5 20h14",
  upload: "M12 15V4m0 0L8 8m4-4 4 4M5 20h14",
  settings: "M4 7h9m4 0h3M4 17h3m4 0h9M13 4.5v5M7 14.5v5",
  seed: "M12 20.500v-9M12 12c0-4-2.500-6.500-7.500-6.500 0 4.500 2.500 6.500 7.500 6.500zM12 14.500c0-3.300 2.300-5.500 7.500-5.500 0 3.800-2.700 5.500-7.500 5.500z",
  film: "M4 5h16v14H4zM8 5v14M16 5v14M4 9.700h4M4 14.300h4M16 9.700h4M16 14.300h4",
  stop: "M7 7h10v10H7z",
  continue: "M8 6v12l10-6z",
  play: "M8 6v12l10-6z",
  fork: "M6 4v16M6 13c0-5 11-3 11-9m0 0-3 3m3-3 3 3",
  back: "M4 12a8 8 0 1 0 2.500-5.800M4 4v4.500h4.500M12 8v4.500l3 1.800",
  drop: "M6.5 6.5l11 11m0-11-11 11",
  send: "M4 12h15m0 0-5-5m5 5-5 5",
  subtle: "M9 9h10v10H9zM5 15V5h10",
  strong: "M11 11h9v9h-9zM7.5 16.5v-9h9M4 13V4h9",
  compare: "M12 3v18M9 6H4v12h5M15 6h5v12h-5",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9h.01",
  brush: "M20 4c-5 2-8.5 5.5-10.5 9.5l1 1C14.5 12.5 18 9 20 4zM8.5 14.500c-2 0-3.3 1.3-3.3 3.2 0 1.2-.7 1.9-1.7 2.3 3.3.8 7-.6 7-4",
  eraser: "M4 15l9.5-9.5 6 6L12 19H8zM8.8 10.200l6 6M12 19h8",
  lasso: "M12 4.500c4.8 0 8 2.1 8 5s-3.2 5-8 5-8-2.1-8-5 3.2-5 8-5zM7.5 14c-1.6.9-1.2 3 .7 3s1.8 3.3-.7 3.5",
  pick: "M4 20l.8-3.6 8.4-8.4 2.8 2.8-8.4 8.400zM11.5 6.300l6.2 6.200M14.5 6.5 17 4c1.7-1.4 4.4 1.3 3 3l-2.5 2.5",
  undo: "M8 5.5 4 9.500l4 4M4 9.500h10.500a4.8 4.8 0 0 1 0 9.500H11",
  redo: "M16 5.500l4 4-4 4M20 9.500H9.500a4.8 4.8 0 0 0 0 9.500H13",
  invert: "M12 4a8 8 0 0 0 0 16zM12 4a8 8 0 0 1 0 16M12 8l-6.5 5M12 12.500l-5 4.5",
  fill: "M5 5h14v14H5zM5 12l7-7M5 19 19 5M12 19l7-7",
  clear: "M5 7h14M10 7V4.500h4V7M7 7l.8 12.500h8.400L17 7M10.5 11v5M13.5 11v5",
  mask: "M4 5h16v14H4zM12 8.500a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z",
  extend: "M9 9h6v6H9zM12 6V2.500m0 0L10.5 4M12 2.5 13.5 4M12 18v3.500m0 0L10.5 20m1.5 1.5 1.5-1.500M6 12H2.500m0 0L4 10.500M2.5 12 4 13.500M18 12h3.500m0 0L20 10.500m1.5 1.500L20 13.5",
  camera: "M4 8h4l1.5-2.500h5L16 8h4v11H4zM12 10.200a3.1 3.1 0 1 0 0 6.2 3.1 3.1 0 0 0 0-6.200z",
  library: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  blank: "M6 3.500h8.500L18 7v13.500H6zM14 3.500V7.500h4",
  larger: "M9 4H4v5M15 4h5v5M9 20H4v-5M15 20h5v-5",
  smaller: "M4 9h5V4M20 9h-5V4M4 15h5v5M20 15h-5v5",
  minus: "M6 12h12",
  plus: "M6 12h12M12 6v12",
  hold: "M9 6.500v11M15 6.500v11",
  only: "M4 9V4.500h4.500M15.500 4.500H20V9M20 15v4.500h-4.500M8.500 19.500H4V15M9.500 9.500h5v5h-5z",
  star: "M12 3.500l2.600 5.700 6.200.7-4.600 4.200 1.300 6.100L12 17.100l-5.500 3.100 1.300-6.100L3.200 9.900l6.200-.7z",
  check: "M5 12.500l4.500 4.500L19 7.500",
  none: "",
  sort: "M5 6.500h14M5 12h9.500M5 17.500h5",
  keys: "M3.500 7h17v10.500h-17zM7 10.500h.01M10.300 10.500h.01M13.700 10.500h.01M17 10.500h.01M8.500 14h7",
};

/** A small drawing; its meaning must be said elsewhere. */
export function icon(name) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  drawing.append(path);
  return drawing;
}
