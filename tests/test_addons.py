"""LoRAs, embeddings, autoencoders and controls on tiny models, against diffusers' own pipelines."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from studio.drawing.moments import Moments
from studio.drawing.worker import TorchWorker
from studio.engine.engine import Engine
from studio.engine.events import Finished
from studio.engine.job import Job
from studio.errors import ModelBroken, ModelError, ModelUnsafe, RecipeError
from studio.families.addons.lora_changes import LowRank
from studio.families.flux import Flux
from studio.families.stable_diffusion import StableDiffusion
from studio.files import addons
from studio.grids import axes
from studio.library import metadata
from studio.models import catalog
from studio.models.manager import Manager
from studio.models.places import look
from studio.pictures import controls
from studio.pictures.sources import Sources
from studio.recipe.recipe import Control, Recipe, Turn
from studio.ui.tabs import compare
from studio.web import addons as web_addons
from studio.words import tags
from studio.words.styles import Style, Styles
from studio.words.tags import Lora
from studio.words.wildcards import Wildcards
from tests import tiny, tiny_addons, weights
from tests.fakes import Events, FakeKeeper
from tests.inside import begin, use
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
    sd, flux, loras = use(models, "sd", StableDiffusion), use(models, "flux", Flux), folder / "Lora"
    tiny_addons.lora(loras / "ink.safetensors", sd.unet, sd.text_encoder, seed=1)
    tiny_addons.lora(loras / "styles" / "oil.safetensors", sd.unet, sd.text_encoder, kohya=True, seed=2)
    tiny_addons.lora(loras / "oil-peft.safetensors", sd.unet, sd.text_encoder, seed=2)
    tiny_addons.controlnet(folder / "controlnet" / "lines", sd.unet)
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
    assert tags.split(text) == (rest, loras)


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
        tags.split(text)


def test_a_lora_in_the_negative_prompt_is_told_to_have_no_effect() -> None:
    assert "ink is left out" in tags.remark("blur <lora:ink:1>")
    assert tags.remark("blur") == ""


def test_an_unknown_lora_is_told_before_the_job_with_those_that_there_are(worker: TorchWorker) -> None:
    with pytest.raises(RecipeError, match=r"no LoRA named 'inc'; there are: .*ink, oil"):
        worker.check(recipe(prompt="a cat <lora:inc:1>"))
    with pytest.raises(RecipeError, match="no LoRA named 'later'"):
        worker.check(recipe(turns=(Turn(2, prompt="a <lora:later:1>"),)))


# What LoRAs do


def stock(models: Manager, wanted: Recipe) -> Any:
    """diffusers' own pipeline with a copy of the model."""
    copy = Manager(models.folders, device="cpu", dtype="float32")
    pipeline: Any
    if wanted.model == "flux":
        flux = use(copy, "flux", Flux)
        pipeline = diffusers.FluxPipeline(
            scheduler=flux.sampler(wanted)._scheduler,
            vae=flux.vae,
            text_encoder=flux.clip,
            tokenizer=flux.clip_tokenizer,
            text_encoder_2=flux.t5,
            tokenizer_2=flux.t5_tokenizer,
            transformer=flux.transformer,
        )
    else:
        model = use(copy, wanted.model, StableDiffusion)
        pipeline = diffusers.StableDiffusionPipeline(
            vae=model.vae,
            text_encoder=model.text_encoder,
            tokenizer=model.tokenizer,
            unet=model.unet,
            scheduler=model.sampler(wanted)._scheduler,
            safety_checker=None,
            feature_extractor=None,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock_pixels(models: Manager, pipeline: Any, wanted: Recipe, **more: Any) -> np.ndarray:
    """What it draws of the recipe."""
    noise = use(models, wanted.model).noise(wanted, torch.Generator().manual_seed(wanted.seed))
    if wanted.model == "flux":
        noise = pipeline._pack_latents(noise, 1, 4, 8, 8)
    else:
        more["negative_prompt"] = wanted.negative_prompt
    return pixels(
        pipeline(
            tags.split(wanted.prompt)[0],
            num_inference_steps=wanted.steps,
            guidance_scale=wanted.guidance_scale,
            height=64,
            width=64,
            latents=noise,
            **more,
        ).images[0]
    )


def diffusers_picture(models: Manager, wanted: Recipe, *loras: tuple[str, float]) -> np.ndarray:
    """The recipe through diffusers' own pipeline, with LoRAs."""
    pipeline, found = stock(models, wanted), models.addons("lora")
    for number, (name, _) in enumerate(loras):
        pipeline.load_lora_weights(str(found[name]), adapter_name=f"a{number}")
    if loras:
        pipeline.set_adapters([f"a{number}" for number in range(len(loras))], [weight for _, weight in loras])
    return stock_pixels(models, pipeline, wanted)


@pytest.mark.parametrize(
    ("model", "tags", "loras"),
    [
        ("sd", "<lora:ink:0.8>", [("ink", 0.8)]),
        # Of kohya's files diffusers leaves out the attention of text encoders, so it is given the same in PEFT's names,
        # which have no alpha: theirs is half of the rank.
        ("sd", "<lora:oil:1.5>", [("oil-peft", 0.75)]),
        ("sd", "<lora:ink:0.5> <lora:styles/oil:-1>", [("ink", 0.5), ("oil-peft", -0.5)]),
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
    loras = use(models, "sd", StableDiffusion).loras
    loaded = dict(loras._loaded)
    other = picture(worker, recipe(prompt=f"{PROMPT} <lora:ink:0.9>"))
    assert (first != other).any()
    assert [id(each) for each in loras._loaded.values()] == [id(each) for each in loaded.values()]


def test_a_prompt_with_a_lora_can_be_changed_on_the_way(worker: TorchWorker) -> None:
    tagged = f"{PROMPT} <lora:ink:1>"
    turned = picture(worker, recipe(turns=(Turn(2, prompt=tagged),)))
    assert (turned != picture(worker, recipe())).any() and (turned != picture(worker, recipe(prompt=tagged))).any()


def test_a_lora_of_another_base_is_refused_with_both_names_and_leaves_nothing(
    folder: Path, models: Manager, worker: TorchWorker
) -> None:
    plain = picture(worker, recipe())
    wide = torch.nn.Module()
    wide.weight = torch.nn.Parameter(torch.zeros(640, 640))

    class Sdxl:
        def get_submodule(self, name: str) -> torch.nn.Module:
            return wide

    file = folder / "Lora" / "xl.safetensors"
    tiny_addons.lora(file, Sdxl(), Sdxl(), kohya=True, metadata={"ss_base_model_version": "sdxl_base_v1-0"})
    with pytest.raises(
        ModelError, match=r"LoRA xl was made for sdxl_base_v1-0 and does not fit sd: it is made for weights"
    ):
        worker.begin(recipe(prompt="a <lora:xl:1>"))
    with pytest.raises(ModelError, match=r"LoRA flux-ink does not fit sd: it is for a model with other layers"):
        worker.begin(recipe(prompt="a <lora:flux-ink:1>"))
    with pytest.raises(ModelError, match=r"LoRA ink does not fit flux: it is for a model with other layers"):
        worker.begin(recipe("flux", prompt="a <lora:ink:1>"))
    assert (picture(worker, recipe()) == plain).all()
    assert not any(module._forward_hooks for module in use(models, "sd", StableDiffusion).unet.modules())


def test_a_damaged_lora_is_refused(folder: Path, worker: TorchWorker) -> None:
    (folder / "Lora" / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(ModelBroken, match=r"cut\.safetensors is damaged"):
        worker.begin(recipe(prompt="a <lora:cut>"))


def test_a_pickled_lora_is_refused(folder: Path, worker: TorchWorker) -> None:
    (folder / "Lora" / "old.pt").write_bytes(b"a pickle")
    with pytest.raises(ModelUnsafe, match=r"old\.pt is a pickle"):
        worker.check(recipe(prompt="a <lora:old>"))


def test_loras_long_unused_leave_the_memory(
    folder: Path, models: Manager, worker: TorchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.families.addons import adapters

    monkeypatch.setattr(adapters, "IDLE_KEPT", 1)
    ink, oil = picture(worker, recipe(prompt="<lora:ink:1> a")), picture(worker, recipe(prompt="<lora:oil:1> a"))
    plain = picture(worker, recipe(prompt="a"))
    assert [file.name for file in use(models, "sd", StableDiffusion).loras._loaded] == ["oil"]
    assert (picture(worker, recipe(prompt="<lora:ink:1> a")) == ink).all()
    assert (picture(worker, recipe(prompt="<lora:oil:1> a")) == oil).all()
    assert (picture(worker, recipe(prompt="a")) == plain).all()


def test_in_half_precision_a_lora_has_that_precision_too(folder: Path, sources: Sources) -> None:
    worker = TorchWorker(Manager([folder], device="cpu", dtype="bfloat16"), sources)
    plain = picture(worker, recipe())
    assert (picture(worker, recipe(prompt=f"{PROMPT} <lora:ink:0.8>")) != plain).any()
    [loaded] = use(worker._models, "sd", StableDiffusion).loras._loaded.values()
    assert loaded.changes
    for _, _, change in loaded.changes:
        assert isinstance(change, LowRank) and change.down.dtype == torch.bfloat16
    assert (picture(worker, recipe()) == plain).all()


def test_a_lora_that_was_replaced_on_disk_is_read_anew(folder: Path, models: Manager, worker: TorchWorker) -> None:
    sd, file = use(models, "sd", StableDiffusion), folder / "Lora" / "new.safetensors"
    tiny_addons.lora(file, sd.unet, sd.text_encoder, seed=8)
    first = picture(worker, recipe(prompt="a <lora:new>"))
    tiny_addons.lora(file, sd.unet, sd.text_encoder, seed=9)
    assert (picture(worker, recipe(prompt="a <lora:new>")) != first).any()


def test_trained_words_come_from_the_header(folder: Path, models: Manager) -> None:
    sd = use(models, "sd", StableDiffusion)
    tags = '{"10_ink": {"inkstyle": 10, "cat": 3}, "5_more": {"cat": 1, " ": 9}}'
    file = tiny_addons.lora(
        folder / "Lora" / "told.safetensors",
        sd.unet,
        sd.text_encoder,
        metadata={"ss_tag_frequency": tags, "ss_output_name": "ink-v2-000010"},
    )
    assert addons.told(file).words == ("inkstyle", "cat")
    assert addons.chosen("ink-v2-000010", models.addons("lora"), "LoRA").path == file


def test_a_header_that_is_no_table_tells_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    for data in (b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]", b'\x12\0\0\0\0\0\0\0{"__metadata__":3}'):
        file.write_bytes(data)
        assert addons.header(file) == {} and addons.told(file) == addons.Told()


@pytest.mark.parametrize(
    "told",
    ["my__cool__lora", "my__cool__lora.safetensors", r"styles\my__cool__lora", r"Styles\MY__cool__lora.safetensors",
     "elsewhere/my__cool__lora", "styles/my__cool__lora.pt"],
)  # fmt: skip
def test_a_name_may_have_an_ending_and_be_a_path_on_windows(tmp_path: Path, told: str) -> None:
    path = tmp_path / "my__cool__lora.safetensors"
    path.touch()
    text = f"<lora:{told}:0.5> a fox <lyco:styles/my__cool__lora:0.25>"
    words, loras = tags.split(Wildcards([]).resolve(text, 1))
    assert words == "a fox"
    # As one that is named twice, it has the sum of its weights.
    [lora] = tags.located(loras, {"v1.5": path.with_name("v"), "styles/my__cool__lora": path})
    assert (lora.text, lora.denoiser, lora.file and lora.file.path) == (0.75, 0.75, path)


def test_a_name_with_a_point_in_it_is_no_ending(tmp_path: Path) -> None:
    for name in ("ink.v2", "ink", "ink.safetensors"):
        (tmp_path / name).touch()
    found = {name: tmp_path / name for name in ("ink.v2", "ink", "ink.safetensors")}
    for name in found:
        assert addons.chosen(name, found, "LoRA").name == name


# Embeddings


def diffusers_embedded(models: Manager, wanted: Recipe, *files: Path) -> np.ndarray:
    """A picture of diffusers' own pipeline, whose prompt says `word0`, `word1`… for the embeddings."""
    pipeline = stock(models, wanted)
    for number, file in enumerate(files):
        pipeline.load_textual_inversion(str(file), token=f"word{number}", local_files_only=True)
    return stock_pixels(models, pipeline, wanted)


def test_embeddings_in_the_prompt_are_those_of_diffusers(folder: Path, models: Manager, worker: TorchWorker) -> None:
    plain = picture(worker, recipe(prompt="a inky cat", negative_prompt="inky"))
    one = tiny_addons.embedding(folder / "embeddings" / "Inky.safetensors", seed=1)
    three = tiny_addons.embedding(folder / "embeddings" / "sub" / "inky-three.safetensors", 3, seed=2)
    for prompt, negative, tokens in (
        ("a inky cat", "dog", "a word0 cat"),
        ("a INKY-three cat on inky", "dog", "a word1 cat on word0"),
    ):
        mine = picture(worker, recipe(prompt=prompt, negative_prompt=negative))
        theirs = diffusers_embedded(models, recipe(prompt=tokens, negative_prompt=negative), one, three)
        assert np.abs(mine - theirs).max() <= 1
        assert np.abs(mine - plain).max() > 3
    avoided = picture(worker, recipe(negative_prompt="inky"))
    assert np.abs(avoided - diffusers_embedded(models, recipe(negative_prompt="word0"), one)).max() <= 1
    one.unlink()
    # Without the file the name is a word like any other, and reads as it did before.
    assert (picture(worker, recipe(prompt="a inky cat", negative_prompt="inky")) == plain).all()


def test_the_name_within_another_word_is_no_embedding(folder: Path, worker: TorchWorker) -> None:
    plain = picture(worker, recipe(prompt="a gloomy-ish ungloomy cat"))
    tiny_addons.embedding(folder / "embeddings" / "gloomy.safetensors", seed=3)
    assert (picture(worker, recipe(prompt="a gloomy-ish ungloomy cat")) == plain).all()


def test_an_embedding_for_another_model_is_a_word_unless_it_is_asked_for(folder: Path, worker: TorchWorker) -> None:
    """Its vectors must be as wide as the text encoders are, and for as many of them (Gal et al., arXiv:2208.01618)."""
    prompts = [f"a {name} cat" for name in ("wide", "half", "three")]
    plain = [picture(worker, recipe(prompt=prompt)) for prompt in prompts]
    tiny_addons.embedding(folder / "embeddings" / "wide.safetensors", width=24)
    tiny_addons.embedding(folder / "embeddings" / "half.safetensors", key="clip_g")
    weights.safetensors(
        folder / "embeddings/three.safetensors", {"clip_l": (1, 768), "clip_g": (1, 1280), "t5": (1, 9)}
    )
    for prompt, before in zip(prompts, plain, strict=True):
        worker.check(recipe(prompt=prompt))
        assert (picture(worker, recipe(prompt=prompt)) == before).all()
    for name in ("wide", "half"):
        with pytest.raises(ModelError, match=f"embedding {name} was made for another kind of model than sd"):
            picture(worker, recipe(prompt=f"a embedding:{name} cat"))


def test_an_embedding_can_be_asked_for_as_in_comfyui(folder: Path, worker: TorchWorker) -> None:
    tiny_addons.embedding(folder / "embeddings" / "sub" / "Inky.safetensors", 2, seed=1)
    expected = picture(worker, recipe(prompt="a inky cat"))
    for text in ("embedding:inky", "embedding:sub/inky", r"Embedding:sub\inky.safetensors", "embedding:inky.pt"):
        assert (picture(worker, recipe(prompt=f"a {text} cat")) == expected).all(), text
    weighted = picture(worker, recipe(prompt="a (inky:1.3) cat"))
    assert (picture(worker, recipe(prompt="a (embedding:inky:1.3) cat")) == weighted).all()


def test_a_pickled_embedding_is_refused_unless_pickles_are_allowed(
    folder: Path, models: Manager, worker: TorchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = torch.randn(2, 16, generator=torch.Generator().manual_seed(4))
    torch.save({"string_to_param": {"*": vectors}, "name": "x"}, folder / "embeddings" / "oldone.pt")
    with pytest.raises(ModelUnsafe, match=r"oldone\.pt is a pickle"):
        worker.check(recipe(prompt="a oldone cat"))
    monkeypatch.setattr(models, "allow_pickles", True)
    twin = tiny_addons.embedding(folder / "embeddings" / "twin.safetensors", 2, seed=4)
    assert twin.exists()
    assert (picture(worker, recipe(prompt="a oldone cat")) == picture(worker, recipe(prompt="a twin cat"))).all()


def test_a_pickle_that_would_run_code_is_not_read(
    folder: Path, models: Manager, worker: TorchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("a pickle ran",))

    torch.save({"string_to_param": {"*": Trap()}}, folder / "embeddings" / "trap.pt")
    monkeypatch.setattr(models, "allow_pickles", True)
    with pytest.raises(ModelError, match="embedding trap could not be read"):
        picture(worker, recipe(prompt="a trap"))


def test_two_encoders_learn_from_one_file(folder: Path, models: Manager, tmp_path: Path) -> None:
    """As SDXL's do: each has its own vectors under the same word."""
    from safetensors.torch import save_file

    from studio.families.addons.embeddings import Embeddings

    first, second = (use(Manager([folder], device="cpu", dtype="float32"), "sd", StableDiffusion) for _ in range(2))
    vectors = {"clip_l": torch.full((2, 16), 0.25), "clip_g": torch.full((2, 16), 0.5)}
    save_file(vectors, tmp_path / "xl.safetensors")
    parts = {"tokenizer": first.tokenizer, "text_encoder": first.text_encoder}
    parts |= {"tokenizer_2": second.tokenizer, "text_encoder_2": second.text_encoder}
    words = Embeddings(parts).words([addons.File.of("xl", tmp_path / "xl.safetensors")], "xl-model")
    for model, value in ((first, 0.25), (second, 0.5)):
        ids = model.tokenizer(words["xl"], add_special_tokens=False).input_ids
        assert len(ids) == 2
        assert (model.text_encoder.get_input_embeddings().weight[ids] == value).all()


# Autoencoders


@pytest.mark.parametrize("form", ["folder", "file", "original"])
def test_a_vae_of_choice_encodes_decodes_and_previews(
    folder: Path, models: Manager, worker: TorchWorker, sources: Sources, form: str
) -> None:
    target = folder / "VAE" / (form if form == "folder" else f"{form}.safetensors")
    vae = tiny_addons.vae(target, form, seed=6)
    own, chosen = begin(worker, recipe()), begin(worker, recipe(vae=form))
    assert np.abs(pixels(own.preview("noisy").image()) - pixels(chosen.preview("noisy").image())).max() > 3
    assert chosen.key == own.key
    while own.done < own.total:
        worker.step([own, chosen])
    assert torch.equal(own.latents, chosen.latents)
    with torch.inference_mode():
        drawn = vae.decode(chosen.clean / vae.config.scaling_factor).sample[0]
    expected = ((drawn / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(int)
    assert np.abs(pixels(worker.decode(chosen)) - expected).max() <= 1
    start = sources.add_image(worker.decode(own))
    from_own, from_chosen = (begin(worker, recipe(source=start, strength=0.5, vae=name)) for name in ("", form))
    assert from_own.original and from_chosen.original
    assert not torch.equal(from_own.original.latents, from_chosen.original.latents)


def test_a_vae_that_does_not_fit_or_is_not_there_is_told(folder: Path, worker: TorchWorker) -> None:
    (folder / "VAE").mkdir(exist_ok=True)
    (folder / "VAE" / "cut.safetensors").write_bytes(b"cut")
    with pytest.raises(RecipeError, match="There is no VAE named 'none'; there are: "):
        worker.check(recipe(vae="none"))
    with pytest.raises(ModelError, match=r"cut\.safetensors is damaged"):
        worker.begin(recipe(vae="cut"))
    half = diffusers.AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    half.save_pretrained(folder / "VAE" / "half")
    with pytest.raises(ModelError, match="VAE half has other latents than sd"):
        worker.begin(recipe(vae="half"))


def test_clip_skip_is_refused_where_there_is_none(worker: TorchWorker) -> None:
    worker.check(recipe(clip_skip=2))
    with pytest.raises(RecipeError, match="flux has no clip skip"):
        worker.check(recipe("flux", clip_skip=2))


def test_guidance_is_not_rescaled_in_silence(worker: TorchWorker) -> None:
    worker.check(recipe(guidance_rescale=0.5))
    with pytest.raises(RecipeError, match="flux does not rescale guidance"):
        worker.check(recipe("flux", guidance_rescale=0.5))


# ControlNets


def shapes(seed: int = 0, side: int = 64) -> Image.Image:
    """A picture with edges."""
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (side, side), tuple(random.integers(0, 255, 3).tolist()))
    for _ in range(4):
        x, y, w, h = (int(value) for value in random.integers(0, side // 2, 4))
        picture.paste(tuple(random.integers(0, 255, 3).tolist()), (x, y, x + w + 4, y + h + 4))
    return picture


def guided(models: Manager, wanted: Recipe, nets: list[Any], images: list[Image.Image]) -> np.ndarray:
    """The recipe through diffusers' own pipeline with ControlNets."""
    plain = stock(models, wanted)
    pipeline = diffusers.StableDiffusionControlNetPipeline(**plain.components, controlnet=nets)
    pipeline.set_progress_bar_config(disable=True)
    return stock_pixels(
        models,
        pipeline,
        wanted,
        image=images,
        controlnet_conditioning_scale=[each.weight for each in wanted.controls],
        control_guidance_start=[each.start for each in wanted.controls],
        control_guidance_end=[each.end for each in wanted.controls],
    )


def test_pictures_with_controlnets_are_those_of_diffusers(
    folder: Path, models: Manager, worker: TorchWorker, sources: Sources
) -> None:
    unet = use(Manager([folder], device="cpu", dtype="float32"), "sd", StableDiffusion).unet
    first = tiny_addons.controlnet(folder / "controlnet" / "lines", unet, seed=7)
    second = tiny_addons.controlnet(folder / "ControlNet" / "dots.safetensors", unet, seed=8, form="original")
    images = [shapes(1), shapes(2)]
    names = [sources.add_image(each) for each in images]
    plain = picture(worker, recipe())
    one = recipe(controls=(Control("lines", names[0], weight=0.8),))
    mine = picture(worker, one)
    assert np.abs(mine - guided(models, one, [first], images[:1])).max() <= 1
    assert np.abs(mine - plain).max() > 3
    two = recipe(
        steps=6,
        controls=(Control("lines", names[0], weight=0.8, end=0.5), Control("dots", names[1], weight=1.5, start=0.3)),
    )
    assert np.abs(picture(worker, two) - guided(models, two, [first, second], images)).max() <= 1
    assert (picture(worker, recipe()) == plain).all()


def test_a_picture_with_an_ip_adapter_is_that_of_diffusers(
    folder: Path, models: Manager, worker: TorchWorker, sources: Sources
) -> None:
    unet = use(Manager([folder], device="cpu", dtype="float32"), "sd", StableDiffusion).unet
    file = tiny_addons.ip_adapter(folder / "ip_adapter" / "face.safetensors", unet)
    image = shapes(4, side=80)
    plain = picture(worker, recipe())
    wanted = recipe(controls=(Control("face", sources.add_image(image), "ip-adapter", 0.7),), negative_prompt="dog")
    mine = picture(worker, wanted)
    pipeline = stock(models, wanted)
    pipeline.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name)
    pipeline.set_ip_adapter_scale(0.7)
    assert np.abs(mine - stock_pixels(models, pipeline, wanted, ip_adapter_image=image)).max() <= 1
    assert np.abs(mine - plain).max() > 3
    assert (picture(worker, recipe()) == plain).all()
    # With a ControlNet and a LoRA beside it, among jobs that have none of them.
    lines = Control("lines", sources.add_image(shapes(1)))
    both = replace(wanted, controls=(*wanted.controls, lines), prompt=f"{PROMPT} <lora:ink:0.5>")
    alone = picture(worker, both)
    runs = [worker.begin(each) for each in (both, recipe(), wanted)]
    for _ in range(runs[0].total):
        for run in runs:
            worker.step([run])
    for run, expected in zip(runs, (alone, plain, mine), strict=True):
        assert (pixels(worker.decode(run)) == expected).all()


def test_an_ip_adapter_of_the_plus_kind_is_that_of_diffusers(
    folder: Path, models: Manager, worker: TorchWorker, sources: Sources
) -> None:
    unet = use(Manager([folder], device="cpu", dtype="float32"), "sd", StableDiffusion).unet
    file = tiny_addons.ip_adapter(folder / "ip_adapter" / "plus" / "fine.safetensors", unet, plus=True)
    image, plain = shapes(4, side=80), picture(worker, recipe())
    wanted = recipe(controls=(Control("fine", sources.add_image(image), "ip-adapter", 0.5),))
    pipeline = stock(models, wanted)
    pipeline.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name)
    pipeline.set_ip_adapter_scale(0.5)
    mine = picture(worker, wanted)
    assert np.abs(mine - stock_pixels(models, pipeline, wanted, ip_adapter_image=image)).max() <= 1
    assert np.abs(mine - plain).max() > 3
    assert (picture(worker, recipe()) == plain).all()


def test_an_ip_adapter_without_its_image_encoder_is_told(tmp_path: Path, sources: Sources) -> None:
    """One that fits is found wherever it lies in a models folder."""
    tiny.stable_diffusion(tmp_path / "models" / "sd")
    worker = TorchWorker(Manager([tmp_path / "models"], device="cpu", dtype="float32"), sources)
    lonely = tmp_path / "models" / "ip_adapter" / "far" / "off" / "lonely.safetensors"
    tiny_addons.ip_adapter(lonely, use(worker._models, "sd", StableDiffusion).unet)
    (lonely.parent / "image_encoder").rename(tmp_path / "elsewhere")
    wanted = recipe(controls=(Control("lonely", sources.add_image(shapes(4)), "ip-adapter"),))
    with pytest.raises(ModelError, match="lonely needs an image encoder whose projection_dim is 12"):
        picture(worker, wanted)
    (tmp_path / "elsewhere").rename(tmp_path / "models" / "some encoder")
    assert (picture(worker, wanted) != picture(worker, recipe())).any()


def test_rows_with_other_weights_and_pictures_share_a_call(worker: TorchWorker, sources: Sources) -> None:
    names = [sources.add_image(shapes(seed)) for seed in (1, 2)]
    wanted = [
        recipe(controls=(Control("lines", names[0], weight=0.5),)),
        recipe(controls=(Control("lines", names[1], weight=1.5),), guidance_scale=1.0),
        recipe(controls=(Control("lines", names[1], weight=1.5, end=0.5),)),
    ]
    alone = [picture(worker, each) for each in wanted]
    runs = [worker.begin(each) for each in wanted]
    assert len({run.key for run in runs}) == 1
    worker.step(runs)
    worker.step(runs)
    assert len({run.key for run in runs}) == 2  # the last one's control is over
    for run in runs:
        while run.done < run.total:
            worker.step([run])
    for run, expected in zip(runs, alone, strict=True):
        assert np.abs(pixels(worker.decode(run)) - expected).max() <= 1


def test_image_to_image_and_inpainting_are_guided_too(worker: TorchWorker, sources: Sources) -> None:
    start, lines = sources.add_image(shapes(3)), sources.add_image(shapes(1))
    mask = sources.add_image(Image.new("L", (64, 64), 255))
    for more in ({"strength": 0.5}, {"mask": mask}, {"mask": mask, "box": (0, 0, 32, 32)}):
        plain = picture(worker, recipe(source=start, **more))
        assert (picture(worker, recipe(source=start, controls=(Control("lines", lines),), **more)) != plain).any()


def test_an_inpainting_model_is_guided_too(folder: Path, worker: TorchWorker, sources: Sources) -> None:
    tiny.stable_diffusion(folder / "inpaint", inpainting=True)
    lines = sources.add_image(shapes(1))
    unet = use(Manager([folder], device="cpu", dtype="float32"), "sd", StableDiffusion).unet
    tiny_addons.controlnet(folder / "controlnet" / "plain.safetensors", unet, form="file")
    for model in ("lines", "dots", "plain"):
        guided_one = picture(worker, recipe("inpaint", controls=(Control(model, lines),)))
        assert (guided_one != picture(worker, recipe("inpaint"))).any()


def test_pictures_with_the_same_control_share_what_the_model_reads_of_it(worker: TorchWorker, sources: Sources) -> None:
    one, other = (Control("lines", sources.add_image(shapes(seed))) for seed in (20, 21))
    first = begin(worker, recipe(controls=(one,)))
    again = begin(worker, recipe(controls=(one,), seed=8))
    assert again.guides[0] is first.guides[0]
    for different in (recipe(controls=(other,)), recipe(controls=(one,), width=128)):
        assert begin(worker, different).guides[0] is not first.guides[0]
    assert first.weight > first.steps + first.guides[0].given.nbytes
    before = len(worker._bench.guides)
    del first, again
    assert len(worker._bench.guides) == before - 1, "nothing is held for pictures that are gone"


def test_controls_that_cannot_be_used_are_told(folder: Path, worker: TorchWorker, sources: Sources) -> None:
    lines = sources.add_image(shapes(1))
    for wanted, told in (
        (recipe(controls=(Control("nothing", lines),)), "no ControlNet named 'nothing'; there are: .*lines"),
        (recipe("flux", controls=(Control("lines", lines),)), "flux takes no controls"),
        (recipe(controls=(Control("lines", lines, "depth"),)), "no depth model"),
        (recipe(controls=(Control("nothing", lines, "ip-adapter"),)), "no IP-Adapter named 'nothing'"),
    ):
        with pytest.raises(RecipeError, match=told):
            worker.check(wanted.check())
    with pytest.raises(RecipeError, match="Control 1 has no picture"):
        recipe(controls=(Control("lines", ""),)).check()
    with pytest.raises(RecipeError, match=r"from 0\.5 to 0\.5"):
        recipe(controls=(Control("lines", lines, start=0.5, end=0.5),)).check()
    tiny_addons.controlnet(folder / "controlnet" / "wide", diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=24, norm_num_groups=4, attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ))  # fmt: skip
    with pytest.raises(ModelError, match="ControlNet wide was made for another kind of model than sd"):
        worker.begin(recipe(controls=(Control("wide", lines),)))


def test_controls_come_back_from_a_file() -> None:
    wanted = recipe(controls=(Control("lines", f"64x64-{'0' * 24}", "canny", 0.5, 0.1, 0.9),), vae="v", clip_skip=2)
    assert Recipe.from_json(wanted.to_json()) == wanted
    fields = metadata.parse_parameters(metadata.parameters(wanted))
    assert (fields.clip_skip, fields.vae) == (2, "v")
    assert "Clip skip: 2" in metadata.parameters(wanted) and "Clip skip" not in metadata.parameters(recipe())


# Preparing pictures


def test_canny_draws_thin_lines_where_there_are_edges() -> None:
    values = np.zeros((40, 40, 3), np.uint8)
    values[10:30, 10:30] = 255
    edges = np.asarray(controls.canny(Image.fromarray(values)))[..., 0]
    assert set(np.unique(edges)) == {0, 255}
    # One line around the square, one pixel wide, and nothing elsewhere.
    assert (edges[:, 20] == 255).sum() == 2 and (edges[20] == 255).sum() == 2
    assert edges[12:28, 12:28].sum() == edges[:8].sum() == edges[:, 33:].sum() == 0


def test_canny_follows_a_faint_edge_from_a_strong_one_only() -> None:
    ramp = np.linspace(20, 120, 60)[None, :].repeat(40, 0)
    values = np.where(np.arange(40)[:, None] < 20, 0, ramp).astype(np.uint8)
    edges = np.asarray(controls.canny(Image.fromarray(values)))[..., 0] > 0
    # Sobel gives four times the step: sure from a step of 50, possible from one of 25.
    assert edges[18:22, 5:58].any(0).all()
    faint = np.where(np.arange(40)[:, None] < 20, 0, np.minimum(ramp, 45)).astype(np.uint8)
    assert not np.asarray(controls.canny(Image.fromarray(faint))).any()


def test_a_scribble_follows_dark_lines_and_a_tile_loses_details() -> None:
    drawn = Image.new("RGB", (64, 64), "white")
    drawn.paste((0, 0, 0), (30, 5, 33, 60))
    lines = np.asarray(controls.scribble(drawn))[..., 0]
    assert lines[30, 31] == 255 and lines[:, :20].sum() == 0
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    assert np.asarray(controls.softened(noise)).std() < np.asarray(noise).std() / 2


def test_a_depth_model_makes_a_map(folder: Path, models: Manager, worker: TorchWorker, sources: Sources) -> None:
    tiny_addons.depth(folder / "depth" / "small")
    lines = sources.add_image(shapes(1))
    wanted = recipe(controls=(Control("lines", lines, "depth"),))
    prepared = worker._bench.preparer.of(wanted.controls[0], wanted, models.addons("depth")["small"])
    values = np.asarray(prepared)
    assert prepared.size == (64, 64) and values.min() < 64 < 192 < values.max()
    assert (values[..., 0] == values[..., 1]).all()
    assert (picture(worker, wanted) != picture(worker, recipe(controls=(Control("lines", lines),)))).any()


# The page


def test_the_page_is_told_what_there_is_and_shown_what_is_prepared(
    folder: Path, models: Manager, sources: Sources
) -> None:
    model = use(Manager([folder], device="cpu", dtype="float32"), "sd", StableDiffusion)
    words = {"modelspec.trigger_phrase": "inkstyle, cat", "ss_base_model_version": "sd_v1"}
    tiny_addons.lora(folder / "Lora" / "spoken.safetensors", model.unet, model.text_encoder, metadata=words)
    tiny_addons.controlnet(folder / "controlnet" / "seen", model.unet)
    app = FastAPI()
    app.include_router(web_addons.routes(models, sources))
    client = TestClient(app)
    found = client.get("/addons").json()
    told = {lora["name"]: lora for lora in found["loras"]}
    assert told["spoken"] == {"name": "spoken", "words": ["inkstyle", "cat"], "base": "sd_v1"}
    assert "seen" in found["controlnets"]
    name = sources.add_image(shapes(1))
    answer = client.get(f"/sources/{name}/prepared/canny.png")
    shown = Image.open(io.BytesIO(answer.content))
    assert (np.asarray(shown) == np.asarray(controls.canny(shapes(1)))).all()
    with pytest.raises(RecipeError, match="can be prepared by none, canny"):
        client.get(f"/sources/{name}/prepared/magic.png")
    large = sources.add_image(Image.new("RGB", (1024, 256)))
    assert Image.open(io.BytesIO(client.get(f"/sources/{large}/prepared/tile.png").content)).size == (512, 128)


# Through the engine


class Studio:
    """A real engine, whose pictures' steps are kept on disk."""

    def __init__(self, models: Manager, sources: Sources, folder: Path) -> None:
        self.worker = TorchWorker(models, sources, Moments(folder / "steps", 10**8))
        self.keep, self.events = FakeKeeper(), Events()
        self.engine = Engine(self.worker, self.keep)
        self.engine.subscribe(self.events)

    def finished(self, job: Job) -> np.ndarray:
        final = self.events.final(job.id)
        assert isinstance(final, Finished), final
        return pixels(self.keep.pictures[final.picture][0])


@pytest.fixture
def studio(models: Manager, sources: Sources, tmp_path: Path) -> Iterator[Studio]:
    result = Studio(models, sources, tmp_path)
    yield result
    result.engine.close()


def test_weights_of_a_lora_are_compared(studio: Studio, worker: TorchWorker) -> None:
    centre = recipe(prompt=f"{PROMPT} <lora:ink:0.8> <lora:styles/oil:0.3>")
    grid = axes.plan(centre, [("lora", "ink: 0-1 +0.5"), ("guidance_scale", "1, 5")], {})
    assert grid.columns == ("ink 0", "ink 0.5", "ink 1") and grid.count == 6
    jobs = studio.engine.submit([each for row in grid.recipes for each in row])
    pictures = [studio.finished(job) for job in jobs]
    for number, found in enumerate(pictures):
        weight, guidance = (0, 0.5, 1)[number % 3], (1.0, 5.0)[number // 3]
        prompt = f"{PROMPT} <lora:ink:{weight}> <lora:styles/oil:0.3>"
        # Neighbours in a call round differently.
        assert np.abs(found - picture(worker, recipe(prompt=prompt, guidance_scale=guidance))).max() <= 1
    assert len({each.tobytes() for each in pictures}) == 6


def test_styles_that_bring_loras_are_compared(
    studio: Studio, models: Manager, worker: TorchWorker, tmp_path: Path
) -> None:
    styles = Styles(tmp_path / "styles")
    styles.save(Style("inked", "{prompt} of the red dog <lora:ink:0.8>", "blue"))
    styles.save(Style("oily", "<lora:styles/oil:1>"))
    change = compare._styled(SimpleNamespace(styles=styles, models=models))  # type: ignore[arg-type]
    grid = axes.plan(recipe(), [("style", "Inked, oily")], {"style": list(styles.all())}, {"style": change})
    pictures = [studio.finished(job) for job in studio.engine.submit(grid.recipes[0])]
    inked = recipe(prompt=f"{PROMPT} of the red dog <lora:ink:0.8>", negative_prompt="blue")
    oily = recipe(prompt=f"{PROMPT}, <lora:styles/oil:1>")
    for found, wanted in zip(pictures, (inked, oily), strict=True):
        assert np.abs(found - picture(worker, wanted)).max() <= 1


@pytest.mark.parametrize("what", ["lora", "vae", "controlnet"])
def test_a_fork_with_another_sampler_and_fresh_noise_keeps_the_addons(
    folder: Path, studio: Studio, worker: TorchWorker, sources: Sources, what: str
) -> None:
    """From memory, from disk, and run from the start: one and the same picture."""
    tiny_addons.vae(folder / "VAE" / "fork.safetensors", "file", seed=6)
    plain = recipe(steps=6)
    addons_of: dict[str, dict[str, Any]] = {
        "lora": {"prompt": f"{PROMPT} <lora:ink:0.8>"},
        "vae": {"vae": "fork"},
        "controlnet": {"controls": (Control("lines", sources.add_image(shapes(1))),)},
    }
    wanted = replace(plain, **addons_of[what])
    turned = {"sampler": "DPM++ 2M", "noise": (0.4, 3)}
    [job] = studio.engine.submit([wanted])
    assert (studio.finished(job) != picture(worker, plain)).any()
    expected = picture(worker, wanted.turned(3, turned))
    from_memory = studio.engine.fork(job.id, 3, turned)
    assert (studio.finished(from_memory) == expected).all()
    final = studio.events.final(job.id)
    assert isinstance(final, Finished)

    # As after a new start: nothing is remembered but what is on disk.
    later = Studio(studio.worker._models, sources, studio.worker._moments.folder.parent)  # type: ignore[union-attr]
    recalled = later.engine.recall(final.picture, wanted, wanted.steps)
    assert later.engine.remembered(recalled.id, 3) == 3
    fork = later.engine.fork(recalled.id, 3, turned)
    assert (later.finished(fork) == expected).all()
    steps = [event.done for event in later.events.of(fork.id) if hasattr(event, "done")]
    assert min(steps) == 3
    later.engine.close()


def test_words_that_change_on_the_way_keep_their_lora(studio: Studio, worker: TorchWorker) -> None:
    """`[a:b:0.5]` is the same as a turn in the middle, with the LoRA at work before and after it."""
    tag = "<lora:ink:0.8>"
    wanted = recipe(prompt=f"a [cat:dog:0.5] {tag}")
    turned = recipe(prompt=f"a cat {tag}").turned(2, {"prompt": f"a dog {tag}"})
    without = recipe(prompt="a [cat:dog:0.5]")
    inside = recipe(prompt=f"a [cat {tag}:dog:0.5]")
    jobs = studio.engine.submit([wanted, turned, without, inside])
    found, by_turn, plain, within = (studio.finished(job) for job in jobs)
    assert (found == by_turn).all() and (found == within).all() and (found != plain).any()
    assert np.abs(found - picture(worker, wanted)).max() <= 1


def test_many_pictures_look_at_the_disk_once(
    folder: Path, models: Manager, studio: Studio, worker: TorchWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was added since is seen by the next ones."""
    looks: list[Path] = []

    def noted(folder: Path, *args: Any) -> Any:
        looks.append(folder)
        return look(folder, *args)

    monkeypatch.setattr(catalog, "look", noted)
    jobs = studio.engine.submit([recipe(prompt=f"{PROMPT} <lora:ink:{weight}>", steps=1) for weight in range(1, 9)])
    for job in jobs:
        studio.finished(job)
    assert looks.count(folder) == 1
    sd = use(models, "sd", StableDiffusion)
    tiny_addons.lora(folder / "Lora" / "fresh.safetensors", sd.unet, sd.text_encoder)
    [job] = studio.engine.submit([recipe(prompt=f"{PROMPT} <lora:fresh:1>", steps=1)])
    studio.finished(job)
    assert looks.count(folder) == 2
