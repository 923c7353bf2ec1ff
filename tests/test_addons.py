"""LoRAs, embeddings, autoencoders and controls on tiny models, against diffusers' own pipelines."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from studio import addons
from studio.addons import Lora
from studio.errors import ModelError, ModelUnsafe, RecipeError
from studio.models.manager import Manager
from studio.recipe import Recipe, Turn
from studio.sources import Sources
from studio.worker import TorchWorker
from tests import tiny, tiny_addons
from tests.test_worker import PROMPT, draw, pixels, recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with models and add-ons of the tests' own."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("addons")
    tiny.stable_diffusion(folder / "sd")
    tiny.flux(folder / "flux")
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> Manager:
    models = Manager([folder], device="cpu", dtype="float32")
    sd, flux, loras = models.use("sd"), models.use("flux"), folder / "Lora"
    tiny_addons.lora(loras / "ink.safetensors", sd.unet, sd.text_encoder, seed=1)
    tiny_addons.lora(loras / "styles" / "oil.safetensors", sd.unet, sd.text_encoder, kohya=True, seed=2)
    tiny_addons.flux_lora(loras / "flux-ink.safetensors", flux.transformer, seed=3)
    tiny_addons.flux_lora(loras / "flux-oil.safetensors", flux.transformer, kohya=True, seed=4)
    return models


@pytest.fixture(scope="module")
def worker(models: Manager, sources: Sources) -> TorchWorker:
    return TorchWorker(models, sources)


def picture(worker: TorchWorker, wanted: Recipe) -> np.ndarray:
    worker.check(wanted.check())
    [run] = draw(worker, wanted)
    return pixels(worker.decode(run))


# LoRAs in the prompt


@pytest.mark.parametrize(
    ("text", "rest", "loras"),
    [
        ("a cat", "a cat", ()),
        ("a cat <lora:ink:0.8>", "a cat", (Lora("ink", 0.8, 0.8),)),
        ("a <lora:ink> cat", "a cat", (Lora("ink"),)),
        ("<lora:a:0.5:0.25>, <LORA:b c:-1>", ",", (Lora("a", 0.5, 0.25), Lora("b c", -1, -1))),
        ("x <lora:ink:te=0.5:unet=0.75>", "x", (Lora("ink", 0.5, 0.75),)),
        ("x <lora:ink:0.5><lora:ink:0.25>", "x", (Lora("ink", 0.75, 0.75),)),
        ("x <lora:ink:1:1:8>", "x", (Lora("ink"),)),
        ("1 < 2 <lora ink>", "1 < 2 <lora ink>", ()),
    ],
)
def test_tags_are_taken_out_of_the_prompt(text: str, rest: str, loras: tuple[Lora, ...]) -> None:
    assert addons.split(text) == (rest, loras)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<lora:>", "names no LoRA"),
        ("<lora:ink:strong>", "'strong' .* is no weight"),
        ("<lora:ink:1e9>", "out of range"),
        ("<lora:ink:nan>", "out of range"),
    ],
)
def test_tags_that_cannot_be_read_are_told(text: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        addons.split(text)


def test_a_lora_in_the_negative_prompt_is_told_to_have_no_effect() -> None:
    assert "ink is left out" in addons.remark("blur <lora:ink:1>")
    assert addons.remark("blur") == ""


def test_an_unknown_lora_is_told_before_the_job_with_those_that_there_are(worker: TorchWorker) -> None:
    with pytest.raises(RecipeError, match=r"no LoRA named 'inc'; there are: .*ink, styles/oil"):
        worker.check(recipe(prompt="a cat <lora:inc:1>"))
    with pytest.raises(RecipeError, match="no LoRA named 'later'"):
        worker.check(recipe(turns=(Turn(2, prompt="a <lora:later:1>"),)))


# What LoRAs do


def diffusers_picture(models: Manager, wanted: Recipe, *loras: tuple[str, float]) -> np.ndarray:
    """The recipe through diffusers' own pipeline on a copy of the model, with LoRAs."""
    model = Manager([models._folders[0]], device="cpu", dtype="float32").use(wanted.model)
    more: dict[str, Any] = {"latents": (noise := model.noise(wanted, torch.Generator().manual_seed(wanted.seed)))}
    pipeline: Any
    if wanted.model == "flux":
        pipeline = diffusers.FluxPipeline(
            scheduler=model.sampler(wanted)._scheduler,
            vae=model.vae,
            text_encoder=model.clip,
            tokenizer=model.clip_tokenizer,
            text_encoder_2=model.t5,
            tokenizer_2=model.t5_tokenizer,
            transformer=model.transformer,
        )
        more["latents"] = pipeline._pack_latents(noise, 1, 4, 8, 8)
    else:
        pipeline = diffusers.StableDiffusionPipeline(
            vae=model.vae,
            text_encoder=model.text_encoder,
            tokenizer=model.tokenizer,
            unet=model.unet,
            scheduler=model.sampler(wanted)._scheduler,
            safety_checker=None,
            feature_extractor=None,
        )
        more["negative_prompt"] = wanted.negative_prompt
    pipeline.set_progress_bar_config(disable=True)
    found = models.addons("lora")
    for number, (name, _) in enumerate(loras):
        pipeline.load_lora_weights(str(found[name]), adapter_name=f"a{number}")
    if loras:
        pipeline.set_adapters([f"a{number}" for number in range(len(loras))], [weight for _, weight in loras])
    more |= {"num_inference_steps": wanted.steps, "guidance_scale": wanted.guidance_scale}
    return pixels(pipeline(addons.split(wanted.prompt)[0], height=64, width=64, **more).images[0])


@pytest.mark.parametrize(
    ("model", "tags", "loras"),
    [
        ("sd", "<lora:ink:0.8>", [("ink", 0.8)]),
        ("sd", "<lora:oil:1.5>", [("styles/oil", 1.5)]),
        ("sd", "<lora:ink:0.5> <lora:styles/oil:-1>", [("ink", 0.5), ("styles/oil", -1.0)]),
        ("flux", "<lora:flux-ink:0.7>", [("flux-ink", 0.7)]),
        ("flux", "<lora:flux-oil>", [("flux-oil", 1.0)]),
    ],
)
def test_a_picture_with_loras_is_that_of_diffusers(
    models: Manager, worker: TorchWorker, model: str, tags: str, loras: list[tuple[str, float]]
) -> None:
    plain = picture(worker, recipe(model))
    mine = picture(worker, recipe(model, prompt=f"{PROMPT} {tags}"))
    theirs = diffusers_picture(models, recipe(model), *loras)
    assert np.abs(mine - theirs).max() <= 1
    assert np.abs(mine - plain).max() > 3
    assert (picture(worker, recipe(model)) == plain).all()


def test_each_part_has_its_own_weight(worker: TorchWorker) -> None:
    plain, whole = picture(worker, recipe()), picture(worker, recipe(prompt=f"{PROMPT} <lora:ink:1:1>"))
    words = picture(worker, recipe(prompt=f"{PROMPT} <lora:ink:1:0>"))
    strokes = picture(worker, recipe(prompt=f"{PROMPT} <lora:ink:0:1>"))
    assert len({each.tobytes() for each in (plain, whole, words, strokes)}) == 4
    assert (picture(worker, recipe(prompt=f"{PROMPT} <lora:ink:0>")) == plain).all()


@pytest.mark.parametrize("model", ["sd", "flux"])
def test_neighbours_with_other_loras_do_not_change_a_picture(worker: TorchWorker, model: str) -> None:
    """Jobs in turn at every step, as the engine has them move, each with its own LoRAs."""
    ink, oil = ("ink", "oil") if model == "sd" else ("flux-ink", "flux-oil")
    tags = ["", f"<lora:{ink}:0.8>", f"<lora:{oil}:1>", f"<lora:{ink}:0.4> <lora:{oil}:0.4>", ""]
    wanted = [recipe(model, prompt=f"{PROMPT} {each}".strip()) for each in tags]
    alone = [draw(worker, each)[0].latents for each in wanted]
    runs = [worker.begin(each) for each in wanted]
    assert len({run.key for run in runs}) == 4
    for _ in range(runs[0].total):
        for run in runs:
            worker.step([run])
    for run, expected in zip(runs, alone, strict=True):
        assert torch.equal(run.latents, expected)


def test_a_weight_is_switched_without_reading_the_file_again(models: Manager, worker: TorchWorker) -> None:
    first = picture(worker, recipe(prompt=f"{PROMPT} <lora:ink:0.3>"))
    loras = models.use("sd").loras
    loaded, number = dict(loras._loaded), loras._number
    other = picture(worker, recipe(prompt=f"{PROMPT} <lora:ink:0.9>"))
    assert (first != other).any() and loras._loaded == loaded and loras._number == number


def test_a_prompt_with_a_lora_can_be_changed_on_the_way(worker: TorchWorker) -> None:
    tagged = f"{PROMPT} <lora:ink:1>"
    turned = picture(worker, recipe(turns=(Turn(2, prompt=tagged),)))
    assert (turned != picture(worker, recipe())).any() and (turned != picture(worker, recipe(prompt=tagged))).any()


def test_a_lora_of_another_base_is_refused_with_both_names_and_leaves_nothing(
    folder: Path, models: Manager, worker: TorchWorker
) -> None:
    plain = picture(worker, recipe())
    wide = torch.nn.Module()
    wide.weight = torch.nn.Parameter(torch.zeros(640, 640))  # type: ignore[assignment]

    class Sdxl:
        def get_submodule(self, name: str) -> torch.nn.Module:
            return wide

    file = folder / "Lora" / "xl.safetensors"
    tiny_addons.lora(file, Sdxl(), Sdxl(), kohya=True, metadata={"ss_base_model_version": "sdxl_base_v1-0"})
    with pytest.raises(ModelError, match=r"LoRA xl was made for sdxl_base_v1-0 and does not fit sd\."):
        worker.begin(recipe(prompt="a <lora:xl:1>"))
    with pytest.raises(ModelError, match=r"LoRA flux-ink does not fit sd\."):
        worker.begin(recipe(prompt="a <lora:flux-ink:1>"))
    with pytest.raises(ModelError, match=r"LoRA ink does not fit flux\."):
        worker.begin(recipe("flux", prompt="a <lora:ink:1>"))
    assert (picture(worker, recipe()) == plain).all()
    assert not any("lora_" in name and "640" in str(p.shape) for name, p in models.use("sd").unet.named_parameters())


def test_a_damaged_lora_is_refused(folder: Path, worker: TorchWorker) -> None:
    (folder / "Lora" / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(ModelError, match="LoRA cut does not fit sd"):
        worker.begin(recipe(prompt="a <lora:cut>"))


def test_a_pickled_lora_is_refused(folder: Path, worker: TorchWorker) -> None:
    (folder / "Lora" / "old.pt").write_bytes(b"a pickle")
    with pytest.raises(ModelUnsafe, match=r"old\.pt is a pickle"):
        worker.check(recipe(prompt="a <lora:old>"))


def test_loras_long_unused_leave_the_memory(
    folder: Path, models: Manager, worker: TorchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.families import adapters

    monkeypatch.setattr(adapters, "IDLE_KEPT", 1)
    ink, oil = picture(worker, recipe(prompt="<lora:ink:1> a")), picture(worker, recipe(prompt="<lora:oil:1> a"))
    plain = picture(worker, recipe(prompt="a"))
    assert [file.name for file in models.use("sd").loras._loaded] == ["styles/oil"]
    assert (picture(worker, recipe(prompt="<lora:ink:1> a")) == ink).all()
    assert (picture(worker, recipe(prompt="<lora:oil:1> a")) == oil).all()
    assert (picture(worker, recipe(prompt="a")) == plain).all()


def test_a_lora_that_was_replaced_on_disk_is_read_anew(folder: Path, models: Manager, worker: TorchWorker) -> None:
    sd, file = models.use("sd"), folder / "Lora" / "new.safetensors"
    tiny_addons.lora(file, sd.unet, sd.text_encoder, seed=8)
    first = picture(worker, recipe(prompt="a <lora:new>"))
    tiny_addons.lora(file, sd.unet, sd.text_encoder, seed=9)
    assert (picture(worker, recipe(prompt="a <lora:new>")) != first).any()


def test_trained_words_come_from_the_header(folder: Path, models: Manager) -> None:
    sd = models.use("sd")
    tags = '{"10_ink": {"inkstyle": 10, "cat": 3}, "5_more": {"cat": 1, " ": 9}}'
    file = tiny_addons.lora(
        folder / "Lora" / "told.safetensors",
        sd.unet,
        sd.text_encoder,
        metadata={"ss_tag_frequency": tags, "ss_output_name": "ink-v2-000010"},
    )
    assert addons.triggers(file) == ["inkstyle", "cat"]
    assert addons.chosen("ink-v2-000010", models.addons("lora"), "LoRA").path == file


def test_a_header_that_is_no_table_tells_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    for data in (b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]", b'\x12\0\0\0\0\0\0\0{"__metadata__":3}'):
        file.write_bytes(data)
        assert addons.header(file) == {} and addons.triggers(file) == []
