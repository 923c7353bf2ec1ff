"""Styles: words that are put around a prompt, kept as tables that other programs can read.

A table is a CSV file as AUTOMATIC1111 writes it: the columns `name`, `prompt` and `negative_prompt`; ours has a `group`
too. Where the text says `{prompt}`, the person's own words go; without that they come first, and the style after a
comma. A style is resolved before the recipe is made, so a picture can be made again without it.
"""

import csv
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from studio import disk
from studio.errors import StorageError, StudioError
from studio.settings import ROOT

BUNDLED = ROOT / "assets" / "styles.csv"

OWN = "own"
"""The group of styles that bring none, and the name of the file that saved ones go to."""

MAX_FILE = 4_000_000
MAX_STYLES = 5_000
MAX_FILES = 100
"""Tables in the folder; of more, the first by name count."""

_DEVICES = {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(10))}
NOT_FOR_TABLES = {OWN, *_DEVICES}
"""What saved styles go to, and what Windows takes for devices."""

_COLUMNS = ("name", "group", "prompt", "negative_prompt")


@dataclass(frozen=True, slots=True)
class Style:
    """A style. prompt, negative_prompt: text, with or without `{prompt}`. group: what it is listed under."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""
    group: str = OWN


class Styles:
    """The bundled styles, and those in the CSV files of a folder, which win over bundled ones of the same name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: tuple[object, dict[str, Style]] = (None, {})
        disk.clear(folder)

    def all(self) -> dict[str, Style]:
        """Every style by name, the person's own first. A file that cannot be read is passed over."""
        paths = [*sorted(self._folder.glob("*.csv"))[:MAX_FILES], BUNDLED]
        stamp = [(path, _stamp(path)) for path in paths]
        if self._read[0] != stamp:
            self._read = stamp, _all_in(paths)
        return dict(self._read[1])

    def add_file(self, name: str, data: bytes) -> list[Style]:
        """Keep somebody's `styles.csv`. Returns what is in it. Raises StudioError."""
        styles = parse(data)
        stem = re.sub(r"[^\w-]+", "-", Path(name).stem).strip("-")[:60] or "styles"
        if stem.casefold() in NOT_FOR_TABLES:
            stem += "-styles"
        count = len({*self.all(), *(style.name for style in styles)})
        files = {path.stem.casefold() for path in self._folder.glob("*.csv")}
        if count > MAX_STYLES or len({*files, stem.casefold()}) > MAX_FILES:
            raise StudioError(
                f"With these there would be {count:,} styles in {len(files) + 1} tables; {MAX_STYLES:,} in {MAX_FILES} "
                f"are the most. Delete some of {self._folder} first."
            )
        self._write(stem, styles)
        return styles

    def save(self, style: Style) -> None:
        """Keep a style; one of the same name that was saved before is replaced. Raises StudioError."""
        if not style.name.strip():
            raise StudioError("The style has no name. Give it one.")
        if not style.prompt.strip() and not style.negative_prompt.strip():
            raise StudioError("The style would be empty. Write a prompt first.")
        path = self._folder / f"{OWN}.csv"
        try:
            before = self._own(path)
        except OSError as error:
            raise StorageError(f"The styles could not be read: {error.strerror or error}.") from error
        self._write(OWN, [each for each in before if each.name != style.name] + [style])

    @staticmethod
    def _own(path: Path) -> list[Style]:
        """The styles that were saved before. A file that is no table any more is put aside. Raises OSError."""
        try:
            return parse(disk.content(path, MAX_FILE))
        except FileNotFoundError:
            return []
        except StudioError:
            os.replace(path, path.with_name(f"{path.name}.damaged"))
            return []

    def _write(self, stem: str, styles: Iterable[Style]) -> None:
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(_COLUMNS)
        table.writerows((each.name, each.group, each.prompt, each.negative_prompt) for each in styles)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            disk.write(self._folder / f"{stem}.csv", text.getvalue().encode("utf-8"))
        except OSError as error:
            raise StorageError(f"The styles could not be kept: {error.strerror or error}.") from error


def parse(data: bytes) -> list[Style]:
    """The styles in a CSV file. Names are unique; the last one of a name counts. Raises StudioError.

    Lines without a name are passed over, and so are A1111's dividers, lines that have a name and nothing else.
    """
    if len(data) > MAX_FILE:
        raise StudioError(f"That file has {len(data) / 1e6:.0f} MB, which is too much for a table of styles.")
    found: dict[str, Style] = {}
    # A byte that is no text is shown as such, and costs no other style.
    lines = csv.reader(io.StringIO(data.decode("utf-8-sig", "replace"), newline=""), strict=True)
    try:
        head = next(lines, [])
        # Until 2023 A1111 called the prompt `text`.
        columns = ("name", "prompt" if "prompt" in head else "text", "negative_prompt", "group")
        if not set(columns[:2]) <= set(head):
            raise csv.Error
        places = [head.index(column) if column in head else len(data) for column in columns]
        for count, line in enumerate(lines, 1):
            if count > MAX_STYLES:
                raise StudioError(f"That table has more than {MAX_STYLES:,} styles, which are the most.")
            name, prompt, negative, group = (line[place].strip() if place < len(line) else "" for place in places)
            if name and (prompt or negative):
                found[name] = Style(name, prompt, negative, group or OWN)
    except csv.Error:
        raise StudioError(
            "That is no table of styles. Bring a styles.csv with the columns name, prompt, negative_prompt."
        ) from None
    return list(found.values())


def _all_in(paths: Iterable[Path]) -> dict[str, Style]:
    found: dict[str, Style] = {}
    for path in paths:
        try:
            styles = parse(disk.content(path, MAX_FILE))
        except (OSError, StudioError):
            continue
        for style in styles:
            found.setdefault(style.name, style)
    return found


def _stamp(path: Path) -> tuple[int, int] | None:
    """What differs when a file was changed."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def applied(prompt: str, negative_prompt: str, styles: Iterable[Style]) -> tuple[str, str]:
    """The prompts with the styles around them, in their order."""
    for style in styles:
        prompt = _around(prompt, style.prompt)
        negative_prompt = _around(negative_prompt, style.negative_prompt)
    return prompt, negative_prompt


def _around(words: str, style: str) -> str:
    if "{prompt}" in style:
        return style.replace("{prompt}", words)
    return ", ".join(filter(None, (words.strip(), style)))
