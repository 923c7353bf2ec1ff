"""What takes much memory goes on for a few at once; the others wait in turn, and not too many of them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.errors import Busy
from studio.pictures import sources as sources_module
from studio.pictures.gate import Gate
from studio.pictures.sources import Sources
from tests.fakes import PATIENCE
from tests.test_sources import data


class Waiting(threading.Condition):
    """Says when somebody begins to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        if not predicate():
            self.begun.release()
        return super().wait_for(predicate, PATIENCE)


class House:
    """A gate, and threads that work behind it until they are told to leave."""

    def __init__(self, pixels: int, waiting: int = 10) -> None:
        self.gate = Gate(pixels, waiting)
        self.gate._changed = self.waiting = Waiting()
        self.inside: list[str] = []
        self.entered = threading.Semaphore(0)
        self._leave: dict[str, threading.Event] = {}
        self.pool = ThreadPoolExecutor(20)

    def come(self, name: str, pixels: int) -> Future[None]:
        self._leave[name] = threading.Event()
        return self.pool.submit(self._work, name, pixels)

    def _work(self, name: str, pixels: int) -> None:
        with self.gate(pixels):
            self.inside.append(name)
            self.entered.release()
            assert self._leave[name].wait(PATIENCE)
            self.inside.remove(name)

    def leave(self, name: str) -> None:
        self._leave[name].set()

    def wait_for(self, entered: int = 0, waiting: int = 0) -> None:
        for count, semaphore in ((entered, self.entered), (waiting, self.waiting.begun)):
            for _ in range(count):
                assert semaphore.acquire(timeout=PATIENCE)


@pytest.fixture
def house() -> Iterator[House]:
    house = House(100, 3)
    yield house
    for name in list(house._leave):
        house.leave(name)
    house.pool.shutdown()


def test_small_ones_go_together_and_large_ones_wait_in_turn(house: House) -> None:
    house.come("small", 40)
    house.come("another", 40)
    house.wait_for(entered=2)
    house.come("large", 90)
    house.wait_for(waiting=1)
    house.come("last", 5)  # would fit, and must not overtake
    house.wait_for(waiting=1)
    assert sorted(house.inside) == ["another", "small"]
    house.leave("small")
    house.leave("another")
    house.wait_for(entered=2)
    assert house.inside == ["large", "last"]


def test_what_is_larger_than_all_goes_alone(house: House) -> None:
    house.come("giant", 10**12)
    house.wait_for(entered=1)
    house.come("small", 1)
    house.wait_for(waiting=1)
    assert house.inside == ["giant"]
    house.leave("giant")
    house.wait_for(entered=1)
    assert house.inside == ["small"]


def test_when_too_many_wait_the_next_is_told(house: House) -> None:
    house.come("inside", 100)
    house.wait_for(entered=1)
    for number in range(3):
        house.come(f"{number}", 100)
    house.wait_for(waiting=3)
    with pytest.raises(Busy, match="Too many pictures are being opened at once"):
        house.come("one too many", 1).result(PATIENCE)
    house.leave("inside")
    house.wait_for(entered=1)
    assert house.inside == ["0"]


def test_work_that_fails_makes_room_too(house: House) -> None:
    for _ in range(5):
        with pytest.raises(ValueError), house.gate(100):
            raise ValueError
    house.come("next", 100)
    house.wait_for(entered=1)


def test_files_are_decoded_behind_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, inside, decoded = Sources(tmp_path), [0], []

    @contextmanager
    def gate(pixels: int) -> Iterator[None]:
        inside[0] += pixels
        yield
        inside[0] -= pixels

    sources.gate = gate  # type: ignore[assignment]
    real = sources_module._decoded

    def noted(file: Any) -> Any:
        decoded.append(inside[0])
        return real(file)

    monkeypatch.setattr(sources_module, "_decoded", noted)
    sources.add(data(Image.new("RGB", (40, 30))))
    sources.add_mask(data(Image.new("L", (20, 30))), (20, 30))
    assert decoded == [1200, 600] and inside == [0]
