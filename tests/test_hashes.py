"""Hashes are worked out once, while nothing is drawn."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio.engine.events import Cancelled, Event, Failed, Finished, Paused, Queued, Step
from studio.errors import ModelError
from studio.models import hashes
from studio.models.catalog import Catalog
from studio.models.hashes import Hasher
from studio.models.records import Records
from tests import weights


class Watched(Hasher):
    """Tells when it has looked through all files, when it waits for a picture, and which files it reads."""

    def __init__(self, catalog: Catalog, rest: float = 0.0) -> None:
        super().__init__(catalog, rest)
        self.waits = threading.Semaphore(0)
        self.looked = threading.Semaphore(0)
        self.read: list[str] = []

    def _wait_for_rest(self) -> None:
        if self._going:
            self.waits.release()
        super()._wait_for_rest()

    def _unknown(self) -> Iterator:  # type: ignore[override]
        for entry in super()._unknown():
            self.read.append(entry.path.name)
            yield entry
        self.looked.release()


def wait(semaphore: threading.Semaphore) -> None:
    assert semaphore.acquire(timeout=60), "it never came to that"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights.safetensors(tmp_path / "vae" / "own.safetensors", weights.FLUX_VAE)
    weights.safetensors(tmp_path / "loras" / "ink.safetensors", {"a": (9,)})
    return tmp_path


@pytest.fixture
def hasher(folder: Path) -> Iterator[Watched]:
    made = Watched(Catalog([folder], records=Records(folder / "models.sqlite")))
    yield made
    made.close()
    made._catalog.records.close()


def test_both_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    """AutoV3 is the SHA-256 of what lies behind the header (addnet_hash_safetensors in kohya-ss/sd-scripts)."""
    path = weights.safetensors(tmp_path / "a.safetensors", {"a": (3,)}, {"title": "x" * 99})
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    read: list[int] = []
    found = hashes.digest(path, "lora", read.append)
    assert found == (hashlib.sha256(data).hexdigest(), hashlib.sha256(data[start:]).hexdigest())
    assert read == [len(data)]
    assert hashes.digest(path, "model", read.append) == (found[0], "")
    packed = tmp_path / "a.gguf"
    packed.write_bytes(b"GGUF")
    assert hashes.digest(packed, "lora", read.append) == (hashlib.sha256(b"GGUF").hexdigest(), "")


@pytest.mark.parametrize("chunk", [1, 7, 8, 9, 100])
def test_where_a_read_ends_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    path = weights.safetensors(tmp_path / "a.safetensors", {"a": (3,)}, {"title": "x" * 99})
    expected = hashes.digest(path, "lora", lambda done: None)
    monkeypatch.setattr(hashes, "_CHUNK", chunk)
    assert hashes.digest(path, "lora", lambda done: None) == expected


def test_files_of_models_loras_and_vaes_are_hashed_once(folder: Path, hasher: Watched) -> None:
    weights.safetensors(folder / "v1-5.safetensors", weights.SD1)
    weights.safetensors(folder / "text_encoders" / "clip_l.safetensors", weights.CLIP_L)
    records = hasher._catalog.records
    hasher.start()
    wait(hasher.looked)
    told = {path.name: hashes.known(records, path)[0] for path in folder.rglob("*.safetensors")}
    named = {each.path.name for each in hasher._catalog.everything() if each.kind in hashes.KINDS and each.single}
    assert sorted(hasher.read) == sorted(named) == ["ink.safetensors", "own.safetensors", "v1-5.safetensors"]
    for path in folder.rglob("*.safetensors"):
        assert told[path.name] == (hashlib.sha256(path.read_bytes()).hexdigest() if path.name in named else "")
    hasher.heard(Queued("a"))
    hasher.heard(Finished("a", "x"))
    wait(hasher.looked)
    hasher.close()
    after = Watched(Catalog([folder], records=Records(folder / "models.sqlite")))  # the studio is started again
    after.start()
    wait(after.looked)
    after.close()
    assert len(hasher.read) == len(named) and after.read == []
    weights.safetensors(folder / "loras" / "ink.safetensors", {"changed": (10,)})
    assert hashes.known(records, folder / "loras" / "ink.safetensors") == ("", "")


@pytest.mark.parametrize("end", [Finished("a", "x"), Paused("a", 1, 2), Failed("a", "why"), Cancelled("a")], ids=repr)
def test_nothing_is_read_while_a_picture_is_made(hasher: Watched, end: Event) -> None:
    hasher.heard(Queued("a"))
    hasher.start()
    wait(hasher.waits)
    hasher.heard(Step("a", 1, 2))
    assert hasher.read == []
    hasher.heard(end)
    wait(hasher.looked)
    assert hasher.read


def test_a_picture_holds_up_a_file_in_the_middle(
    folder: Path, hasher: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "_CHUNK", 16)
    begun: list[str] = []
    digest: Callable = hashes.digest

    def begin_a_picture(path: Path, kind: str, report: Callable[[int], None]) -> tuple[str, str]:
        if not begun:
            begun.append(path.name)
            hasher.heard(Queued("a"))
        return digest(path, kind, report)

    monkeypatch.setattr(hashes, "digest", begin_a_picture)
    hasher.start()
    wait(hasher.waits)
    first = next(folder.rglob(begun[0]))
    assert hashes.known(hasher._catalog.records, first) == ("", "")
    hasher.heard(Finished("a", "x"))
    wait(hasher.looked)
    assert hashes.known(hasher._catalog.records, first)[0] == hashlib.sha256(first.read_bytes()).hexdigest()


def test_it_ends_in_the_middle_of_a_file(folder: Path, hasher: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def closing(path: Path, kind: str, report: Callable[[int], None]) -> tuple[str, str]:
        with hasher._change:
            hasher._closed = True
        report(1)
        raise AssertionError("it went on")

    monkeypatch.setattr(hashes, "digest", closing)
    hasher.start()
    hasher._thread.join(60)
    assert not hasher._thread.is_alive() and len(hasher.read) == 1


def test_it_waits_for_its_time(hasher: Watched) -> None:
    """With an hour to rest it has read nothing when it is closed, and is closed at once."""
    hasher._rest = 3600.0
    hasher.start()
    hasher.close()
    assert hasher.read == [] and not hasher._thread.is_alive()


def test_a_file_that_cannot_be_read_is_left_alone(hasher: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, kind: str, report: Callable[[int], None]) -> tuple[str, str]:
        raise ModelError("It is gone.")

    monkeypatch.setattr(hashes, "digest", broken)
    hasher.start()
    wait(hasher.looked)
    count = len(hasher.read)
    hasher.heard(Queued("a"))
    hasher.heard(Cancelled("a"))
    wait(hasher.looked)
    assert count and len(hasher.read) == count


def test_a_file_that_changed_meanwhile_has_no_hash_yet(hasher: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    digest: Callable = hashes.digest

    def changing(path: Path, kind: str, report: Callable[[int], None]) -> tuple[str, str]:
        found = digest(path, kind, report)
        path.write_bytes(path.read_bytes() + b"x")
        return found

    monkeypatch.setattr(hashes, "digest", changing)
    before = {each.path: each.stamp for each in hasher._catalog.everything()}
    hasher.start()
    wait(hasher.looked)
    assert all(hasher._catalog.records.hashes(path, stamp) == ("", "") for path, stamp in before.items())
