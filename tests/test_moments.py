"""The steps of kept pictures on disk: forks of yesterday's go on bit for bit, and a bad file costs nothing."""

import json
import os
from pathlib import Path

import pytest
import torch

from studio.drawing import moments as module
from studio.drawing.moments import Moments, Stored
from studio.drawing.torch_run import TorchRun
from studio.drawing.worker import TorchWorker
from studio.families import samplers
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from tests.inside import begin
from tests.test_worker import draw, finish, recipe


@pytest.fixture
def disk(models: Manager, sources: Sources, tmp_path: Path) -> TorchWorker:
    """A worker with a folder for steps."""
    return TorchWorker(models, sources, Moments(tmp_path / "steps", 10**8))


def kept(disk: TorchWorker, wanted: Recipe) -> tuple[TorchRun, Stored]:
    [run] = draw(disk, wanted)
    disk.keep_steps(run, "one")
    stored = disk.recall("one")
    assert stored
    return run, stored


@pytest.mark.parametrize("label", samplers.DIFFUSION)
def test_a_fork_from_disk_is_the_picture_itself(disk: TorchWorker, label: str) -> None:
    run, stored = kept(disk, recipe(sampler=label, steps=7))
    for step in (0, 1, 4, 6):
        fork = begin(disk, run.recipe, (stored, step))
        assert fork.done == step and sorted(fork.moments) == list(range(step + 1))
        finish(disk, fork)
        assert torch.equal(fork.latents, run.latents) and torch.equal(fork.clean, run.clean), step


@pytest.mark.parametrize("label", samplers.FLOW)
def test_flow_models_go_on_from_disk_too(disk: TorchWorker, label: str) -> None:
    run, stored = kept(disk, recipe("flux", sampler=label, steps=6))
    turned = run.recipe.turned(3, {"guidance_scale": 2.0})
    fork = begin(disk, turned, (stored, 3))
    assert fork.done == 3
    assert torch.equal(finish(disk, fork).latents, draw(disk, turned)[0].latents)


def test_steps_after_another_sampler_and_fresh_noise_are_taken_up(disk: TorchWorker) -> None:
    one = recipe(steps=7).turned(2, {"sampler": "UniPC", "noise": (0.4, 3)})
    run, stored = kept(disk, one)
    for step in (1, 2, 3, 5):
        fork = begin(disk, one, (stored, step))
        assert fork.done == step
        assert torch.equal(finish(disk, fork).latents, run.latents), step
    # A fork of the fork, kept again.
    two = one.turned(4, {"prompt": "a blue apple"})
    disk.keep_steps(finish(disk, begin(disk, two, (stored, 4))), "two")
    again = disk.recall("two")
    assert again
    last = two.turned(6, {"sampler": "Heun"})
    fork = begin(disk, last, (again, 6))
    assert fork.done == 6 and torch.equal(finish(disk, fork).latents, draw(disk, last)[0].latents)


def test_the_steps_are_seen_as_they_were(disk: TorchWorker) -> None:
    run, stored = kept(disk, recipe(steps=4))
    for step in range(5):
        (at, then), (_, now) = stored.look_back(step), run.look_back(step)
        assert at == step and then.jpeg() == now.jpeg()
    with pytest.raises(KeyError):
        stored.look_back(5)


def test_equal_tensors_are_stored_once(disk: TorchWorker, tmp_path: Path) -> None:
    """Latents, prediction and one output of the model for each step, and a generator that nobody asks, for all."""
    run, _ = kept(disk, recipe(sampler="DPM++ 2M", steps=20))
    each = run.latents.nbytes
    [file] = (tmp_path / "steps").iterdir()
    assert file.stat().st_size < 3 * 21 * each + 100_000


def test_a_run_of_another_recipe_takes_up_nothing(disk: TorchWorker) -> None:
    run, stored = kept(disk, recipe(steps=4))
    for other in (recipe(steps=4, seed=8), run.recipe.turned(1, {"prompt": "a dog"})):
        assert begin(disk, other, (stored, 2)).done == 0


def test_a_fork_at_a_step_that_was_thinned_out_runs_on_from_the_nearest_before(disk: TorchWorker) -> None:
    turned = recipe(steps=11).turned(6, {"sampler": "UniPC", "noise": (0.4, 3)})
    [whole] = draw(disk, turned)
    run, stored = kept_thinned(disk, turned)
    assert torch.equal(run.latents, whole.latents)
    assert [stored.look_back(step)[0] for step in range(12)] == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 11]
    for step, at in ((3, 0), (7, 4), (10, 8)):
        fork = begin(disk, turned, (stored, step))
        assert fork.done == at and torch.equal(finish(disk, fork).latents, whole.latents)
    assert stored.look_back(9)[1].jpeg() == run.look_back(8)[1].jpeg()


def kept_thinned(disk: TorchWorker, wanted: Recipe) -> tuple[TorchRun, Stored]:
    """A run of which every fourth step is kept, and what is on disk of it."""
    run = begin(disk, wanted)
    run.thin()
    run.thin()
    disk.keep_steps(finish(disk, run), "one")
    stored = disk.recall("one")
    assert stored
    return run, stored


def _broken(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "changed":
        data[-100] ^= 255
    elif how == "not ours":
        data = bytearray(b"\x80\x04\x95 a pickle, perhaps")
    elif how == "empty":
        data = bytearray()
    path.write_bytes(data)
    if how == "gone":
        path.unlink()


@pytest.mark.parametrize("how", ["cut", "changed", "not ours", "empty", "gone"])
def test_a_file_that_cannot_be_used_has_the_steps_run_again(disk: TorchWorker, tmp_path: Path, how: str) -> None:
    run, stored = kept(disk, recipe(steps=4))
    _broken(tmp_path / "steps" / "one.safetensors", how)
    fork = begin(disk, run.recipe, (stored, 2))
    assert fork.done == 0 and torch.equal(finish(disk, fork).latents, run.latents)
    if how != "changed":
        assert disk.recall("one") is None
        with pytest.raises(KeyError):
            stored.look_back(2)


@pytest.mark.parametrize(
    "told",
    [
        {"format": "other"},
        {"recipe": "{}"},
        {"moments": "[]"},
        {"moments": '{"2": {"latents": "host.999", "clean": "host.0", "random": "host.1", "sampler": {}}}'},
        {"moments": '{"2": {"latents": 1, "clean": 2, "random": 3, "sampler": {"calls": -1, "scheduler": {}}}}'},
        {"moments": '{"2": 5}'},
    ],
)
def test_a_file_that_tells_nonsense_has_the_steps_run_again(
    disk: TorchWorker, tmp_path: Path, told: dict[str, str]
) -> None:
    run, _ = kept(disk, recipe(steps=4))
    path = tmp_path / "steps" / "one.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] |= told
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    stored = disk.recall("one")
    if stored:
        with pytest.raises(KeyError):
            stored.look_back(1)
        assert begin(disk, run.recipe, (stored, 2)).done == 0


def test_the_oldest_leave_first_when_there_is_no_room(disk: TorchWorker, tmp_path: Path) -> None:
    [run] = draw(disk, recipe(steps=4))
    disk.keep_steps(run, "measure")
    [file] = (tmp_path / "steps").iterdir()
    size = file.stat().st_size
    folder = tmp_path / "bounded"
    small = Moments(folder, 2 * size + size // 2)
    for age, name in enumerate(("a", "b", "c")):
        small.keep(name, run.recipe, run.moments, run.projection)
        os.utime(folder / f"{name}.safetensors", (age, age))
        if name == "b":
            assert small.recall("a")
    assert {path.stem for path in folder.iterdir()} == {"b", "c"}
    Moments(folder, size // 2).keep("d", run.recipe, run.moments, run.projection)
    assert small.recall("d") is None and small.recall("c")  # larger than all the room there is: not written
    Moments(tmp_path / "none", 0).keep("e", run.recipe, run.moments, run.projection)
    assert not (tmp_path / "none").exists()


def test_what_a_crash_left_is_removed_and_no_name_leads_out(tmp_path: Path) -> None:
    (tmp_path / f".emerge-{0:016x}.part").write_bytes(b"half")
    assert Moments(tmp_path, 10).recall("a") is None
    assert list(tmp_path.iterdir()) == []
    assert module.FORMAT.startswith("emerge")


def test_steps_leave_with_their_picture(disk: TorchWorker, tmp_path: Path) -> None:
    [run] = draw(disk, recipe(steps=2))
    there = {"a", "b", "c"}

    def keep(into: Moments, *names: str) -> None:
        for name in names:
            into.keep(name, run.recipe, run.moments, run.projection)

    moments = Moments(tmp_path / "steps", 10**8, there.__contains__)
    keep(moments, "a", "b")
    there.remove("a")
    keep(moments, "c")
    assert {path.stem for path in (tmp_path / "steps").iterdir()} == {"b", "c"}
    there.remove("b")
    Moments(tmp_path / "steps", 0, there.__contains__)
    assert {path.stem for path in (tmp_path / "steps").iterdir()} == {"c"}, "also at a start"
