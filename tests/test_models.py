"""Finding, refusing, loading and letting go of models."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from studio.errors import ModelBroken, ModelError, ModelMissing, ModelUnsafe, OutOfMemory, SettingsError
from studio.families import placement
from studio.models import catalog
from studio.models.catalog import Entry
from studio.models.manager import Manager


@pytest.fixture
def folder(models_folder: Path, tmp_path: Path) -> Path:
    """A models folder of the test's own, to damage."""
    shutil.copytree(models_folder / "sd", tmp_path / "models" / "sd")
    return tmp_path / "models"


def found(folder: Path, name: str = "sd") -> Entry:
    return next(entry for entry in catalog.scan([folder]) if entry.name == name)


def weights(folder: Path, part: str = "unet") -> Path:
    return folder / "sd" / part / "diffusion_pytorch_model.safetensors"


def test_a_scan_finds_models_of_both_families(models_folder: Path) -> None:
    entries = {entry.name: entry for entry in catalog.scan([models_folder])}
    assert entries["sd"].family == "Stable Diffusion" and entries["flux"].family == "FLUX.1"
    facts = entries["sd"].facts
    assert facts and (facts.width, facts.height, facts.multiple) == (64, 64, 8)
    assert entries["sd"].parameters > 10_000 and not entries["sd"].problem


def test_models_in_folders_of_folders_have_their_path_as_name(folder: Path) -> None:
    (folder / "painters").mkdir()
    (folder / "sd").rename(folder / "painters" / "mine")
    assert not found(folder, "painters/mine").problem


def test_two_models_of_one_name_are_both_listed(folder: Path, models_folder: Path) -> None:
    names = [entry.name for entry in catalog.scan([models_folder, folder])]
    assert "sd" in names and "models/sd" in names


def test_an_empty_or_missing_folder_leaves_the_bundled_model(tmp_path: Path) -> None:
    names = [entry.name for entry in catalog.scan([tmp_path, tmp_path / "none"])]
    assert names == ["sketchbook"]


def test_a_folder_half_copied_says_so(folder: Path) -> None:
    file = weights(folder)
    os.truncate(file, file.stat().st_size - 100)
    assert "not copied to its end" in found(folder).problem
    with pytest.raises(ModelError, match="not copied to its end"):
        Manager([folder], "cpu").use("sd")


@pytest.mark.parametrize("part", ["unet", "tokenizer", "scheduler"])
def test_a_folder_without_a_part_says_so(folder: Path, part: str) -> None:
    shutil.rmtree(folder / "sd" / part)
    assert "missing" in found(folder).problem


@pytest.mark.parametrize("damage", [b"", b"\0" * 4, b"\xff" * 4000, b"\x10" + b"\0" * 7 + b"[1, 2]" + b" " * 10])
def test_weights_that_are_no_safetensors_say_so(folder: Path, damage: bytes) -> None:
    weights(folder).write_bytes(damage)
    assert "damaged" in found(folder).problem


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}"])
def test_configs_that_are_damaged_say_so(folder: Path, damage: str) -> None:
    (folder / "sd" / "vae" / "config.json").write_text(damage)
    assert "again" in found(folder).problem


def test_a_config_that_does_not_fit_its_weights_says_so(folder: Path) -> None:
    path = folder / "sd" / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cross_attention_dim": 24}))
    with pytest.raises(ModelBroken, match="unet of the model"):
        Manager([folder], "cpu").use("sd")


class Bomb:
    def __reduce__(self) -> tuple:
        return os.system, ("touch exploded",)


def test_pickles_are_named_and_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    weights(folder).unlink()
    (folder / "sd" / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    (folder / "evil.ckpt").write_bytes(pickle.dumps(Bomb()))
    for name in ("sd", "evil.ckpt"):
        assert "is a pickle" in found(folder, name).problem or "are a pickle" in found(folder, name).problem
        with pytest.raises(ModelError, match="pickle"):
            Manager([folder], "cpu").use(name)
    assert not (folder / "exploded").exists()
    assert isinstance(catalog._pickle(folder / "evil.ckpt"), ModelUnsafe)


def test_a_folder_cannot_name_code_to_be_run(folder: Path) -> None:
    path = folder / "sd" / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "unet": ["os", "system"]}))
    with pytest.raises(ModelBroken, match="not known here"):
        Manager([folder], "cpu").use("sd")


def test_an_unknown_architecture_is_listed_with_its_name(folder: Path) -> None:
    (folder / "sd" / "model_index.json").write_text(json.dumps({"_class_name": "WondrousPipeline"}))
    assert "WondrousPipeline" in found(folder).problem


def test_a_missing_model_says_what_there_is(models_folder: Path) -> None:
    with pytest.raises(ModelMissing, match="sd, velocity"):
        Manager([models_folder], "cpu").entry("nothing")


def test_a_model_added_later_is_found(folder: Path) -> None:
    manager = Manager([folder], "cpu")
    manager.entries()
    shutil.copytree(folder / "sd", folder / "new")
    assert manager.entry("new").name == "new"


def test_loading_reports_progress_to_the_end(models_folder: Path) -> None:
    told: list[tuple[int, int]] = []
    manager = Manager([models_folder], "cpu", "float32")
    manager.use("sd", lambda *bytes: told.append(bytes))
    size = told[-1][1]
    assert told == sorted(told) and told[-1] == (size, size) and len(told) > 3
    manager.use("sd", lambda read, size: pytest.fail("It was loaded already."))


def test_what_does_not_fit_beside_lets_the_least_recently_used_go(
    models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    manager.use("sd")
    manager.use("velocity")
    manager.use("sd")
    room = {2: 0, 1: 10**12, 0: 10**12}
    monkeypatch.setattr(manager, "_free", lambda: room[len(manager._loaded)])
    manager.use("flux")
    assert manager.loaded("flux") and manager.loaded("sd") and not manager.loaded("velocity")


def test_what_never_fits_says_how_much_it_needs(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager([models_folder], "cpu", "float32")
    monkeypatch.setattr(manager, "_free", lambda: 1000)
    with pytest.raises(OutOfMemory, match=r"needs about .* GB"):
        manager.use("sd")


def test_default_recipes_can_be_drawn(models_folder: Path) -> None:
    manager = Manager([models_folder], "cpu")
    recipe = manager.default_recipe("flux").check()
    assert recipe.model == "flux" and recipe.width == 1024 and recipe.sampler == "Euler"


def test_devices_and_dtypes() -> None:
    assert placement.device("cpu") == torch.device("cpu")
    assert placement.dtype("float16", torch.device("cpu")) == torch.float16
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="no cuda device"):
            placement.device("cuda")


@pytest.mark.parametrize(
    ("abilities", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_processor_works_in_bfloat16_only_where_it_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, abilities: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert placement.dtype("auto", torch.device("cpu")) == dtype


def test_a_model_may_say_what_suits_it(folder: Path) -> None:
    (folder / "sd" / "defaults.json").write_text('{"guidance_scale": 2.5, "guidance_end": 0.5, "sampler": "Heun"}')
    recipe = Manager([folder], "cpu").default_recipe("sd")
    assert (recipe.guidance_scale, recipe.sampler, recipe.steps) == (2.5, "Heun", 25)
    assert recipe.guidance_end == 0.5
    (folder / "sd" / "defaults.json").write_text('{"colour": "red"}')
    assert "lacks what it should say" in found(folder).problem
