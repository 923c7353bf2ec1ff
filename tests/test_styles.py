"""Styles: the tables they come from, and how they go around a prompt."""

import csv
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from studio.errors import StudioError
from studio.words import styles
from studio.words.styles import BUNDLED, MAX_STYLES, Style, Styles, parse


def table(*rows: tuple[str, ...], columns: tuple[str, ...] = ("name", "prompt", "negative_prompt")) -> bytes:
    lines = [",".join(f'"{cell}"' for cell in row) for row in (columns, *rows)]
    return "\r\n".join(lines).encode()


def test_bundled_styles_are_complete() -> None:
    found = parse(BUNDLED.read_bytes())
    with BUNDLED.open(newline="", encoding="utf-8") as file:
        assert len(found) == len(list(csv.DictReader(file))) > 100, "names are unique, and no line is empty"
    assert {style.group for style in found} == {"technique", "artist", "period", "modifier"}
    assert all(style.prompt.count("{prompt}") == 1 for style in found)


def test_styles_go_around_the_prompt_in_their_order() -> None:
    oil, blurry = (
        Style("oil", "oil painting of {prompt}, thick", "photo"),
        Style("soft", "soft light", "harsh {prompt}"),
    )
    assert styles.applied("a cat", "dog", [oil, blurry]) == (
        "oil painting of a cat, thick, soft light",
        "harsh dog, photo",
    )
    assert styles.applied("", "", [Style("x", "soft light")]) == ("soft light", "")
    assert styles.applied("a {red|blue} cat", "", [oil])[0] == "oil painting of a {red|blue} cat, thick"


def test_a_table_of_automatic1111_is_understood() -> None:
    """With a byte order mark, its dividers, line breaks inside a prompt, and the older name of the column."""
    data = b"\xef\xbb\xbf" + table(("None", "", ""), ("------ mine", "", ""), ("two lines", "a\nb", "c"), ("", "x", ""))
    assert parse(data) == [Style("two lines", "a\nb", "c")]
    assert parse(table(("old", "words", ""), columns=("name", "text", "negative_prompt"))) == [Style("old", "words")]
    assert parse(table(("short", "words"), columns=("name", "prompt"))) == [Style("short", "words")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no table"),
        (b"\xff\xfe\x00", "no table"),
        (b"\x89PNG\r\n\x1a\n", "no table"),
        (b"a,b\n1,2", "no table"),
        (b'name,prompt\n"x', "no table"),
        (table(*[(str(number), "x", "") for number in range(MAX_STYLES + 1)]), "the most"),
        (b"name,prompt\n" + b"x" * 5_000_000, "too much"),
    ],
)
def test_other_files_are_refused_with_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(StudioError, match=words):
        parse(data)


def test_saved_and_brought_styles_stay(tmp_path: Path) -> None:
    kept = Styles(tmp_path / "styles")
    kept.save(Style("glow", "{prompt}, glowing", "dark"))
    kept.save(Style("mist", "{prompt} in mist"))
    kept.save(Style("glow", "{prompt}, glowing softly", "dark"))
    added = kept.add_file("../..//my styles.csv", table(("sepia", "sepia {prompt}", ""), ("oil painting", "mine", "")))
    assert [style.name for style in added] == ["sepia", "oil painting"]
    assert sorted(path.name for path in tmp_path.rglob("*.csv")) == ["my-styles.csv", "own.csv"]
    again = Styles(tmp_path / "styles").all()
    assert again["glow"] == Style("glow", "{prompt}, glowing softly", "dark")
    assert again["oil painting"].prompt == "mine", "a person's own style wins over a bundled one"
    assert {"mist", "sepia", "watercolor"} <= again.keys()


def test_an_empty_style_is_refused(tmp_path: Path) -> None:
    for style, words in ((Style(" ", "x"), "no name"), (Style("x", " "), "empty")):
        with pytest.raises(StudioError, match=words):
            Styles(tmp_path).save(style)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_bytes(b"\xff\xfe")
    (tmp_path / "good.csv").write_bytes(table(("good", "x", "")))
    assert {"good", "oil painting"} <= Styles(tmp_path).all().keys()


def test_a_model_without_negative_prompt_is_spared_the_styles(tmp_path: Path) -> None:
    from studio.ui import form

    class Models:
        takes = True

        def facts(self, name: str) -> SimpleNamespace:
            return SimpleNamespace(negative_prompt=self.takes)

    values = {"prompt": "a cat", "negative_prompt": "", "model": "any", "styles": ["watercolor"], "steps": 20}
    models, kept = Models(), Styles(tmp_path)
    worded = form.worded(values, kept, models)  # type: ignore[arg-type]
    assert worded["negative_prompt"] and worded["prompt"].startswith("watercolor painting of a cat")
    models.takes = False
    assert form.worded(values, kept, models)["negative_prompt"] == ""  # type: ignore[arg-type]
    assert form.worded({**values, "styles": []}, kept, models)["prompt"] == "a cat"  # type: ignore[arg-type]
    with pytest.raises(StudioError, match="no style 'gone'"):
        form.worded({**values, "styles": ["gone"]}, kept, models)  # type: ignore[arg-type]


def test_a_small_file_of_many_columns_takes_little_memory() -> None:
    """Some kilobytes that name a thousand columns must not become a thousand values for each line."""
    data = "name,prompt," + ",".join(f"c{number}" for number in range(1000)) + "\na" * 4000
    tracemalloc.start()
    assert parse(data.encode()) == []
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_table_is_read_no_farther_than_it_may_be_long() -> None:
    data = b"name,prompt\n" + b"a,b\n" * MAX_STYLES
    assert len(parse(data)) == 1
    with pytest.raises(StudioError, match="5,000"):
        parse(data + b"a,b\n")


def test_what_is_brought_is_bounded_in_all_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(styles, "MAX_STYLES", 300)
    monkeypatch.setattr(styles, "MAX_FILES", 2)
    known = Styles(tmp_path)
    bundled = len(known.all())

    def many(count: int, name: str = "s") -> bytes:
        return table(*((f"{name}{each}", "x", "") for each in range(count)))

    known.add_file("a.csv", many(100))
    with pytest.raises(StudioError, match="are the most"):
        known.add_file("b.csv", many(300 - bundled, "t"))
    known.add_file("b.csv", many(5, "t"))
    with pytest.raises(StudioError, match="are the most"):
        known.add_file("c.csv", many(5))
    known.add_file("a.csv", many(50))
    assert len(known.all()) == bundled + 55
    monkeypatch.setattr(styles, "parse", None)
    assert len(known.all()) == bundled + 55, "nothing is read again"


@pytest.mark.parametrize("name", ["own.csv", "OWN.csv", "Con.csv", "lpt1.csv"])
def test_a_table_takes_nobodys_name(tmp_path: Path, name: str) -> None:
    known = Styles(tmp_path)
    known.save(Style("mine", "x"))
    known.add_file(name, b"name,prompt\na,b\n")
    assert "mine" in known.all() and "a" in known.all()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["own.csv", f"{name[:-4]}-styles.csv"])
