"""What lies beside a model under its name: a preview picture, and notes as A1111, Civitai and their helpers write them.

All of it was written by somebody else: text comes back bounded and with nothing invisible in it, and pictures are
decoded and encoded anew.
"""

import base64
import binascii
import contextlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from PIL import Image

from studio import disk
from studio.errors import Busy, ModelError
from studio.files import headers
from studio.files.folders import visible
from studio.models.catalog import Entry
from studio.pictures.gate import Gate

SIDE = 384
"""Pixels of the longer side of a thumbnail."""

_PICTURES = (".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp")
_NOTES = (".txt", ".md", ".civitai.info", ".json", ".cm-info.json", ".metadata.json")

_TEXT_LIMIT, _SHOWN = 2_000_000, 6000
_PICTURE_LIMIT, _PIXELS = 30_000_000, 40_000_000


@dataclass(frozen=True, slots=True)
class Notes:
    """What sidecars and the header say. text: for reading. triggers: words that call up what a LoRA draws."""

    text: str = ""
    triggers: tuple[str, ...] = ()
    weight: float | None = None


@dataclass(slots=True)
class _Found:
    texts: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    weight: float | None = None


def has_thumbnail(entry: Entry) -> bool:
    """Whether there is a picture beside the model or in its header; it may still turn out to be none."""
    return _picture(entry.sidecars) is not None or entry.identity.has_thumbnail


def thumbnail(entry: Entry, gate: Gate) -> bytes:
    """A JPEG of the picture beside the model, or of the one in its header. Raises ModelError if there is none, Busy."""
    with contextlib.suppress(OSError, ValueError, ModelError):
        if path := _picture(entry.sidecars):
            return _small(disk.content(path, _PICTURE_LIMIT), gate)
    with contextlib.suppress(ValueError):
        if entry.identity.has_thumbnail and entry.single:
            return _small(_embedded(headers.read(entry.path).metadata.get("modelspec.thumbnail", "")), gate)
    raise ModelError(f"{entry.name} has no picture that can be shown.")


def notes(entry: Entry) -> Notes:
    """What is told about a model beside it and in its header, newest ways first. Never fails."""
    found = _Found()
    for path in sorted(entry.sidecars, key=lambda each: each.name):
        if not path.name.lower().endswith(_NOTES):
            continue
        with contextlib.suppress(OSError, ValueError, RecursionError):
            with disk.opened(path) as file:
                text = file.read(_TEXT_LIMIT).decode("utf-8", "replace")
            if path.suffix.lower() in (".json", ".info"):
                _from_json(json.loads(text), found)
            else:
                found.texts.append(text)
    found.texts.append(entry.identity.notes)
    found.words += entry.identity.triggers
    text = "\n\n".join(dict.fromkeys(each.strip() for each in found.texts if each.strip()))
    words = dict.fromkeys(visible(word.strip())[:100] for word in found.words if word.strip())
    return Notes(visible(text[:_SHOWN], lines=True), tuple(words)[:40], found.weight)


def _picture(sidecars: Iterable[Path]) -> Path | None:
    for ending in _PICTURES:
        for path in sidecars:
            if path.name.lower().endswith(ending):
                return path
    return None


def _embedded(uri: str) -> bytes:
    """The bytes of a `data:` address of a picture. Raises ValueError."""
    match = re.match(r"data:image/(?:jpeg|jpg|png|webp);base64,", uri)
    if not match or len(uri) > _PICTURE_LIMIT:
        raise ValueError("no picture")
    try:
        return base64.b64decode(uri[match.end() :], validate=True)
    except binascii.Error as error:
        raise ValueError("no picture") from error


def _small(data: bytes, gate: Gate) -> bytes:
    """The picture as a small JPEG. Raises ValueError if it is none, or too large."""
    if len(data) > _PICTURE_LIMIT:
        raise ValueError("too large")
    result = io.BytesIO()
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
            if image.width * image.height > _PIXELS:
                raise ValueError("too large")
            image.draft("RGB", (SIDE * 2, SIDE * 2))
            with gate(image.width * image.height):
                flat = image.convert("RGBA") if image.mode in ("P", "LA", "PA", "RGBA") else image.convert("RGB")
                flat.thumbnail((SIDE, SIDE))
            if flat.mode == "RGBA":
                flat = Image.alpha_composite(Image.new("RGBA", flat.size, "#888"), flat).convert("RGB")
            flat.save(result, "JPEG", quality=85)
    except Busy:
        raise
    except Exception as error:  # the file may be anything, and decoders fail in ways of their own
        raise ValueError("no picture") from error
    return result.getvalue()


def _from_json(value: Any, found: _Found) -> None:
    """A1111's own .json, Civitai Helper's .civitai.info, Stability Matrix' .cm-info.json."""
    if not isinstance(value, dict):
        return
    model = value.get("model")
    name = model.get("name") if isinstance(model, dict) else ""
    for text in (name, value.get("description"), value.get("ModelDescription"), value.get("notes")):
        if isinstance(text, str):
            found.texts.append(_plain(text))
    for key in ("trainedWords", "TrainedWords"):
        words = value.get(key)
        found.words += [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
    if isinstance(value.get("activation text"), str):
        found.words += value["activation text"].split(",")
    weight = value.get("preferred weight")
    if isinstance(weight, int | float) and 0 < weight <= 10:
        found.weight = float(weight)


def _plain(text: str) -> str:
    """Text of what may be HTML."""
    if "<" not in text:
        return text
    reader = _Text()
    reader.feed(text[: 8 * _SHOWN])  # readers of HTML can be slow on what was made to be
    reader.close()
    return re.sub(r"\n{3,}", "\n\n", "".join(reader.parts()))


class _Text(HTMLParser):
    """Only the text, with a line for each paragraph."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[str] = []
        self._hidden = 0

    def parts(self) -> Iterator[str]:
        yield from self._parts

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden += tag in ("script", "style")
        if tag in ("p", "br", "li", "div", "h1", "h2", "h3"):
            self._parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(data)
