"""What is measured of a page for those who cannot see it well: axe-core's rules, and the contrast of all words."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

LEAST_CONTRAST = 4.5
"""Of words on their ground, as WCAG 2.2 asks in 1.4.3 at level AA for all but large ones."""

ALL_LOOKS = [(scheme, size) for size in ((1440, 900), (390, 844)) for scheme in ("light", "dark")]

TWO_LOOKS = ALL_LOOKS[0], ALL_LOOKS[3]
"""Each scheme and each size once, for what is laid out alike everywhere."""

CONTRASTS = Path(__file__).with_name("contrasts.js").read_text("utf-8")


def still(page: Page) -> None:
    """No transitions and animations, so that colours are measured as they end."""
    page.add_style_tag(content="*, *::before, *::after { transition: none !important; animation: none !important; }")


def dress(page: Page, scheme: str, size: tuple[int, int]) -> None:
    """Give the page a colour scheme and a size."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    # Gradio does so when the scheme changes, and on a busy machine not always.
    page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", scheme == "dark")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def violations(page: Page) -> list[str]:
    """What axe-core finds: rule, element and what is wrong, a line each."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} at {node['target'][0]}: {node['failureSummary'].splitlines()[-1].strip()}"
        for rule in found
        for node in rule["nodes"]
    ]


def faint(page: Page) -> list[str]:
    """Words, placeholders and what is typed with less contrast than they need, but for those over pictures."""
    found: list[str] = page.evaluate(CONTRASTS, LEAST_CONTRAST)
    return found


def hover_all(page: Page, kind: str) -> None:
    """Have all elements of this kind look as if the pointer was over them."""
    client = page.context.new_cdp_session(page)
    client.send("DOM.enable")
    client.send("CSS.enable")
    root = client.send("DOM.getDocument")["root"]["nodeId"]
    for node in client.send("DOM.querySelectorAll", {"nodeId": root, "selector": kind})["nodeIds"]:
        client.send("CSS.forcePseudoState", {"nodeId": node, "forcedPseudoClasses": ["hover"]})


def faults_in(page: Page, what: str, looks: Iterable[tuple[str, tuple[int, int]]] = TWO_LOOKS) -> list[str]:
    """Both, in these looks. what: the state that the page is in."""
    found = []
    for scheme, size in looks:
        dress(page, scheme, size)
        found += [f"{what}, {scheme}, {size[0]}: {each}" for each in violations(page) + faint(page)]
    return found
