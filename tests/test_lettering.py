"""Words on pictures, in every script that there is a font for; here with those alone that come with the packages."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, features

from studio.grids import lettering, sheets
from studio.grids.lettering import Lettering
from studio.grids.sheets import Plan
from studio.recipe.recipe import Recipe
from tests.test_sheets import colour, opened

PLEX_HAS = "512 × 768, Größe, čeština, ő, naïve, Ж, Ω, “quoted” – and…"


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which no font is installed."""
    monkeypatch.setattr(lettering, "_system", tuple)
    lettering._font_for.cache_clear()
    yield
    lettering._font_for.cache_clear()


def drawn(text: str, size: int = 24) -> Image.Image:
    """The ink of one line."""
    letters = Lettering(size)
    page = Image.new("L", (600, 60), 255)
    letters.draw(ImageDraw.Draw(page), 4, 4, text, "black")
    return page


def test_latin_greek_and_cyrillic_need_no_font_of_the_system(no_fonts: None) -> None:
    letters = Lettering(16)
    assert letters.lines(PLEX_HAS, 5000, 3) == [PLEX_HAS]
    assert not letters.sentence()
    pictures = {drawn(sign).tobytes() for sign in "×őжΩ…é“"}
    assert len(pictures) == 7, "each sign looks like itself, and none like a box"


def test_what_has_no_font_is_named_and_told_in_a_sentence(no_fonts: None) -> None:
    letters = Lettering(16)
    assert letters.lines("a 🦊 in ไทย, 猫", 5000, 1) == ["a [fox face] in [Thai], [Chinese characters]"]
    assert letters.sentence() == (
        "This machine has no font for Chinese characters, Thai and some symbols: "
        "names in brackets stand for what is written."
    )


def test_the_sentence_stands_below_the_sheet(no_fonts: None) -> None:
    plan = Plan(Recipe(), ())
    heights = [opened(sheets.sheet(plan, ("",), (each,), [[colour("red")]])).height for each in ("a", "ไ")]
    assert heights[1] > heights[0]


@pytest.mark.parametrize("text", ["a red fox in the snow " * 20, "x" * 200, "猫と犬、かわいい絵" * 20])
def test_long_text_is_broken_into_lines_that_fit_and_ends_in_an_ellipsis(text: str, no_fonts: None) -> None:
    letters = Lettering(14)
    lines = letters.lines(text, 180, 3)
    assert all(letters.width(line) <= 180 for line in lines)
    assert lines[-1].endswith("…") == (len(lines) == 3)
    whole = letters.lines(text[:40], 5000, 3)
    assert len(whole) == 1 and "…" not in whole[0]


def test_no_label_of_a_sheet_reaches_its_neighbour(no_fonts: None) -> None:
    """Narrow pictures: the paper between two columns stays free of ink from top to bottom."""
    narrow = Image.new("RGB", (20, 60), "red")
    image = opened(sheets.sheet(Plan(Recipe(), ()), ("",), ("guidance scale 12.5",) * 4, [[narrow] * 4])).convert("L")
    pitch = (image.width - sheets.GAP) // 4
    for gap in range(4):
        strip = image.crop((gap * pitch, 0, gap * pitch + sheets.GAP, image.height))
        assert strip.getextrema() == (247, 247)


def test_marks_stay_with_their_letters() -> None:
    assert list(lettering._clusters("e\u0301क्षि👩\u200d🎨")) == ["e\u0301", "क्", "षि", "👩\u200d🎨"]


def test_a_label_of_control_characters_is_harmless(no_fonts: None) -> None:
    letters = Lettering(14)
    assert letters.lines("a\x00b\u202ec\ud800\n", 400, 2) == ["a bc"]
    assert letters.lines("", 10, 3) == []


def as_seen(line: str) -> str:
    """A line's letters from left to right, as they stand on the picture."""
    pieces = lettering._pieces(line)
    return "".join(piece.text[::-1] if piece.backward else piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("abc", "abc"),
        ("שלום", "םולש"),
        ("a שלום b", "a םולש b"),
        ("a שלום עולם b", "a םלוע םולש b"),
        ("שלום abc", "abc םולש"),
        ("שלום ab cd כן", "ןכ ab cd םולש"),
        # Numbers are read from the left, and stand where the words around them do (UAX 9, W4, W7, N1).
        ("guidance 4.5 · seed 1", "guidance 4.5 · seed 1"),
        ("קטה · seed 1", "seed 1 · הטק"),
        ("דגם 12 טוב", "בוט 12 םגד"),
        ("a שלום 12", "a 12 םולש"),
        ("שלום 1,5", "1,5 םולש"),
        ("1 שלום", "םולש 1"),
    ],
)
def test_letters_stand_in_the_order_in_which_they_are_read(
    written: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lettering, "_font_for", lambda letter: Path("any"))
    assert as_seen(written) == seen


@pytest.mark.parametrize("backward", [True, False])
def test_without_raqm_the_letters_are_turned_here(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    shaped = Lettering._shaped(lettering._Piece("אב\u05bc", Path(), backward))
    assert shaped == (("ב\u05bcא" if backward else "אב\u05bc"), None)


def test_what_a_font_file_has_is_read_from_its_table(tmp_path: Path) -> None:
    def font(version: int, table: bytes, outlines: bytes = b"glyf") -> Path:
        cmap = struct.pack(">HHHHI", 0, 1, 3, 10 if version == 12 else 1, 12) + table
        head = struct.pack(">IHHHH", 0x10000, 2, 0, 0, 0)
        at = len(head) + 32
        records = struct.pack(">4sIII4sIII", b"cmap", 0, at, len(cmap), outlines, 0, at, 0)
        path = tmp_path / f"{version}{outlines.decode().strip()}.ttf"
        path.write_bytes(head + records + cmap)
        return path

    twelve = struct.pack(">HHIII6I", 12, 0, 40, 0, 2, 0x61, 0x7A, 1, 0x1F980, 0x1F9FF, 30)
    four = struct.pack(">HHHHHHH2HH2H", 4, 40, 0, 4, 0, 0, 0, 0x2FF, 0xFFFF, 0, 0x200, 0xFFFF)
    assert lettering._has(font(12, twelve), ord("🦊")) and not lettering._has(font(12, twelve), ord("ж"))
    assert lettering._has(font(4, four), 0x250) and not lettering._has(font(4, four), 0xFFFF)
    assert not lettering._has(font(12, twelve, b"CBDT"), ord("🦊")), "pictures of letters are no outlines"
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"\0\1\0\0\xff\xff")
    assert not lettering._has(broken, 0x61)
