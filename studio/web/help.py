"""The documents as pages that the studio serves itself, so that help needs no network."""

import re
from functools import lru_cache
from html import escape

from fastapi import APIRouter
from markdown_it import MarkdownIt
from markdown_it.token import Token
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from studio import __version__, disk
from studio.errors import StorageError
from studio.models.catalog import ASSETS
from studio.settings import ROOT

DOCS = ROOT / "docs"

PAGES = {
    "text-to-image": "Text to image",
    "prompts": "Prompts",
    "styles": "Styles",
    "image-to-image": "Image to image",
    "inpainting": "Inpainting",
    "compare": "Compare",
    "add-ons": "Add-ons: LoRAs, VAE, controls",
    "models": "Which models run, and how",
    "models-folder": "Models on disk, and from the hub",
    "memory": "Models and memory",
    "settings": "Settings of the program",
    "security": "Security",
    "architectures": "Architectures",
    "architecture": "How the studio is built",
}
"""Name of a document and what it is called in the list, in order."""

_LARGEST = 1_000_000
_SCREENSHOTS = "../assets/screenshots/"


def routes() -> APIRouter:
    """`/help`, the list, and `/help/{name}`, a document."""
    router = APIRouter()

    @router.get("/help")
    def contents() -> HTMLResponse:
        links = "".join(f'<li><a href="help/{name}">{escape(title)}</a></li>' for name, title in PAGES.items())
        return _page("Help", f"<h1>Help</h1><ul>{links}</ul><p>Emerge Studio {__version__}, Apache License 2.0.</p>")

    @router.get("/help/{name}")
    def document(name: str) -> HTMLResponse:
        if name not in PAGES:
            raise StorageError("There is no such page of help. The list is at /help.")
        return _page(PAGES[name], _html(disk.content(DOCS / f"{name}.md", _LARGEST).decode("utf-8")), "../")

    return router


def screenshots() -> StaticFiles:
    """The pictures in the documents, at `/help/pictures`."""
    return StaticFiles(directory=ASSETS / "screenshots", check_dir=False)


def section(heading: str) -> str:
    """The name by which a heading is linked to, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@lru_cache(len(PAGES))
def _html(text: str) -> str:
    """A document as HTML. What of HTML is in it is shown as text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token, content in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and content:
            token.attrSet("id", section("".join(each.content for each in content.children or ())))
        for each in token.children or ():
            _lead(each)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _lead(token: Token) -> None:
    """Links among the documents lead to pages of the help; to other files there are none."""
    target = str(token.attrGet("href") or "")
    if token.type == "image":
        token.attrSet("src", str(token.attrGet("src")).replace(_SCREENSHOTS, "pictures/"))
    elif token.type == "link_open" and not target.startswith(("#", "https://")):
        name, _, place = target.partition("#")
        known = name.removesuffix(".md") in PAGES
        token.attrSet("href", f"{name.removesuffix('.md')}{'#' if place else ''}{place}" if known else "../help")
    elif token.type == "link_open" and target.startswith("https://"):
        token.attrSet("target", "_blank")
        token.attrSet("rel", "noreferrer")


def _page(title: str, body: str, up: str = "") -> HTMLResponse:
    """up: leads to the studio's own address, which a proxy may have below a path."""
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} · Emerge Studio</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" type="image/svg+xml" href="{up}page/icon.svg">'
        f'<link rel="stylesheet" href="{up}page/common/pages.css">'
        f'</head><body><nav><a href="{up or "./"}">Emerge Studio</a> <a href="{up}help">Help</a></nav>'
        f"<main>{body}</main></body></html>",
        headers={"Cache-Control": "no-cache"},
    )
