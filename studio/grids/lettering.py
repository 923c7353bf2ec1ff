"""Words drawn into pictures in whatever script they are written: fonts, line breaks, and the direction of letters.

A first font comes with Gradio (IBM Plex Sans, SIL Open Font License 1.1): Latin, Greek, Cyrillic. For other scripts the
fonts of the system are looked through. What none has is named in brackets, never drawn as a box.
"""

import bisect
import contextlib
import itertools
import os
import re
import struct
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ImageDraw, ImageFont, features

from studio import disk
from studio.errors import StudioError

LONGEST = 300
"""Letters of a text that are looked at."""

MOST_FONTS = 3000
"""Files of fonts that are looked through."""

_PLEX = "templates/frontend/static/fonts/IBMPlexSans/IBMPlexSans-Regular.woff2"
_BUNDLED = Path()
"""Stands for Pillow's own font, where there is no other: it has little beyond ASCII."""

_SCRIPTS = {"CJK": "Chinese characters", "HIRAGANA": "Japanese kana", "KATAKANA": "Japanese kana", "HANGUL": "Korean"}
_SYMBOLS = "some symbols"
_LESS = (
    *("bold", "italic", "oblique", "thin", "light", "black", "medium"),
    *("mono", "serif", "condensed", "narrow", "lastresort"),
)
"""Words in the names of fonts that are taken only where no plain one has a letter."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Letters side by side in one font and direction."""

    text: str
    font: Path
    backward: bool


class Lettering:
    """Draws text of one size. missing: what of all that was written has no font, by script."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.missing: set[str] = set()
        self._fonts: dict[Path, Any] = {}

    @property
    def line_height(self) -> int:
        """Pixels from one line to the next, with room for the marks above and below letters."""
        return round(self.size * 1.5)

    def lines(self, text: str, width: int, most: int) -> list[str]:
        """The text in at most so many lines of at most so many pixels; an ellipsis tells that there is more.

        Letters without a font are replaced by their name. A line holds at least one letter.
        """
        rest = [part for word in re.findall(r"\s+|\S+", self._readable(text)) for part in self._parts(word, width)]
        lines: list[str] = []
        while rest and len(lines) < most:
            line = ""
            while rest and (not line or self.width(line + rest[0].rstrip()) <= width):
                line = (line + rest.pop(0)).lstrip()
            lines.append(line.rstrip())
            while rest and rest[0].isspace():
                rest.pop(0)
        if rest or len(text) > LONGEST:
            lines[-1] = self._cut(lines[-1], width)
        return lines

    def width(self, line: str) -> int:
        """Pixels that a line takes."""
        return round(sum(self._of(piece.font).getlength(*self._shaped(piece)) for piece in _pieces(line)))

    def draw(self, draw: ImageDraw.ImageDraw, x: int, y: int, line: str, ink: str) -> None:
        """Draw a line whose top left corner is at x, y."""
        at, base = float(x), y + round(self.size * 1.1)
        for piece in _pieces(line):
            font, (text, direction) = self._of(piece.font), self._shaped(piece)
            draw.text((at, base), text, ink, font, anchor="ls", direction=direction)
            at += font.getlength(text, direction=direction)

    def sentence(self) -> str:
        """What to tell of letters that were named instead of drawn; empty if there were none."""
        if not self.missing:
            return ""
        *others, last = sorted(self.missing)
        names = f"{', '.join(others)} and {last}" if others else last
        return f"This machine has no font for {names}: names in brackets stand for what is written."

    def _parts(self, word: str, width: int) -> list[str]:
        """A word as it is, or its letters if it is wider than a line."""
        return [word] if self.width(word) <= width else list(_clusters(word))

    def _cut(self, line: str, width: int) -> str:
        letters = list(_clusters(line))
        while len(letters) > 1 and self.width("".join(letters) + "…") > width:
            letters.pop()
        return "".join(letters).rstrip() + "…"

    def _readable(self, text: str) -> str:
        """The text with the names of letters that have no font, and without marks that only steer other programs."""
        found, before = [], ""
        for letter in _clusters(_plain(text)):
            script = "" if _font_for(letter) else _script(letter)
            if not script:
                found.append(letter)
            elif script == _SYMBOLS:
                found.append(f"[{unicodedata.name(letter[0], 'a symbol').lower()}]")
            elif script != before:
                found.append(f"[{script}]")
            if script:
                self.missing.add(script)
            before = before if letter.isspace() else script
        return "".join(found)

    def _of(self, path: Path) -> Any:
        if path not in self._fonts:
            self._fonts[path] = ImageFont.load_default(self.size) if path == _BUNDLED else _opened(path, self.size)
        return self._fonts[path]

    @staticmethod
    def _shaped(piece: _Piece) -> tuple[str, Any]:
        """Text and direction as Pillow wants them: without Raqm it knows none, and the letters are turned here."""
        if features.check("raqm"):
            return piece.text, "rtl" if piece.backward else "ltr"
        return "".join(reversed(list(_clusters(piece.text)))) if piece.backward else piece.text, None


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFC", text[:LONGEST])
    kept = (" " if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each for each in text)
    return "".join(each for each in kept if each in "\u200c\u200d" or unicodedata.category(each) not in ("Cf", "Cs"))


def _clusters(text: str) -> Iterator[str]:
    """Letters with the marks that belong to them."""
    found = ""
    for each in text:
        joins = unicodedata.category(each).startswith("M") or each in "\u200c\u200d" or found.endswith("\u200d")
        if found and not joins:
            yield found
            found = ""
        found += each
    if found:
        yield found


def _pieces(line: str) -> list[_Piece]:
    """A line's letters as they stand from left to right: Unicode's bidirectional order (UAX 9, rule L2)."""
    letters = list(_clusters(line))
    levels = _levels([_kind(letter) for letter in letters])
    found: list[tuple[int, _Piece]] = []
    for letter, level in zip(letters, levels, strict=True):
        font = _font_for(letter) or _BUNDLED
        if found and found[-1][0] == level and found[-1][1].font == font:
            letter = found.pop()[1].text + letter
        found.append((level, _Piece(letter, font, level % 2 == 1)))
    for least in range(max(levels, default=0), 0, -1):
        found = _turned(found, least)
    return [piece for _, piece in found]


def _turned(pieces: list[tuple[int, _Piece]], least: int) -> list[tuple[int, _Piece]]:
    """The pieces with each row of those that lie at least so deep turned round."""
    rows = [(deep, list(row)) for deep, row in itertools.groupby(pieces, lambda each: each[0] >= least)]
    return [each for deep, row in rows for each in (reversed(row) if deep else row)]


def _levels(kinds: Sequence[str]) -> list[int]:
    """How deep each letter lies (UAX 9, without embeddings): odd ones are read from right to left.

    kinds: as `_kind` gives them. The first letter with a direction decides the line's.
    """
    whole = next((kind for kind in kinds if kind in ("L", "R")), "L")
    resolved, strong = list(kinds), whole
    for at, kind in enumerate(kinds):
        if kind == "separator" and 0 < at < len(kinds) - 1 and kinds[at - 1] == kinds[at + 1] == "number":
            resolved[at] = kind = "number"  # W4
        if kind in ("L", "R"):
            strong = kind
        elif kind == "number" and strong == "L":
            resolved[at] = "L"  # W7
    sides = {"L": "L", "R": "R", "number": "R"}  # N1
    before = whole
    for at, kind in enumerate(resolved):
        if kind in sides:
            before = sides[kind]
            continue
        after = next((sides[each] for each in resolved[at:] if each in sides), whole)
        resolved[at] = before if before == after else whole  # N2
    return [{"L": 0 if whole == "L" else 2, "R": 1, "number": 2}[kind] for kind in resolved]


def _kind(letter: str) -> str:
    """ "L" or "R", "number", "separator" for what may stand within a number; empty without a direction of its own."""
    kinds = {"L": "L", "R": "R", "AL": "R", "EN": "number", "AN": "number", "ES": "separator", "CS": "separator"}
    return kinds.get(unicodedata.bidirectional(letter[0]), "")


def _script(letter: str) -> str:
    """What the letter is of, in a person's words."""
    if unicodedata.category(letter[0])[0] not in "LMN":
        return _SYMBOLS
    word = unicodedata.name(letter[0], "UNKNOWN LETTER").split()[0]
    return _SCRIPTS.get(word, word.partition("-")[0].title())


@lru_cache(4096)
def _font_for(letter: str) -> Path | None:
    """The first font with all signs of a letter, None if there is none."""
    signs = [each for each in letter if not each.isspace() and not _is_silent(each)]
    if not signs:
        return _first() or _BUNDLED
    if all(" " < each <= "~" for each in signs) or _probed(signs):
        return _first() or _BUNDLED
    return next((path for path in _system() if all(_has(path, ord(each)) for each in signs)), None)


def _is_silent(sign: str) -> bool:
    """Whether a sign only changes others: joiners and variation selectors."""
    return sign in "\u200c\u200d" or 0xFE00 <= ord(sign) <= 0xFE0F


def _probed(signs: Sequence[str]) -> bool:
    """Whether the first font, which is packed, has the signs: they look unlike what stands for a missing one."""
    path = _first()
    font = _opened(path, 24, ImageFont.Layout.BASIC) if path else None
    none = bytes(font.getmask("\uffff")) if font else b""
    return font is not None and all(bytes(font.getmask(each)) != none for each in signs)


@lru_cache(1)
def _first() -> Path | None:
    """The font that comes with Gradio, if it is there and Pillow can read it here."""
    spec = find_spec("gradio")  # found and not imported
    path = Path(spec.origin).parent / _PLEX if spec and spec.origin else None
    if path and path.is_file():
        with contextlib.suppress(OSError):
            _opened(path, 12)
            return path
    return None


@lru_cache(64)
def _opened(path: Path, size: int, layout: ImageFont.Layout | None = None) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, layout_engine=layout)


def _folders() -> list[Path]:
    home, system = Path.home(), os.environ.get("SYSTEMROOT", "C:\\Windows")
    if sys.platform == "win32":
        own = os.environ.get("LOCALAPPDATA")
        return [Path(system, "Fonts"), *([Path(own, "Microsoft/Windows/Fonts")] if own else [])]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts"]


@lru_cache(1)
def _system() -> tuple[Path, ...]:
    """The system's fonts, plain ones first."""
    endings = (".ttf", ".otf", ".ttc")
    found = [
        Path(folder, name)
        for root in _folders()
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(endings)
    ]

    def rank(path: Path) -> tuple[int, bool, str]:
        name = path.name.lower().replace("sansserif", "sans")
        return sum(word in name for word in _LESS), "sans" not in name, name

    return tuple(sorted(found, key=rank)[:MOST_FONTS])


def _has(path: Path, sign: int) -> bool:
    starts, ends = _coverage(path)
    index = bisect.bisect_right(starts, sign) - 1
    return index >= 0 and sign <= ends[index]


@lru_cache(MOST_FONTS)
def _coverage(path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last code points of the ranges that a font file has outlines for; none if it cannot be read."""
    try:
        with disk.opened(path) as file:
            ranges = sorted(_ranges(file))
    except (OSError, struct.error, StudioError):
        ranges = []
    return tuple(first for first, _ in ranges), tuple(last for _, last in ranges)


def _ranges(file: BinaryIO) -> list[tuple[int, int]]:
    """Ranges of the `cmap` table (OpenType specification), from format 12 where there is one, else from format 4."""

    def read(at: int, kind: str) -> tuple[int, ...]:
        file.seek(at)
        return struct.unpack(">" + kind, file.read(struct.calcsize(">" + kind)))

    [at] = read(12, "I") if file.read(4) == b"ttcf" else (0,)
    [count] = read(at + 4, "H")
    tables = {}
    for index in range(count):
        file.seek(at + 12 + 16 * index)
        tag, _, offset, _ = struct.unpack(">4sIII", file.read(16))
        tables[tag] = offset
    if b"cmap" not in tables or not tables.keys() & {b"glyf", b"CFF ", b"CFF2"}:
        return []
    cmap = tables[b"cmap"]
    [_, count] = read(cmap, "HH")
    found: dict[int, int] = {}
    for index in range(count):
        _, _, offset = read(cmap + 4 + 8 * index, "HHI")
        found[read(cmap + offset, "H")[0]] = cmap + offset
    if 12 in found:
        [groups] = read(found[12] + 12, "I")
        values = read(found[12] + 16, f"{3 * groups}I")
        return list(zip(values[::3], values[1::3], strict=True))
    if 4 in found:
        [twice] = read(found[4] + 6, "H")
        ends = read(found[4] + 14, f"{twice // 2}H")
        starts = read(found[4] + 16 + twice, f"{twice // 2}H")
        return [pair for pair in zip(starts, ends, strict=True) if pair[0] != 0xFFFF]
    return []
