"""What fits and what is done otherwise: plans, turns of parts, letting go, and a run that is short of memory."""

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from studio import memory
from studio.drawing.run import DeviceRun
from studio.drawing.worker import TorchWorker
from studio.errors import ModelBroken, OutOfMemory
from studio.families import Model, placement
from studio.families.placement import Plan
from studio.families.stable_diffusion import StableDiffusion
from studio.models import catalog, loading, needs
from studio.models.manager import Manager, Memory
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from tests import original, tiny
from tests.inside import use
from tests.test_loading import entry, scanned

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
PARTS = {"text_encoder": 400, "unet": 1000, "vae": 100, "tokenizer": 0}


def sizes(device: torch.device, **more: Any) -> dict[str, int]:
    dtype = more.pop("dtype", torch.bfloat16)
    return {plan.way: plan.bytes for plan in placement.plans(PARTS, 0, device, dtype, **more)}


def test_on_a_card_each_way_takes_less_than_the_one_before() -> None:
    ways = sizes(CUDA)
    assert list(ways) == ["", "parts", "float8", "layers"]
    assert list(ways.values()) == [3000, 2000, 1000, 150]


def test_without_a_card_half_the_precision_and_then_the_file() -> None:
    assert sizes(CPU) == {"": 3000}
    assert sizes(CPU, dtype=torch.float32) == {"": 6000, "half": 3000}
    assert sizes(CPU, dtype=torch.float32, stored=torch.float16) == {"": 6000, "half": 3000, "mapped": 0}


def test_larger_pictures_need_more_room() -> None:
    small, large = (placement.plans(PARTS, side * side, CUDA, torch.bfloat16)[0].bytes for side in (512, 1024))
    assert large - 3000 == 4 * (small - 3000) > 2 * 2**30


def test_every_way_but_the_best_is_told() -> None:
    told = [Plan(torch.bfloat16, 0, way).sentence for way in ("", "parts", "float8", "layers", "half", "mapped")]
    assert not told[0] and all(told[1:]) and len(set(told)) == len(told)


def with_room(manager: Manager, monkeypatch: pytest.MonkeyPatch, room: Callable[[], int]) -> Manager:
    monkeypatch.setattr(manager, "_free", room)
    return manager


def test_a_manager_takes_the_best_way_that_fits_and_says_so(
    models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    whole, half = (plan.bytes for plan in manager._plans(manager.entry("sd")))
    with_room(manager, monkeypatch, lambda: int(half * 1.2))
    assert half < whole
    assert manager.use("sd").dtype == torch.bfloat16
    assert "bfloat16 instead of float32" in manager.held[0].note


def test_weights_may_stay_in_their_file(models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = draw(Manager([models_folder], "cpu", "float32"), "sd", tmp_path)
    file = original.stable_diffusion(models_folder / "sd", tmp_path / "sd.safetensors")
    single = entry(models_folder / "sd", file, tmp_path)
    monkeypatch.setattr(catalog.Catalog, "everything", lambda self: [single])
    manager = Manager([tmp_path], "cpu", "bfloat16")
    mapped = next(plan for plan in manager._plans(single) if plan.way == "mapped")
    # As if the weights were many and the work little.
    monkeypatch.setattr(manager, "_plans", lambda entry: [Plan(torch.bfloat16, 10**9), mapped])
    with_room(manager, monkeypatch, lambda: 10**8)
    assert draw(manager, "sd.safetensors", tmp_path) == expected
    assert manager.use("sd.safetensors").dtype == torch.float32
    assert "stay in their file" in manager.held[0].note


def draw(manager: Manager, name: str, folder: Path) -> bytes:
    worker = TorchWorker(manager, Sources(folder / "sources"))
    worker.load(name, lambda read, size: None)
    run = worker.begin(recipe(name))
    finish(worker, run)
    return worker.decode(run).tobytes()


def recipe(name: str, **more: Any) -> Recipe:
    return Recipe(model=name, prompt="a red apple", width=64, height=64, steps=2, sampler="Euler", **more)


def finish(worker: TorchWorker, run: DeviceRun) -> None:
    while run.done < run.total:
        worker.step([run])


@pytest.mark.parametrize("way", ["parts", "float8", "layers"])
def test_parts_that_take_turns_draw_the_same(models_folder: Path, way: str) -> None:
    """Where there is no card the turns are taken on the processor: the hooks, not the moves, are what is tested."""
    plain = use(Manager([models_folder], "cpu", "float32"), "sd", StableDiffusion)
    held = Manager([models_folder], "cpu", "float32")
    turned = use(held, "sd", StableDiffusion)
    _, _, plan, parts = held._loaded["sd"]
    placement.place(parts, CPU, Plan(plan.dtype, 0, way))
    turns = [name for name in ("text_encoder", "unet", "vae") if hasattr(parts[name], "_hf_hook")]
    assert turns == (["text_encoder", "vae"] if way == "layers" else ["text_encoder", "unet", "vae"])
    noise = plain.noise(recipe("sd"), torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pairs = list(zip(run(plain, noise), run(turned, noise), strict=True))
    rounded = [False, way == "float8", False]  # the denoiser alone
    for (one, other), is_rounded in zip(pairs, rounded, strict=True):
        difference = (one - other).abs().max() / one.abs().max()
        assert 0 < difference < 0.2 if is_rounded else difference == 0
    placement.place(parts, CPU, plan)
    assert not hasattr(parts["vae"], "_hf_hook")


def run(model: Model, noise: torch.Tensor) -> list[torch.Tensor]:
    from studio.families import Row

    prompts = model.encode("a red apple", "", True)
    (output,) = model.predict([Row(noise, torch.tensor(500.0), prompts, 4.0)])
    pixels = torch.frombuffer(bytearray(model.decode(noise).tobytes()), dtype=torch.uint8).float()
    return [prompts.positive, output, pixels]


def test_only_one_part_is_on_the_device_when_they_take_turns() -> None:
    parts = {name: torch.nn.Linear(2, 2) for name in ("text_encoder", "unet", "vae")}
    meta = torch.device("meta")  # stands for a card: a module that came there can be told from one that did not
    placement.place(parts, meta, Plan(torch.float32, 0, "parts"))
    assert all(part.weight.device.type == "cpu" for part in parts.values())
    parts["text_encoder"](torch.zeros(1, 2, device="meta"))
    assert parts["text_encoder"].weight.device.type == "meta"
    assert parts["unet"].weight.device.type == parts["vae"].weight.device.type == "cpu"


def test_another_model_is_read_beside_while_one_is_used(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, load = threading.Event(), loading.load_parts

    def slow(*args: Any, **more: Any) -> dict[str, Any]:
        assert go_on.wait(20)
        return load(*args, **more)

    manager = Manager([models_folder], "cpu", "float32")
    worker = TorchWorker(manager, Sources(tmp_path))
    worker.load("sd", lambda read, size: None)
    monkeypatch.setattr(loading, "load_parts", slow)
    told: list[tuple[int, int]] = []

    def report(read: int, size: int) -> None:
        told.append((read, size))

    assert worker.fetch("flux", False, report) == "reading"
    finish(worker, worker.begin(recipe("sd")))
    assert worker.fetch("flux", False, report) == "reading" and not told
    go_on.set()
    assert manager._reading and manager._reading.parts.result(20)
    assert worker.fetch("flux", False, report) == "read" and told[-1][0] == told[-1][1] > 0
    worker.load("flux", lambda read, size: pytest.fail("It was read already."))
    assert manager.loaded("flux") and manager.loaded("sd")


def test_nobody_is_pushed_out_for_a_model_that_waits(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    manager.use("sd")
    with_room(manager, monkeypatch, lambda: 0 if manager._loaded else 10**12)
    assert manager.fetch("flux", False, lambda read, size: None) == "wait" and manager.loaded("sd")
    assert manager.fetch("flux", True, lambda read, size: None) in ("reading", "read") and not manager.loaded("sd")
    manager.use("flux")
    assert manager.loaded("flux")


def test_a_model_that_cannot_be_read_says_so_when_it_is_used(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.stable_diffusion(tmp_path / "sd")
    manager = Manager([tmp_path], "cpu", "float32")
    manager.use("sketchbook")
    broken = tmp_path / "sd" / "vae" / "config.json"
    broken.write_text(broken.read_text().replace('"latent_channels": 4', '"latent_channels": 7'))
    while manager.fetch("sd", True, lambda read, size: None) == "reading":
        assert manager._reading and manager._reading.parts.exception(20)
    with pytest.raises(ModelBroken, match="vae of the model"):
        manager.use("sd")
    assert manager.loaded("sketchbook")


def test_a_reading_that_nobody_wants_any_more_makes_way(models_folder: Path) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    manager.fetch("velocity", True, lambda read, size: None)
    manager.use("sd")
    assert manager.loaded("sd") and not manager.loaded("velocity") and manager._reading is None


def test_nothing_of_a_model_stays_when_another_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What AUTOMATIC1111's issue 2180 is about. There is room for one model, so each round loads all four."""
    names = []
    for number in range(4):
        folder = tiny.stable_diffusion(tmp_path / f"folder {number}", seed=number)
        single = original.stable_diffusion(folder, tmp_path / f"model {number}.safetensors")
        names.append(entry(folder, single, tmp_path) if number % 2 else scanned(folder))
    monkeypatch.setattr(catalog.Catalog, "everything", lambda self: names)
    manager = Manager([tmp_path], "cpu", "float32")
    with_room(manager, monkeypatch, lambda: 0 if manager._loaded else 10**12)
    worker = TorchWorker(manager, Sources(tmp_path / "sources"))

    weights: list[weakref.ref[torch.Tensor]] = []
    for each in [*names, *names]:
        worker.load(each.name, lambda read, size: None)
        one = worker.begin(recipe(each.name))
        finish(worker, one)
        worker.decode(one)
        del one
        gc.collect()
        assert not [each for each in weights if each() is not None], "weights of the model before are still there"
        model: Any = manager.use(each.name)
        parts = (model.unet, model.text_encoder, model.vae)
        weights = [weakref.ref(each) for part in parts for each in part.parameters()]
        del model, parts


def fail_once(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, times: int = 1) -> list[int]:
    """Make a method run out of memory the first few times it is called."""
    calls: list[int] = []
    real = getattr(where, name)

    def short(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, **more)

    monkeypatch.setattr(where, name, short)
    return calls


def test_a_step_that_is_short_of_memory_lets_other_models_go_and_tries_once_more(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    worker = TorchWorker(manager, Sources(tmp_path))
    manager.use("velocity")
    worker.load("sd", lambda read, size: None)
    one = worker.begin(recipe("sd"))
    calls = fail_once(monkeypatch, manager.use("sd"), "predict")
    worker.step([one])
    assert len(calls) == 2 and one.done == 1 and not manager.loaded("velocity")
    assert ["other models were let go" in each for each in one.notes] == [True]


def test_a_step_that_stays_short_of_memory_says_so_and_loses_nothing(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    worker = TorchWorker(manager, Sources(tmp_path))
    manager.use("velocity")
    worker.load("sd", lambda read, size: None)
    one = worker.begin(recipe("sd"))
    calls = fail_once(monkeypatch, manager.use("sd"), "predict", times=9)
    with pytest.raises(OutOfMemory, match="choose a smaller size"):
        worker.step([one])
    assert len(calls) == 2 and one.done == 0


def test_a_picture_too_large_to_decode_at_once_is_decoded_in_tiles(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    worker = TorchWorker(manager, Sources(tmp_path))
    worker.load("sd", lambda read, size: None)
    one = worker.begin(recipe("sd"))
    finish(worker, one)
    whole = worker.decode(one)
    model = manager.use("sd")
    fail_once(monkeypatch, model, "decode")
    assert worker.decode(one).size == whole.size and "in tiles" in one.notes[-1]
    assert not model.vae.use_tiling


def test_what_is_in_memory_is_told_and_can_be_freed(models_folder: Path) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    told: list[list[str]] = []
    manager.listen(lambda: told.append([each.name for each in manager.held]))
    manager.use("velocity")
    manager.use("sd")
    manager.use("velocity")
    manager.free("sd")
    manager.free("sd")
    assert told == [["velocity"], ["sd", "velocity"], ["velocity"]]
    [held] = manager.held
    assert held.bytes > 0 and held.precision == "float32" and held.note == ""
    there = manager.memory()
    assert 0 < there.free < there.bytes and not there.card


# Planning calls


@pytest.fixture
def short(models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[TorchWorker, list[int]]:
    """A worker for which every call is a large one, and the bytes that it believes to be free."""
    free = [10**12]
    monkeypatch.setattr(needs, "LARGE", 0)
    monkeypatch.setattr(Manager, "memory", lambda self: Memory(False, 10**12, free[0]))
    worker = TorchWorker(Manager([models_folder], "cpu", "float32"), Sources(tmp_path))
    worker.load("sd", lambda read, size: None)
    return worker, free


def test_a_call_is_planned_by_the_memory_that_is_free(short: tuple[TorchWorker, list[int]]) -> None:
    worker, free = short
    model = worker._models.use("sd")
    one = worker.begin(recipe("sd"))
    need = one.need(worker._bench.needs, model)
    assert worker.room(one) == worker.rows
    for rows, room in ((5.5, 5), (1.2, 1), (0.1, 1)):
        free[0] = int(rows * need / needs.SHARE)
        assert worker.room(one) == room
    free[0] = int(6 * need / needs.SHARE)
    assert worker.room(worker.begin(recipe("sd", guidance_scale=1.0))) == 12
    large = Recipe(model="sd", width=128, height=128, sampler="Euler")
    assert worker.room(worker.begin(large)) == 1


def test_small_pictures_are_planned_without_asking_for_the_memory(
    models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = TorchWorker(Manager([models_folder], "cpu", "float32"), Sources(tmp_path))
    worker.load("sd", lambda read, size: None)
    monkeypatch.setattr(Manager, "memory", lambda self: pytest.fail("It was asked for."))
    one = worker.begin(recipe("sd"))
    assert worker.room(one) == worker.rows
    finish(worker, one)
    worker.decode(one)


def test_what_is_far_too_large_is_refused_before_it_is_tried(short: tuple[TorchWorker, list[int]]) -> None:
    worker, free = short
    worker._models.use("velocity")
    one = worker.begin(recipe("sd"))
    free[0] = 1
    calls: list[int] = []
    use(worker._models, "sd", StableDiffusion).unet.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(
        OutOfMemory, match=r"A step needs about \d+\.\d GB of memory, and 0\.0 GB are free\. Close other"
    ):
        worker.step([one])
    assert one.done == 0 and not calls and not worker._models.loaded("velocity"), "others were let go first"
    free[0] = 10**12
    finish(worker, one)


def test_a_card_is_asked_for_memory_whatever_the_guess(
    short: tuple[TorchWorker, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, free = short
    free[0] = 1
    with monkeypatch.context() as patch:
        patch.setattr(worker._models, "device", CUDA)
        worker._bench.needs.refuse("A step", 10**12)
    with pytest.raises(OutOfMemory, match=r"A step needs about 1000\.0 GB"):
        worker._bench.needs.refuse("A step", 10**12)


def test_a_picture_that_would_not_fit_is_decoded_in_tiles_at_once(
    short: tuple[TorchWorker, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, free = short
    one = worker.begin(recipe("sd"))
    finish(worker, one)
    model = worker._models.use("sd")
    tiled: list[bool] = []
    model.vae.post_quant_conv.register_forward_pre_hook(lambda *_: tiled.append(model.vae.use_tiling))
    worker.decode(one)
    free[0] = 1
    worker.decode(one)
    assert tiled[0] is False and all(tiled[1:]) and tiled[1:] and "in tiles" in one.notes[-1]


def test_a_start_picture_that_would_not_fit_is_read_in_tiles(short: tuple[TorchWorker, list[int]]) -> None:
    worker, free = short
    name, other = (worker._sources.add_image(Image.new("RGB", (64, 64), colour)) for colour in ("teal", "plum"))
    model = worker._models.use("sd")
    tiled: list[bool] = []
    model.vae.encoder.register_forward_pre_hook(lambda *_: tiled.append(model.vae.use_tiling))
    worker.begin(recipe("sd", source=name))
    free[0] = 1
    assert not worker.begin(recipe("sd", source=name)).notes and len(tiled) == 1  # it is remembered, so nothing is read
    told = worker.begin(recipe("sd", source=other))
    assert ["read in tiles" in each for each in told.notes] == [True]
    free[0] = 10**12
    assert not worker.begin(told.recipe, (told, 0)).notes
    assert tiled[0] is False and all(tiled[1:]) and tiled[1:] and not model.vae.use_tiling
    free[0] = 10**12
    worker.load("velocity", lambda read, size: None)
    free[0] = 1
    with pytest.raises(OutOfMemory, match="Reading the start picture needs"):
        worker.begin(recipe("velocity", source=name))  # its autoencoder has no tiles of as many channels


def test_the_bundled_model_decodes_in_tiles(tmp_path: Path) -> None:
    model = use(Manager([], "cpu", "float32"), "sketchbook", StableDiffusion)
    with torch.inference_mode():
        latents = model.encode_picture(Image.linear_gradient("L").resize((768, 640)).convert("RGB"))
        whole = np.asarray(model.decode(latents)).astype(int)
        with placement.tiled(model.vae):
            parts = np.asarray(model.decode(latents)).astype(int)
    assert np.abs(whole - parts).mean() < 2


def test_guesses_are_put_right_by_what_was_seen(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    model, known = manager.use("sd"), needs.Needs(manager)
    guess = known.step(model, 10**6)
    peak = [0]
    monkeypatch.setattr(needs, "LARGE", 20)
    monkeypatch.setattr(needs, "_reset", lambda device: 1000)
    monkeypatch.setattr(needs, "_peak", lambda device: peak[0])

    def seen(bytes: int, took: int) -> float:
        peak[0] = 1000 + took
        with known.watched(model, "step", bytes):
            pass
        return known.step(model, 10**6) / guess

    assert seen(100, 50) == pytest.approx(0.9)  # what was believed is given up slowly
    for _ in range(20):
        seen(int(100 * known.step(model, 10**6) / guess) + 1, 50)
    assert known.step(model, 10**6) / guess == pytest.approx(0.5, abs=0.05)
    assert seen(100, 10**9) == 2.0, "whatever else the process did meanwhile"
    before = known.step(model, 10**6)
    with pytest.raises(ValueError), known.watched(model, "step", 100):
        raise ValueError
    with known.watched(model, "step", 19):
        pass
    assert known.step(model, 10**6) == before
    assert known.picture(model, 10**6) == 15 * 4 * 4 * 10**6, "pictures are another matter"


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells the highest use of memory, and lets it start again"
)
def test_the_height_of_a_call_is_seen() -> None:
    before = needs._reset(CPU)
    if before is None:
        pytest.skip("This system does not let the highest use of memory start again.")
    large = torch.ones(2**24)
    del large
    assert 48 * 2**20 < needs._peak(CPU) - before < 2**30
    after = needs._reset(CPU)
    assert after and needs._peak(CPU) - after < 16 * 2**20


def test_what_was_asked_for_last_is_kept_up_to_its_weight() -> None:
    made: list[str] = []

    def get(name: str) -> str:
        return recent.get(name, lambda: made.append(name) or name)  # type: ignore[func-returns-value]

    recent: memory.Recent[str, str] = memory.Recent(10, len)
    for name in ("aaaa", "bbbb", "aaaa", "cc", "dddd", "aaaa", "bbbb"):
        assert get(name) == name
    assert made == ["aaaa", "bbbb", "cc", "dddd", "bbbb"]
    assert get("e" * 99) == "e" * 99 and get("e" * 99) and made[-1] == "e" * 99, "the newest is kept in any case"
    recent.clear()
    get("aaaa")
    assert made[-2:] == ["e" * 99, "aaaa"]


def test_long_prompts_push_out_those_before_them(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.families.base.PROMPTS_HELD", 20_000)
    model = use(Manager([models_folder], "cpu", "float32"), "sd", StableDiffusion)
    with torch.inference_mode():
        one = model.encode("a red apple", "", True)
        assert model.encode("a red apple", "", True) is one
        for number in range(5):
            long = model.encode("a red apple " * 100, f"{number}", True)
        assert one.bytes < 20_000 / 5 < 20_000 < 5 * long.bytes
        assert model.encode("a red apple", "", True) is not one


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    machine = psutil.virtual_memory()
    groups, own, mib = tmp_path / "cgroup", tmp_path / "own", 2**20
    assert memory.available(groups, own)[0] == machine.total, "no control groups"

    own.write_text("0::/a/b\n")
    group(groups, memory__stat="inactive_file 0")  # the uppermost has no limit
    group(
        groups / "a", memory__max=100 * mib, memory__current=90 * mib, memory__stat=f"anon 5\ninactive_file {20 * mib}"
    )
    group(groups / "a" / "b", memory__max="max", memory__current=0, memory__stat="")
    assert memory.available(groups, own) == (100 * mib, 30 * mib)
    (groups / "a" / "memory.current").write_text("no number")
    assert memory.available(groups, own)[0] == machine.total

    old = tmp_path / "old"
    # A container without a namespace of its own: its path is the machine's, its files are where all groups begin.
    own.write_text("5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/\n")
    group(old / "memory", memory__limit_in_bytes=50 * mib, memory__usage_in_bytes=60 * mib, memory__stat="cache 3")
    assert memory.available(old, own) == (50 * mib, 0)
    (old / "memory" / "memory.limit_in_bytes").write_text(str(2**63 - 4096))
    assert memory.available(old, own)[0] == machine.total
