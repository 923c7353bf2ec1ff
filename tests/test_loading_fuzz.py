"""Files that are damaged, forged, or change under one's hands: a sentence each, and never anything else.

A few hundred cases here; with EMERGE_LONG_TESTS=1 more than ten thousand.
"""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio.drawing.worker import TorchWorker
from studio.engine.engine import Engine
from studio.engine.events import Failed, Finished
from studio.errors import ModelBroken, ModelError
from studio.files import weights
from studio.models import catalog, loading
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from tests import original
from tests.fakes import Events
from tests.test_loading import entry, scanned
from tests.test_memory import recipe

LONG = bool(os.environ.get("EMERGE_LONG_TESTS"))
PARTS = ("text_encoder", "unet", "vae")


@pytest.fixture(scope="module")
def single(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Entry:
    home = tmp_path_factory.mktemp("fuzz")
    return entry(models_folder / "sd", original.stable_diffusion(models_folder / "sd", home / "sd.safetensors"), home)


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def longer(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randrange(1, 100))


def flipped(data: bytes, rng: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(rng.randrange(1, 9)):
        result[rng.randrange(len(result))] ^= 1 << rng.randrange(8)
    return bytes(result)


def flipped_header(data: bytes, rng: random.Random) -> bytes:
    header, body = split(data)
    return joined(flipped(json.dumps(header).encode(), rng), body)


def junk(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(200))


def other_length(data: bytes, rng: random.Random) -> bytes:
    return struct.pack("<Q", rng.choice([0, 1, 2**31, 2**63, 2**64 - 1, rng.randrange(len(data))])) + data[8:]


def absurd(data: bytes, rng: random.Random) -> bytes:
    header, body = split(data)
    tensor = header[rng.choice([name for name in header if name != "__metadata__"])]
    tensor[rng.choice(["shape", "data_offsets", "dtype"])] = rng.choice(
        [[], [0], [-1], [2**62, 2**62], [1.5], ["a"], None, "F16", [[1]], {}, True, [0, 2**63], [2**40], "F4"]
    )
    return joined(header, body)


def repeated(data: bytes, rng: random.Random) -> bytes:
    header, body = split(data)
    text = json.dumps(header)
    name = rng.choice([name for name in header if name != "__metadata__"])
    return joined((text[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}").encode(), body)


def overlapping(data: bytes, rng: random.Random) -> bytes:
    header, body = split(data)
    one, other = rng.sample([name for name in header if name != "__metadata__"], 2)
    header[one]["data_offsets"] = header[other]["data_offsets"]
    return joined(header, body)


def deep(data: bytes, rng: random.Random) -> bytes:
    return joined(b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", b"")


def without(data: bytes, rng: random.Random) -> bytes:
    """Well formed, but some tensors are missing."""
    return _rewritten(data, rng, lambda tensor: None)


def reshaped(data: bytes, rng: random.Random) -> bytes:
    return _rewritten(data, rng, lambda tensor: tensor.reshape(-1)[: rng.randrange(tensor.numel())].clone())


def no_numbers(data: bytes, rng: random.Random) -> bytes:
    return _rewritten(data, rng, lambda tensor: torch.full_like(tensor, float("nan")))


def _rewritten(
    data: bytes, rng: random.Random, change: Callable[[torch.Tensor], torch.Tensor | None], part: str = ""
) -> bytes:
    from safetensors.torch import load, save

    state = load(data)
    for name in rng.sample(sorted(name for name in state if part in name), rng.randrange(1, 4)):
        new = change(state[name])
        if new is None:
            del state[name]
        else:
            state[name] = new
    return save(state)


MUTATIONS = [
    cut, longer, flipped, flipped_header, junk, other_length, absurd, repeated, overlapping, deep,
    without, reshaped, no_numbers,
]  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.__name__)
def test_damaged_files_load_or_say_what_is_wrong(
    mutation: Callable[[bytes, random.Random], bytes], single: Entry, tmp_path: Path
) -> None:
    data = single.path.read_bytes()
    path = tmp_path / "damaged.safetensors"
    damaged = Entry("damaged", path, config=single.config, single=True)
    said = 0
    for seed in range(150 if LONG else 16):
        path.write_bytes(mutation(data, random.Random(seed)))
        try:
            loading.load_parts(damaged, PARTS, torch.float32, lambda read, size: None)
        except ModelError as error:
            assert len(str(error)) > 20 and "Traceback" not in str(error)
            said += 1
    if mutation not in (flipped, flipped_header):  # a flipped bit of a weight is a weight like any other
        assert said == seed + 1


def test_headers_of_any_kind_are_read_or_refused(single: Entry, tmp_path: Path) -> None:
    data, path = single.path.read_bytes(), tmp_path / "header.safetensors"
    for seed in range(4000 if LONG else 300):
        rng = random.Random(seed)
        damaged = data
        for _ in range(rng.randrange(1, 4)):
            try:
                damaged = rng.choice(MUTATIONS[:9])(damaged, rng)
            except (ValueError, struct.error, IndexError, KeyError, TypeError, AttributeError):
                break
        path.write_bytes(damaged)
        try:
            found = weights.header(path)
        except ModelBroken:
            continue
        assert all(stored.end <= len(damaged) for stored in found.values())


def test_a_file_without_a_tensor_names_it(single: Entry, tmp_path: Path) -> None:
    state = load_file(single.path)
    del state["model.diffusion_model.out.2.weight"]
    original.save(tmp_path / "x.safetensors", state)
    with pytest.raises(ModelBroken, match="lacks tensors that the unet of a StableDiffusion has"):
        loading.load_parts(
            Entry("x", tmp_path / "x.safetensors", config=single.config, single=True),
            PARTS,
            torch.float32,
            lambda read, size: None,
        )


def test_a_file_with_values_that_are_no_numbers_would_draw_black(single: Entry, tmp_path: Path) -> None:
    state = load_file(single.path)
    state["first_stage_model.decoder.conv_in.weight"][0, 0, 0, 0] = float("nan")
    original.save(tmp_path / "x.safetensors", state)
    with pytest.raises(
        ModelBroken, match=r"no numbers .in first_stage_model.decoder.conv_in.weight., so every picture"
    ):
        loading.load_parts(
            Entry("x", tmp_path / "x.safetensors", config=single.config, single=True),
            PARTS,
            torch.float32,
            lambda read, size: None,
        )


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def write_over(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


@pytest.mark.parametrize("change", [shorten, write_over, replace, Path.unlink], ids=lambda each: each.__name__)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_file_that_changes_while_it_is_read(
    change: Callable[[Path], None], mapped: bool, single: Entry, tmp_path: Path
) -> None:
    """Either the weights that were there, or a sentence."""
    expected = loading.load_parts(single, PARTS, torch.bfloat16, lambda read, size: None)
    for moment in range(0, 180, 2 if LONG else 45):
        path = tmp_path / "changing.safetensors"
        shutil.copy(single.path, path)
        os.utime(path, (1, 1))  # of some age: a change in the same tick of the clock cannot be seen
        calls = 0

        def meanwhile(read: int, size: int, path: Path = path, moment: int = moment) -> None:
            nonlocal calls
            calls += 1
            if calls == moment + 1:
                change(path)

        changing = Entry("changing", path, config=single.config, single=True)
        try:
            parts = loading.load_parts(changing, PARTS, torch.bfloat16, meanwhile, mapped=mapped)
        except ModelError as error:
            assert "chang" in str(error) or "damaged" in str(error) or "gone" in str(error)
            continue
        for name in PARTS:
            ours, theirs = parts[name].state_dict(), expected[name].state_dict()
            assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_broken_file_disturbs_nobody_else(
    single: Entry, models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(no_numbers(single.path.read_bytes(), random.Random(1)))
    good = scanned(models_folder / "sd")
    bad = Entry("bad", path, family=good.family, facts=good.facts, config=single.config, single=True)
    monkeypatch.setattr(catalog.Catalog, "everything", lambda self: [good, bad])
    engine = Engine(TorchWorker(Manager([], "cpu", "float32"), Sources(tmp_path)), lambda *kept: "kept")
    events = Events()
    engine.subscribe(events)
    try:
        jobs = [engine.submit([recipe(name)])[0] for name in ("sd", "bad", "sd")]
        ends = [events.final(job.id) for job in jobs]
    finally:
        engine.close()
    assert [type(end) for end in ends] == [Finished, Failed, Finished]
    assert isinstance(ends[1], Failed) and "no numbers" in ends[1].reason
