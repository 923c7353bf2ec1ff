// Words of the page that have too little contrast with what is below them, as texts: “3.21 tag.class: words”.
(least) => {
  // "rgb(1, 2, 3)", "rgba(1, 2, 3, 0.4)", "color(srgb 0.1 0.2 0.3 / 0.4)" → four numbers from 0 to 1.
  const channels = (text) => {
    const numbers = text.match(/-?[0-9.]+(e-?[0-9]+)?/g).map(Number);
    const scale = text.startsWith("color(") ? 1 : 255;
    return [...numbers.slice(0, 3).map((each) => each / scale), numbers[3] ?? 1];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
  const light = (rgb) => {
    const [r, g, b] = rgb.map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const ancestors = (element) => (element ? [element, ...ancestors(element.parentElement)] : []);
  const colour = (element) => channels(getComputedStyle(element).backgroundColor);
  const ground = (element) => ancestors(element).reverse().reduce((below, each) => over(colour(each), below), [1, 1, 1, 1]);
  const found = [];
  const measure = (element, style, text) => {
    if (element.closest(":disabled, [aria-disabled=true], .off, .only-spoken, .frame, .cell, .easel-view, .compare")) return;
    if (!element.checkVisibility({ visibilityProperty: true }) || !element.getClientRects().length) return;
    const [r, g, b, a] = channels(style.color);
    const shows = ancestors(element).reduce((product, each) => product * Number(getComputedStyle(each).opacity), 1);
    if (shows === 0) return;
    const below = ground(element);
    const own = style.opacity === undefined || style.content === "none" ? 1 : Number(style.opacity);
    const seen = over([r, g, b, a * shows * (style.isPseudo ? own : 1)], below);
    const value = contrast(seen, below);
    const name = `${element.tagName.toLowerCase()}.${String(element.className).replaceAll(" ", ".")}`;
    if (value < least) found.push(`${value.toFixed(2)} ${name.slice(0, 60)}: ${text.trim().slice(0, 40)}`);
  };
  const pseudo = (element, which) => {
    const style = getComputedStyle(element, which);
    return { color: style.color, opacity: style.opacity, content: style.content, isPseudo: true };
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { parentElement, data } = walker.currentNode;
    if (data.trim() && !["SCRIPT", "STYLE", "NOSCRIPT"].includes(parentElement.tagName)) {
      measure(parentElement, { color: getComputedStyle(parentElement).color }, data);
    }
  }
  for (const element of document.querySelectorAll("input:not([type=range], [type=color], [type=radio], [type=checkbox]), textarea, select")) {
    if (element.value) measure(element, { color: getComputedStyle(element).color }, element.value);
    if (element.placeholder) measure(element, pseudo(element, "::placeholder"), element.placeholder);
  }
  for (const element of document.querySelectorAll("body *")) {
    for (const which of ["::before", "::after"]) {
      const style = pseudo(element, which);
      if (/[\p{L}]/u.test(style.content) && style.content !== "none" && style.content !== "normal") measure(element, style, style.content);
    }
  }
  return found;
}
