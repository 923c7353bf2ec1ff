"""Finding models as other programs keep them, on a disk that changes, and in what was put there to do harm."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from studio.files import headers
from studio.files.identity import parts
from studio.files.identity.identify import Identity
from studio.models import catalog, loading
from studio.models.catalog import Catalog, Entry
from studio.models.manager import Manager
from studio.models.records import Records
from studio.settings import ROOT
from tests import weights
from tests.test_headers import CASES, mutated
from tests.test_loading import t5
from tests.weights import (
    CLIP_L,
    FLUX,
    FLUX2,
    FLUX_VAE,
    LORA,
    QWEN,
    SD1,
    SD2,
    SD3,
    SDXL,
    T5,
    VAE,
    Z_IMAGE,
    below,
    unet,
)  # fmt: skip

VAE_ALONE = {name.removeprefix("first_stage_model."): shape for name, shape in VAE.items()}


@pytest.fixture
def configs(models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for assets/configs, made of the tiny models'."""
    folder = tmp_path / "configs"
    for name, like in (("stable-diffusion-v1", "sd"), ("flux-1-dev", "flux")):
        shutil.copytree(models_folder / like, folder / name, ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(catalog, "CONFIGS", folder)
    return folder


def found(*folders: Path, **options: object) -> dict[str, Entry]:
    """What is found beside the bundled model, by key."""
    entries = Catalog(folders, **options).everything()  # type: ignore[arg-type]
    return {entry.key: entry for entry in entries if not entry.path.is_relative_to(catalog.BUNDLED)}


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")


def test_an_installation_of_a1111_is_understood(configs: Path, tmp_path: Path) -> None:
    root = tmp_path / "webui"
    files(
        root, "webui.py", "launch.py", "venv/lib/x.safetensors", "repositories/r/models/y.ckpt", "outputs/z.safetensors"
    )
    weights.safetensors(root / "models/Stable-diffusion/anime/painter.safetensors", SD1)
    weights.safetensors(root / "models/Lora/people/ann.safetensors", LORA)
    weights.safetensors(root / "models/VAE/soft.safetensors", VAE_ALONE)
    weights.safetensors(root / "embeddings/better.safetensors", {"emb_params": (4, 768)})
    files(root, "models/ESRGAN/4x.pth", "embeddings/old.pt", "extensions/sd-webui-controlnet/models/canny.pth")
    entries = found(root)
    assert set(entries) == {
        "model/anime/painter.safetensors", "lora/ann", "vae/soft", "embedding/better", "embedding/old", "upscaler/4x",
        "controlnet/canny",
    }  # fmt: skip
    model = entries["model/anime/painter.safetensors"]
    assert not model.problem and model.single and model.family == "Stable Diffusion" and model.base == "sd1"
    assert model.config == configs / "stable-diffusion-v1" and model.facts and not model.companions
    assert "pickle" in entries["embedding/old"].problem and "pickle" in entries["upscaler/4x"].problem


def test_an_installation_of_comfyui_is_understood(configs: Path, tmp_path: Path) -> None:
    root = tmp_path / "ComfyUI"
    files(root, "main.py", "custom_nodes/x/models/y.safetensors", "output/a.safetensors")
    weights.safetensors(root / "models/checkpoints/painter.safetensors", SD1)
    weights.safetensors(root / "models/loras/ann.safetensors", LORA)
    weights.safetensors(root / "models/unet/flux1-dev.safetensors", FLUX, dtype="F8_E4M3")
    weights.gguf(root / "models/diffusion_models/flux1-dev-Q8.gguf", FLUX)
    weights.safetensors(root / "models/vae/ae.safetensors", FLUX_VAE)
    weights.safetensors(root / "models/text_encoders/t5xxl_fp8.safetensors", T5, dtype="F8_E4M3")
    weights.safetensors(root / "models/text_encoders/t5xxl_fp16.safetensors", T5)
    assert "CLIP-L" in found(root)["model/flux1-dev.safetensors"].problem
    weights.safetensors(root / "models/clip/clip_l.safetensors", CLIP_L)
    entries = found(root)
    flux = entries["model/flux1-dev.safetensors"]
    assert not flux.problem and (flux.precision, flux.variant) == ("fp8 (e4m3)", "dev")
    assert {part: path.name for part, path in flux.companions} == {
        "vae": "ae.safetensors", "text_encoder": "clip_l.safetensors", "text_encoder_2": "t5xxl_fp16.safetensors",
    }  # fmt: skip
    assert not entries["model/flux1-dev-Q8.gguf"].problem
    assert entries["text encoder/t5xxl_fp16"].variant == "t5-xxl" and "lora/ann" in entries


FLUX_KEY = "model/flux1-dev.safetensors"


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (
            "text_encoders/t5xxl_fp16",
            r"Put the text encoder T5-XXL \(t5xxl_fp16.safetensors or .*\) into .*_encoders",
        ),
        ("text_encoders/clip_l", r"Put the text encoder CLIP-L \(clip_l.safetensors\) into .*models.text_encoders"),
        ("vae/ae", r"Put the VAE of FLUX.1 \(ae.safetensors\) into .*models.vae"),
        ("t5_tokenizer", r"Put the tokenizer of T5 \(.* as t5_tokenizer\) into .*models\. "),
    ],
)
def test_a_part_that_is_nowhere_is_named_with_its_place(tmp_path: Path, file: str, sentence: str) -> None:
    """With the configs that ship; and it is seen when it goes, and when it comes back."""
    root = tmp_path / "ComfyUI"
    weights.flux_in_parts(root / "models")
    home = t5(root / "models/t5_tokenizer")
    path = home if "tokenizer" in file else root / f"models/{file}.safetensors"
    files(root, "main.py")
    for folder in (root, root / "models"):
        watched = Catalog([folder])
        entries = {entry.key: entry for entry in watched.everything()}
        assert not entries[FLUX_KEY].problem
        assert dict(entries[FLUX_KEY].companions)["tokenizer_2"] == home
        path.rename(tmp_path / "away")
        problem = {entry.key: entry for entry in watched.everything()}[FLUX_KEY].problem
        assert re.search(sentence, problem) and problem.endswith(".")
        (tmp_path / "away").rename(path)
        assert {entry.key: entry for entry in watched.everything()} == entries


def test_stable_diffusion_3_is_used_without_t5_until_there_is_one(tmp_path: Path) -> None:
    """Its encoder is nothing without its tokenizer, so it takes both."""
    home = tmp_path / "models"
    weights.safetensors(home / "checkpoints/sd3.safetensors", SD3)
    for name in ("clip-l", "clip-g"):
        shapes = CLIP_L | {"text_model.embeddings.token_embedding.weight": parts.PARTS[name].size}
        weights.safetensors(home / f"text_encoders/{name}.safetensors", shapes)
    without = found(home)["model/sd3.safetensors"]
    assert not without.problem and without.without == ("tokenizer_3", "text_encoder_3")
    assert not {"tokenizer_3", "text_encoder_3"} & {*catalog.wanted(without)}
    assert set(loading.sources(without, catalog.wanted(without))) == {
        "transformer", "text_encoder", "text_encoder_2", "vae",
    }  # fmt: skip
    assert re.search(r"T5-XXL .* into .*text_encoders, the tokenizer of T5 .* into .*models\.", without.advice)
    weights.safetensors(home / "text_encoders/t5xxl_fp16.safetensors", T5)
    assert found(home)["model/sd3.safetensors"].without
    t5(home / "t5_tokenizer")
    complete = found(home)["model/sd3.safetensors"]
    assert not complete.without and not complete.advice and "text_encoder_3" in catalog.wanted(complete)


SPLIT = {
    "flux2": FLUX2, "qwen-image": QWEN, "z-image": Z_IMAGE,
    "flux1": FLUX, "sd1": SD1, "sd2": SD2, "sdxl": SDXL, "sd3": SD3, "bare sd1": unet(768), "bare sdxl": unet(2048),
}  # fmt: skip


def test_what_is_ready_has_a_source_for_each_part(tmp_path: Path) -> None:
    """The loader's view of each kind of single file that the catalog offers, by the headers of files of real shapes."""
    home = tmp_path / "models"
    for name, shapes in SPLIT.items():
        weights.safetensors(home / f"checkpoints/{name}.safetensors", shapes)
    lacking = found(home)
    assert {key for key, entry in lacking.items() if not entry.problem} == {
        f"model/{name}.safetensors" for name in ("sd1", "sd2", "sdxl")
    }
    for name, part in parts.PARTS.items():
        kind, shape = part.kind, part.size
        tensors = {
            "CLIP": CLIP_L | {"text_model.embeddings.token_embedding.weight": shape},
            "T5En": {"encoder.embed_tokens.weight": shape},
            "Qwen": {"model.embed_tokens.weight": shape},
            "Auto": {"decoder.conv_in.weight": (512, *shape, 3, 3), "decoder.conv_out.weight": (3, 1)},
        }[kind[:4]]
        if name == "qwen-image":
            tensors = {"decoder.conv1.weight": (384, 16, 3, 3, 3), "decoder.head.2.weight": (3, 1)}
        weights.safetensors(home / part.folder / f"{name}.safetensors", tensors)
    t5(home / "t5_tokenizer")
    files(home, "qwen_tokenizer/vocab.json")
    (home / "qwen_tokenizer/tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    ready = [entry for entry in found(home).values() if entry.kind == "model"]
    assert len(ready) == len(SPLIT) and not any(entry.problem for entry in ready)
    for entry in ready:
        wanted = catalog.wanted(entry)
        sources = loading.sources(entry, wanted)
        assert set(sources) == {part for part in wanted if part != "scheduler" and "tokenizer" not in part}
        away = {part for part, source in sources.items() if source.path != entry.path}
        assert away == {part for part, _ in entry.companions if "tokenizer" not in part}
        assert set(parts.vocabularies(entry.config)) == {part for part, _ in entry.companions} - away
        for name in away:
            assert sources[name].path.stem == parts.NEEDS[entry.base][name]


def test_parts_lie_in_any_of_the_folders_and_in_the_hubs_cache(tmp_path: Path) -> None:
    weights.safetensors(tmp_path / "a/unet/flux1-dev.safetensors", FLUX)
    weights.safetensors(tmp_path / "b/VAE/whatever.safetensors", FLUX_VAE)
    cache = tmp_path / "hub"
    for name, shapes in (("clip_l", CLIP_L), ("t5xxl_fp16", T5)):
        blob = weights.safetensors(cache / f"models--ann--encoders/blobs/{name}", shapes)
        link = cache / f"models--ann--encoders/snapshots/abc/{name}.safetensors"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    t5(cache / "models--ann--flux/snapshots/abc/tokenizer_2")
    flux = found(tmp_path / "a", tmp_path / "b", cache)[FLUX_KEY]
    assert not flux.problem and set(dict(flux.companions)) == {"vae", "text_encoder", "text_encoder_2", "tokenizer_2"}
    assert "VAE of FLUX.1" in found(tmp_path / "a", cache)[FLUX_KEY].problem


def test_tokenizers_of_forge_and_of_comfyui_are_found_around_their_models(tmp_path: Path) -> None:
    for program, home in (("forge", "backend/huggingface/flux/tokenizer_2"), ("comfy", "comfy/text_encoders/t5")):
        weights.flux_in_parts(tmp_path / program / "models")
        assert found(tmp_path / program / "models")[FLUX_KEY].problem
        t5(tmp_path / program / home)
        for folder in (tmp_path / program / "models", tmp_path / program):
            assert not found(folder)[FLUX_KEY].problem


def test_only_what_can_be_read_counts_as_a_part(configs: Path, tmp_path: Path) -> None:
    """llama.cpp's names and files, and a tensor of the right name and the wrong shape."""
    home = tmp_path / "models"
    weights.flux_in_parts(home)
    weights.gguf(home / "text_encoders/odd-Q8.gguf", {"token_embd.weight": (32128, 4096)})
    weights.gguf(home / "text_encoders/qwen-Q8.gguf", {"token_embd.weight": (152064, 3584)})
    weights.safetensors(home / "text_encoders/umt5.safetensors", {"shared.weight": (256384, 4096)})
    weights.safetensors(home / "text_encoders/odd.safetensors", {"text_encoder.shared.weight": (32128, 4096)})
    assert not found(home)[FLUX_KEY].problem
    (home / "text_encoders/t5xxl_fp16.safetensors").unlink()
    entries = found(home)
    assert "T5-XXL" in entries[FLUX_KEY].problem and "CLIP" not in entries[FLUX_KEY].problem
    assert entries["text encoder/odd-Q8"].variant == "t5-xxl as GGUF" and not entries["text encoder/odd"].variant
    assert entries["text encoder/qwen-Q8"].variant == "qwen2.5-vl-7b as GGUF"
    shapes = {"token_embd.weight": (32128, 4096), "enc.blk.0.attn_q.weight": (4096, 4096)}
    for kind, name in ((2, "t5-Q4_0"), (8, "t5-Q8_0"), (3, "t5-Q4_1")):  # all take the same room in this file
        weights.gguf(home / f"text_encoders/{name}.gguf", shapes, kind=kind)
    with (home / "text_encoders/t5-Q8_0.gguf").open("ab") as file:
        file.write(b"\0" * 32)
    flux = found(home)[FLUX_KEY]
    assert not flux.problem and dict(flux.companions)["text_encoder_2"].name == "t5-Q8_0.gguf"


def test_the_further_folders_of_comfyui_are_found(configs: Path, tmp_path: Path) -> None:
    root, other = tmp_path / "ComfyUI", tmp_path / "other"
    files(root, "main.py", "models/none")
    weights.safetensors(other / "Lora/ann.safetensors", LORA)
    weights.safetensors(other / "LyCORIS/bob.safetensors", LORA)
    path = root / "extra_model_paths.yaml"
    path.write_text(f"a111:\n  base_path: {other}\n  loras: |\n    Lora\n    LyCORIS\n  is_default: true\nb: 3\n")
    assert set(found(root)) == {"lora/ann", "lora/bob"}
    for text in ("[", "a: &a [*a, *a]", "- 1", "a:\n  loras: /dev/null", "{" * 5000, "a: !!python/object:os.system x"):
        path.write_text(text)
        assert not found(root)


def test_one_model_can_be_the_models_folder(models_folder: Path) -> None:
    assert not found(models_folder / "sd")["model/sd"].problem


def test_an_installation_of_invokeai_is_understood(configs: Path, models_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "invokeai"
    files(root, "invokeai.yaml")
    shutil.copytree(models_folder / "sd", root / "models/sd-1/main/tiny")
    weights.safetensors(root / "models/sd-1/lora/ann.safetensors", LORA)
    shutil.copytree(models_folder / "sd" / "vae", root / "models/sd-1/vae/soft")
    entries = found(root)
    assert not entries["model/tiny"].problem and "lora/ann" in entries
    assert entries["vae/soft"].path == root / "models/sd-1/vae/soft" and not entries["vae/soft"].single


def test_what_a_file_is_stands_in_its_header_and_not_in_its_folder(configs: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    weights.safetensors(root / "checkpoints/mislaid.safetensors", LORA)
    weights.safetensors(root / "loras/model.safetensors", SD1)
    weights.safetensors(root / "vae/strange.safetensors", {"x": (3,)})
    assert set(found(root)) == {"lora/mislaid", "model/model.safetensors", "vae/strange"}


def test_the_hub_cache_is_read_by_its_own_names(configs: Path, models_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    shutil.copytree(models_folder / "sd", cache / "models--ann--tiny/snapshots/abc")
    shutil.copytree(models_folder / "sd", cache / "models--ann--tiny/snapshots/old")
    (cache / "models--ann--tiny/refs").mkdir()
    (cache / "models--ann--tiny/refs/main").write_text("abc")
    blob = weights.safetensors(cache / "models--ann--lora/blobs/123", LORA)
    (cache / "models--ann--lora/snapshots/r").mkdir(parents=True)
    (cache / "models--ann--lora/snapshots/r/pytorch_lora_weights.safetensors").symlink_to(blob)
    files(
        cache, "models--ann--words/snapshots/r/pytorch_model.bin", "models--ann--none/refs/main", "datasets--a--b/x.bin"
    )
    entries = found(cache)
    assert {"model/ann/tiny", "lora/ann/lora/pytorch_lora_weights"} <= set(entries)
    assert entries["model/ann/tiny"].path == cache / "models--ann--tiny/snapshots/abc"
    assert not [key for key in entries if "words" in key or "none" in key]


def test_names_are_those_of_no_other(configs: Path, tmp_path: Path) -> None:
    for name in ("a/ann", "b/ann", "c/ann"):
        weights.safetensors(tmp_path / "models/Lora" / f"{name}.safetensors", LORA)
    weights.safetensors(tmp_path / "models/Stable-diffusion/x.safetensors", SD1)
    weights.safetensors(tmp_path / "models/checkpoints/x.safetensors", SD1)
    entries = found(tmp_path / "models", tmp_path / "models" / "Lora")
    assert {"lora/ann", "lora/b/ann", "lora/c/ann", "model/x.safetensors"} <= set(entries)
    assert len(entries) == 5


def test_a_folder_bears_the_same_stamp_in_every_run_of_the_program(models_folder: Path) -> None:
    code = """if True:
        import pathlib, sys
        from studio.models import places
        print([found.stamp for found in places.look(pathlib.Path(sys.argv[1]), set())])
    """
    told = {
        subprocess.run(
            [sys.executable, "-c", code, str(models_folder)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1 and "(" in told.pop()


def test_a_folder_that_changes_is_seen_at_once(configs: Path, tmp_path: Path) -> None:
    watched = Catalog([tmp_path / "models"])
    path = weights.safetensors(tmp_path / "models/x.safetensors", SD1)
    assert [entry.name for entry in watched.entries()] == ["sketchbook", "x.safetensors"]
    os.truncate(path, path.stat().st_size - 1)
    assert "damaged" in watched.entries()[1].problem
    weights.safetensors(path, LORA)
    assert [entry.name for entry in watched.entries()] == ["sketchbook"]
    assert [entry.key for entry in watched.everything()] == ["model/sketchbook", "lora/x"]
    path.unlink()
    assert [entry.key for entry in watched.everything()] == ["model/sketchbook"]


def test_what_was_read_is_not_read_again(configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.safetensors(tmp_path / "models/x.safetensors", SD1)
    records = Records(tmp_path / "records.sqlite")
    first = Catalog([tmp_path / "models"], records=records).entries()
    records.close()
    monkeypatch.setattr("studio.models.catalog.identify", lambda *given: pytest.fail("read again"))
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path / "none")
    again = Catalog([tmp_path / "models"], records=Records(tmp_path / "records.sqlite"))
    assert again.entries() == first[1:] and again.entries()[0].identity.base == "sd1"


def test_records_outlive_a_damaged_file_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "models.sqlite"
    path.write_bytes(b"no database at all" * 100)
    records = Records(path)
    records.keep_notes("model/x", "mine")
    records.keep_defaults("model/x", {"steps": 7})
    records.remember([(Path("a\udcff"), (1, 2), Identity("lora", triggers=("a",)))])
    records.close()
    assert (tmp_path / "models.sqlite.damaged").exists()
    again = Records(path)
    assert (again.notes("model/x"), again.defaults("model/x"), again.all_notes()) == (
        "mine",
        {"steps": 7},
        {"model/x": "mine"},
    )
    assert again.identity(Path("a\udcff"), (1, 2)) == Identity("lora", triggers=("a",))
    assert again.identity(Path("a\udcff"), (1, 3)) is None
    (tmp_path / "file").write_text("")
    elsewhere = Records(tmp_path / "file" / "models.sqlite")
    elsewhere.keep_notes("model/x", "kept as long as the studio runs")
    assert elsewhere.notes("model/x")


def test_defaults_of_ones_own_are_what_a_form_begins_with(models_folder: Path) -> None:
    manager = Manager(Catalog([models_folder]), "cpu")
    manager.catalog.records.keep_defaults("model/sd", {"steps": 7, "sampler": "Euler"})
    recipe = manager.default_recipe("sd")
    assert (recipe.steps, recipe.sampler, recipe.width) == (7, "Euler", 64)


def test_distilled_models_begin_with_few_steps(configs: Path, tmp_path: Path) -> None:
    weights.safetensors(tmp_path / "models/dream_turbo.safetensors", SD1)
    facts = found(tmp_path / "models")["model/dream_turbo.safetensors"].facts
    assert facts and (facts.steps, facts.guidance_scale) == (4, 1.0)


def test_single_files_without_their_configs_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "CONFIGS", tmp_path / "none")
    weights.safetensors(tmp_path / "models/x.safetensors", SDXL)
    weights.safetensors(tmp_path / "models/y.safetensors", unet(1280, at="input_blocks.4.1"))
    entries = found(tmp_path / "models")
    assert "stable-diffusion-xl. Install the studio again" in entries["model/x.safetensors"].problem
    assert "Stable Diffusion XL refiner in a single file" in entries["model/y.safetensors"].problem


def test_pickles_are_offered_only_when_they_are_allowed(configs: Path, tmp_path: Path) -> None:
    import torch

    (tmp_path / "models").mkdir()
    shapes = {**unet(768), **VAE, **below("cond_stage_model.transformer.", CLIP_L)}
    state = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    torch.save({"state_dict": {name: value.half() for name, value in state.items()}}, tmp_path / "models/old.ckpt")
    records = Records(tmp_path / "records.sqlite")
    key = "model/old.ckpt"
    assert "--allow-pickles" in found(tmp_path / "models", records=records)[key].problem
    allowed = found(tmp_path / "models", records=records, allow_pickles=True)[key]
    assert not allowed.problem and allowed.base == "sd1" and allowed.identity.parts == ("unet", "vae", "text_encoder")
    assert "--allow-pickles" in found(tmp_path / "models", records=records)[key].problem


def test_links_in_a_circle_and_into_nothing_end(configs: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    weights.safetensors(root / "deep/x.safetensors", SD1)
    (root / "deep/again").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "gone.safetensors").symlink_to(root / "nowhere")
    (root / "loop.safetensors").symlink_to(root / "loop.safetensors")
    assert set(found(root, root / "deep", root)) == {"model/deep/x.safetensors"}


def test_names_that_would_deceive_are_written_out(configs: Path, tmp_path: Path) -> None:
    for name in ("two\nlines", "right\u202eleft", "tab\tbed", "a" * 200, "..hidden", "${alert(1)} <b>"):
        weights.safetensors(tmp_path / f"models/{name}.safetensors", SD1)
    os.rename(tmp_path / f"models/{'a' * 200}.safetensors", os.fsencode(tmp_path / "models") + b"/\xff\xfe.safetensors")
    entries = found(tmp_path / "models")
    assert len(entries) == 6
    for entry in entries.values():
        assert entry.name.isprintable() and entry.name.encode() and entry.problem.isprintable()
    assert r"model/right\u202eleft.safetensors" in entries


def test_a_file_that_vanishes_or_cannot_be_read_is_told(
    configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights.safetensors(tmp_path / "models/x.safetensors", SD1)
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path / "none")
    read = headers.read

    def vanishing(each: Path) -> object:
        path.unlink(missing_ok=True)
        return read(each)

    monkeypatch.setattr("studio.files.headers.read", vanishing)
    assert "is gone" in found(tmp_path / "models")["model/x.safetensors"].problem
    assert not path.exists()


NASTY_JSON = (
    "",
    "{",
    "[]",
    "null",
    '{"_class_name": 5}',
    "[" * 100_000,
    '{"x": NaN}',
    '{"unet": 3}',
    '{"weight_map": [1]}',
)


def test_no_folder_whatsoever_ends_a_scan(models_folder: Path, configs: Path, tmp_path: Path) -> None:
    """Diffusers' folders and single files, damaged at random again and again under one catalog that watches them."""
    chance = random.Random(7)
    root = tmp_path / "models"
    watched = Catalog([root])
    one = weights.safetensors(tmp_path / "one.safetensors", {name: (1,) for name in SD1}).read_bytes()
    pristine = models_folder / "sd"
    inside = sorted(path.relative_to(pristine) for path in pristine.rglob("*") if path.is_file())
    for _ in range(CASES // 10):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(pristine, root / "sd")
        for _ in range(chance.randint(1, 3)):
            path = root / "sd" / chance.choice(inside)
            if path.is_symlink() or not path.is_file():
                continue  # damaged already
            way, start = chance.randrange(5), path.read_bytes()[:3000]
            path.unlink()
            if way == 1 and path.suffix == ".json":
                path.write_text(chance.choice(NASTY_JSON))
            elif way == 2:
                path.symlink_to(chance.choice((path, root, Path("/dev/null"))))
            elif way == 3:
                path.mkdir()
            elif way == 4:
                path.write_bytes(mutated(start, chance))
        (root / "loose.safetensors").write_bytes(mutated(one, chance))
        for entry in watched.everything():
            assert isinstance(entry.problem, str) and json.dumps([entry.name, entry.problem, entry.notes]).encode()
            assert not entry.problem or entry.problem.endswith(".")
