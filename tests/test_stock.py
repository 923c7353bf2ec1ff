"""Each architecture that runs through its stock pipeline, on a tiny pipeline of its own and through the real engine."""

import gc
import inspect
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers.pipelines import auto_pipeline
from PIL import Image

from studio.drawing import originals
from studio.drawing.stock_run import StockRun
from studio.drawing.worker import TorchWorker
from studio.engine.engine import Engine
from studio.engine.events import Cancelled, Failed, Finished, Paused, Step
from studio.engine.job import Job
from studio.errors import ModelError, OutOfMemory, RecipeError
from studio.families.stock import calls, family
from studio.families.stock.family import Stock
from studio.families.stock.rows import ROWS, Row
from studio.models import catalog
from studio.models.manager import Manager
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe, Turn
from studio.settings import ROOT
from studio.ui import form
from tests import tiny_stock
from tests.fakes import Events, FakeKeeper
from tests.inside import use

TABLES = (
    auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
    auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
    auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
)

OWN_STEP = {
    "stable-diffusion",
    "stable-diffusion-xl",
    "stable-diffusion-3",
    "flux",
    "flux2",
    "flux2-klein",
    "qwenimage",
    "z-image",
}
"""Keys of the tables whose architectures have a step of their own."""

BY_KEY = {row.key: row for row in ROWS}

INPAINTING = {"kandinsky", "kandinsky22"}
"""Those that repaint with a model of their own for it."""

STEPS = 4
STEPS_IN_THREES = {"helios-pyramid": 6}
SIZE = {"cascade": 128, "wuerstchen": 128}


def tasks(key: str) -> list[str]:
    """Everything that can be drawn; what follows a control picture has "words" too."""
    if key == "z-image-omni":  # reads pictures in bfloat16 only: see below
        return ["words"]
    # Its inpainting ControlNet has one more channel, which no tiny one could be given.
    untried = {"mask"} if key == "stable-diffusion-3-controlnet" else set()
    return [task for task in ("words", "picture", "mask") if getattr(BY_KEY[key], task) and task not in untried]


class Roomy(Manager):
    """With memory for anything: the models are tiny, but some are for sizes that a test machine has no room for."""

    def _free(self) -> int:
        return 2**40


class Shelf:
    """Tiny pipelines, built when a test first asks for one, and the studio's parts around their folder."""

    def __init__(self, folder: Path) -> None:
        self.models_folder = folder / "models"
        self.sources = Sources(folder / "sources")
        self.built: dict[str, Any] = {}
        self.worker = TorchWorker(Roomy([self.models_folder], device="cpu", dtype="float32"), self.sources)

    def pipeline(self, key: str, inpainting: bool = False) -> Any:
        name = f"{key}-inpainting" if inpainting else key
        if name not in self.built:
            self.built[name] = tiny_stock.build(key, inpainting)
            self.built[name].save_pretrained(self.models_folder / name)
        return self.built[name]

    def let_go(self) -> None:
        """Leave the memory to the next architecture."""
        self.worker._models._loaded.clear()

    def recipe(self, key: str, task: str = "words", **changes: Any) -> Recipe:
        row, side = BY_KEY[key], SIZE.get(key, 64)
        inpainting = task == "mask" and key in INPAINTING
        self.pipeline(key, inpainting)
        values: dict[str, Any] = {
            "prompt": "a red cat on the table",
            "model": f"{key}-inpainting" if inpainting else key,
            "width": side,
            "height": side,
            "steps": STEPS_IN_THREES.get(key, STEPS),
            "guidance_scale": 3.0,
            "sampler": family.OWN,
            "seed": 7,
        }
        kind = getattr(diffusers, getattr(row, task))
        if task != "words" or row.controlled:
            values["source"] = self.sources.add_image(picture(side))
        if task == "mask":
            values["mask"] = self.sources.add_image(mask(side))
        if task != "words" and "strength" in inspect.signature(kind.__call__).parameters:
            values["strength"] = 0.5
        return Recipe(**{**values, **changes})


def picture(side: int) -> Image.Image:
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    return Image.fromarray(np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), -1))


def mask(side: int) -> Image.Image:
    half = np.zeros((side, side), np.uint8)
    half[:, side // 2 :] = 255
    return Image.fromarray(half)


def expected(shelf: Shelf, row: Row, task: str, wanted: Recipe) -> np.ndarray:
    """The same recipe through diffusers alone, in one call, as somebody would write it by hand."""
    parts = shelf.built[wanted.model]
    kind = getattr(diffusers, getattr(row, task))
    scheduled = {
        name: type(part).from_config(part.config) for name, part in parts.components.items() if "scheduler" in name
    }
    fixed = {
        name: value for name, value in parts.config.items() if name in ("text_encoder_select_layers", "is_distilled")
    }
    takes = inspect.signature(kind.__init__).parameters
    given = {name: part for name, part in {**parts.components, **scheduled, **fixed}.items() if name in takes}
    off = {"requires_safety_checker": False} if "requires_safety_checker" in takes else {}
    pipeline = kind(**given, **off)
    pipeline.set_progress_bar_config(disable=True)
    side = wanted.width
    call: dict[str, Any] = {
        "prompt": wanted.prompt,
        "height": side,
        "width": side,
        "max_area": side * side,
        "num_inference_steps": wanted.steps,
        "pyramid_num_inference_steps_list": [wanted.steps // 3] * 3,
        "num_frames": 1,
        "guidance_scale": wanted.guidance_scale,
        "generator": torch.Generator().manual_seed(wanted.seed),
        "use_resolution_binning": False,
        "clean_caption": False,
        "guidance_schedule": None,
        "output_type": "pil",
    }
    if row.led:
        call["prior_num_inference_steps"], call["prior_guidance_scale"] = wanted.steps, wanted.guidance_scale
        del call["num_inference_steps"], call["guidance_scale"]
    takes = inspect.signature(kind.__call__).parameters
    if "true_cfg_scale" in takes:
        call["negative_prompt"] = " "
        if row.key.startswith("qwen"):
            call["true_cfg_scale"] = call.pop("guidance_scale")
    if wanted.source:
        call |= {"image": picture(side), "control_image": picture(side), "strength": wanted.strength}
        call["control_mode"] = 3 if "union" in row.key else None
    if wanted.mask:
        call |= {"mask_image": mask(side), "control_mask": mask(side)}
    torch.manual_seed(wanted.seed)
    with torch.inference_mode():
        result = pipeline(**{name: value for name, value in call.items() if name in takes})
    alone = calls.first_picture(result).resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(originals.put_back(alone, wanted, shelf.sources)).astype(int)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stock pipeline"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    return Shelf(tmp_path_factory.mktemp("stock"))


class Studio:
    """A real engine on the shelf's worker."""

    def __init__(self, shelf: Shelf) -> None:
        self.keep, self.events = FakeKeeper(), Events()
        self.engine = Engine(shelf.worker, self.keep)
        self.engine.subscribe(self.events)

    def finished(self, job: Job) -> np.ndarray:
        """The kept picture, after waiting for it."""
        final = self.events.final(job.id)
        assert isinstance(final, Finished), final
        return np.asarray(self.keep.pictures[final.picture][0]).astype(int)


@pytest.fixture
def studio(shelf: Shelf) -> Iterator[Studio]:
    """Afterwards no pipeline's thread is left."""
    result = Studio(shelf)
    yield result
    result.engine.close()
    assert not threads()


# Every architecture


@pytest.mark.parametrize("key", tiny_stock.BUILT)
def test_every_task_is_what_the_pipeline_alone_draws(shelf: Shelf, studio: Studio, key: str) -> None:
    """All at once, after one that was cancelled: neither may leave a trace in the parts that they share."""

    def cancel(event: object) -> None:
        if isinstance(event, Step) and event.done == 1:
            studio.engine.cancel(event.job)

    wanted = [(task, shelf.recipe(key, task)) for task in tasks(key)]
    if len(wanted) == 1:
        wanted.append((wanted[0][0], replace(wanted[0][1], seed=8)))
    unsubscribe = studio.engine.subscribe(cancel)
    [job] = studio.engine.submit([wanted[0][1]])
    assert isinstance(studio.events.final(job.id), Cancelled)
    assert max(event.done for event in studio.events.of(job.id) if isinstance(event, Step)) == 1
    unsubscribe()

    jobs = studio.engine.submit([recipe for _, recipe in wanted])
    # All must be over before the pipelines are called here: some draw from torch's global random numbers.
    pictures = [studio.finished(job) for job in jobs]
    for job, found, (task, recipe) in zip(jobs, pictures, wanted, strict=True):
        assert np.abs(found - expected(shelf, BY_KEY[key], task, recipe)).max() <= 1, task
        steps = [event for event in studio.events.of(job.id) if isinstance(event, Step)]
        assert [event.done for event in steps] == list(range(steps[-1].total + 1))
        assert all(event.preview and event.preview.jpeg() for event in steps)
    # They took turns: the second had its first step before the first had its second.
    done = [(event.job, event.done) for event in studio.events.all if isinstance(event, Step)]
    assert done.index((jobs[1].id, 1)) < done.index((jobs[0].id, 2))
    if wanted[0][0] != "mask":
        _check_clean_preview(shelf, jobs[0], pictures[0])
    if BY_KEY[key].steered:
        turned = replace(wanted[0][1], turns=(Turn(2, guidance_scale=40.0),))
        [job] = studio.engine.submit([turned])
        assert (studio.finished(job) != pictures[0]).any()
    shelf.let_go()


def _check_clean_preview(shelf: Shelf, job: Job, drawn: np.ndarray) -> None:
    """The latents are unpacked and scaled as the pipeline itself does it, where the autoencoder can be asked."""
    run: Any = job.run
    model = shelf.worker._models.use(job.recipe.model)
    with torch.inference_mode():
        projected = run._space.picture(model, run._clean, job.recipe.width, job.recipe.height)
    assert np.abs(np.asarray(projected).astype(int) - drawn).max() <= 2


# What a run does, whatever the architecture


def test_stop_keeps_the_partial_picture_and_continue_goes_on(shelf: Shelf, studio: Studio) -> None:
    def stop(event: object) -> None:
        if isinstance(event, Step) and event.done == 2:
            studio.engine.pause(event.job)

    unsubscribe = studio.engine.subscribe(stop)
    [job] = studio.engine.submit([shelf.recipe("pixart-sigma")])
    paused = studio.events.until(job.id, Paused)
    assert isinstance(paused, Paused) and paused.done == 2 and paused.picture
    assert studio.keep.pictures[paused.picture][0].size == (64, 64)
    unsubscribe()
    studio.engine.resume(job.id)
    assert np.abs(studio.finished(job) - expected(shelf, BY_KEY["pixart-sigma"], "words", job.recipe)).max() <= 1


def test_it_takes_turns_with_a_model_of_another_kind(shelf: Shelf, studio: Studio) -> None:
    jobs = studio.engine.submit([shelf.recipe("sana"), shelf.recipe("if"), shelf.recipe("sana-pag")])
    for job, key in zip(jobs, ("sana", "if", "sana-pag"), strict=True):
        assert np.abs(studio.finished(job) - expected(shelf, BY_KEY[key], "words", job.recipe)).max() <= 1


def test_out_of_memory_pauses_and_continue_comes_to_the_same_picture(
    shelf: Shelf, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = shelf.recipe("lumina2")
    shelf.worker._models.use(shelf.recipe("auraflow").model)
    transformer = use(shelf.worker._models, "lumina2", Stock).parts["transformer"]
    forward, calls = transformer.forward, iter(range(100))

    def scarce(*args: Any, **options: Any) -> Any:
        # At the first time the other model leaves and it is tried again; at the second there is nothing left to do.
        if next(calls) in (5, 6):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9999 bytes")
        return forward(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(transformer, "forward", scarce)
        [job] = studio.engine.submit([wanted])
        paused = studio.events.until(job.id, Paused)
        assert isinstance(paused, Paused) and 0 < paused.done < STEPS and "memory" in paused.reason
        assert not shelf.worker.loaded("auraflow")
        assert not [thread for thread in threads() if thread.is_alive()]
        studio.engine.resume(job.id)
        assert np.abs(studio.finished(job) - expected(shelf, BY_KEY["lumina2"], "words", wanted)).max() <= 1


def test_a_fault_in_the_pipeline_fails_that_job_alone(
    shelf: Shelf, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise ValueError("shapes")

    good, bad = shelf.recipe("pixart-sigma"), shelf.recipe("chroma")
    with monkeypatch.context() as patch:
        patch.setattr(use(shelf.worker._models, "chroma", Stock).parts["transformer"], "forward", broken)
        jobs = studio.engine.submit([bad, good])
        assert isinstance(studio.events.final(jobs[0].id), Failed)
        studio.finished(jobs[1])


def test_dropping_a_run_ends_its_thread(shelf: Shelf) -> None:
    run = shelf.worker.begin(shelf.recipe("auraflow"))
    shelf.worker.step([run])
    assert len(threads()) == 1
    del run
    assert not threads()


def test_a_model_that_is_let_go_ends_its_calls_and_the_run_goes_on_when_it_is_back(shelf: Shelf) -> None:
    wanted = shelf.recipe("auraflow")
    run = shelf.worker.begin(wanted)
    shelf.worker.step([run])
    shelf.worker._models._loaded.pop("auraflow")
    gc.collect()
    assert not threads() and run.done == 1
    while run.done < run.total:
        shelf.worker.step([run])
    alone = expected(shelf, BY_KEY["auraflow"], "words", wanted)
    assert np.abs(np.asarray(shelf.worker.decode(run)).astype(int) - alone).max() <= 1


def test_nothing_of_its_steps_is_remembered(shelf: Shelf) -> None:
    run = shelf.worker.begin(shelf.recipe("auraflow"))
    shelf.worker.step([run])
    with pytest.raises(KeyError):
        run.look_back(0)
    fork = shelf.worker.begin(run.recipe, (run, 1))
    assert isinstance(fork, StockRun) and fork.done == 0


def test_a_model_that_reads_pictures_in_half_precision_only(shelf: Shelf) -> None:
    wanted = shelf.recipe("z-image-omni", "picture")
    with pytest.raises(RecipeError, match="bfloat16 only"):
        shelf.worker.step([shelf.worker.begin(wanted)])
    half = TorchWorker(Roomy([shelf.models_folder], device="cpu", dtype="bfloat16"), shelf.sources)
    run = half.begin(wanted)
    while run.done < run.total:
        half.step([run])
    assert half.decode(run).size == (64, 64)


# What one architecture needs beside


def test_the_published_pyramid_draws_on_the_cpu(shelf: Shelf, tmp_path: Path) -> None:
    wanted = shelf.recipe("helios-pyramid", steps=3)
    changed_copy(shelf, "helios-pyramid", tmp_path, "scheduler/scheduler_config.json", gamma=1 / 3)
    published = TorchWorker(Roomy([tmp_path], device="cpu", dtype="float32"), shelf.sources)
    run = published.begin(wanted)
    while run.done < run.total:
        published.step([run])
    assert np.abs(np.asarray(published.decode(run)).astype(int) - drawn(shelf, wanted)).max() <= 1


def test_prx_is_read_as_it_is_published(shelf: Shelf, tmp_path: Path) -> None:
    """Its encoder is half of a model, and its config that of the half, in an older form."""
    changed_copy(shelf, "prx", tmp_path, "model_index.json", text_encoder=["prx", "T5GemmaEncoder"])
    older = {"rope_parameters": None, "layer_types": None, "rope_theta": 10000.0}
    changed_copy(shelf, "prx", tmp_path, "text_encoder/config.json", **older)
    words = torch.arange(8)[None]
    with torch.inference_mode():
        found, wanted = (
            encoder(input_ids=words).last_hidden_state
            for encoder in (
                use(Manager([tmp_path], device="cpu", dtype="float32"), "prx", Stock).parts["text_encoder"],
                shelf.built["prx"].text_encoder,
            )
        )
    assert torch.allclose(found, wanted)


def changed_copy(shelf: Shelf, key: str, folder: Path, file: str, **changes: Any) -> None:
    """The model of an architecture again, with other values in one of its JSON files; None for no value."""
    shelf.pipeline(key)
    copied = folder / key
    if not copied.exists():
        shutil.copytree(shelf.models_folder / key, copied)
    values = {**json.loads((copied / file).read_text()), **changes}
    (copied / file).write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


# Guidance on the way


def drawn(shelf: Shelf, wanted: Recipe) -> np.ndarray:
    shelf.worker.check(wanted.check())
    run = shelf.worker.begin(wanted)
    while run.done < run.total:
        shelf.worker.step([run])
    return np.asarray(shelf.worker.decode(run)).astype(int)


def test_a_change_in_mid_run_is_the_recipe_with_that_turn(shelf: Shelf) -> None:
    plain = shelf.recipe("cogview4")
    run = shelf.worker.begin(plain)
    shelf.worker.step([run])
    shelf.worker.step([run])
    turned = plain.turned(2, {"guidance_scale": 40.0})
    run = shelf.worker.change(run, turned)
    while run.done < run.total:
        shelf.worker.step([run])
    assert np.array_equal(np.asarray(shelf.worker.decode(run)).astype(int), drawn(shelf, turned))


def test_how_guidance_is_changed_is_asked_only_of_models_that_can_change_it(shelf: Shelf, models_folder: Path) -> None:
    shelf.pipeline("cogview4")
    entries = catalog.scan([models_folder, shelf.models_folder])
    names = ("sd", "cogview4", "flux")
    given = {"guidance_end": 0.5, "guidance_rescale": 0.3}
    shown = {name: form.for_model(entries, name, given) for name in names}
    assert {
        name: tuple((updates[each]["visible"], updates[each]["value"]) for each in given)
        for name, updates in shown.items()
    } == {
        "sd": ((True, 0.5), (True, 0.3)),
        "cogview4": ((False, 1), (False, None)),
        "flux": ((False, 1), (False, None)),
    }


# What cannot be done is said


@pytest.mark.parametrize(
    ("key", "changes", "sentence"),
    [
        ("pixart-sigma", {"turns": (Turn(1, guidance_scale=9.0),)}, "reads its guidance at the start"),
        ("cogview4", {"turns": (Turn(1, prompt="a dog"),)}, "its prompt cannot be changed on the way"),
        ("cogview4", {"turns": (Turn(1, guidance_scale=1.0),)}, "on or off"),
        ("cogview4", {"guidance_end": 0.5}, "takes no guidance end"),
        ("cogview4", {"guidance_rescale": 0.5}, "takes no guidance rescale"),
        ("cogview4", {"variation_strength": 0.5}, "takes no variation strength"),
        ("lumina2", {"prompt": "a cat <lora:ink:0.8>"}, "takes no LoRA"),
        ("lumina2", {"negative_prompt": "dog", "width": 72}, "multiples of 16"),
        ("lcm", {"negative_prompt": "dog"}, "takes no negative prompt"),
    ],
)
def test_refusals(shelf: Shelf, key: str, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        shelf.worker.check(shelf.recipe(key, **changes))


def test_refusals_of_pictures(shelf: Shelf) -> None:
    source = shelf.sources.add_image(picture(64))
    with pytest.raises(RecipeError, match="does not start from a picture"):
        shelf.worker.check(shelf.recipe("lumina2", source=source))
    with pytest.raises(RecipeError, match="repaints no part"):
        shelf.worker.check(shelf.recipe("lumina2", source=source, mask=shelf.sources.add_image(mask(64))))
    with pytest.raises(RecipeError, match="Set the strength to 1"):
        shelf.worker.check(shelf.recipe("flux-kontext", "picture", strength=0.5))
    with pytest.raises(RecipeError, match="follows a control picture"):
        shelf.worker.check(replace(shelf.recipe("flux-control"), source=""))
    with pytest.raises(RecipeError, match="none of 4 steps is run"):
        shelf.worker.check(shelf.recipe("if", "picture", strength=0.1))
    words = replace(shelf.recipe("kandinsky22", "mask"), source="", mask="")
    with pytest.raises(RecipeError, match="made for inpainting only"):
        shelf.worker.step([shelf.worker.begin(words)])


@pytest.mark.parametrize(
    ("key", "package"), [("helios", "ftfy"), ("helios-pyramid", "ftfy"), ("prx", "ftfy"), ("kolors", "sentencepiece")]
)
def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, key: str, package: str) -> None:
    kind = next(each for each in family.families() if each.family == f"{BY_KEY[key].name} (stock)")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else object())
    with pytest.raises(RecipeError, match=f"the Python package {package}"):
        kind.check(Recipe(width=64, height=64))


def test_half_of_a_pipeline_is_named_so(tmp_path: Path) -> None:
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder" / "model_index.json").write_text('{"_class_name": "KandinskyV22Pipeline"}')
    entry = Manager([tmp_path], device="cpu", dtype="float32").entry("decoder")
    assert "half of Kandinsky 2.2" in entry.problem and "one folder" in entry.problem


def test_a_part_of_an_unknown_kind_is_not_imported(shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shelf.pipeline("auraflow").save_pretrained(folder)
    index = folder / "model_index.json"
    index.write_text(re.sub(r'"vae": \[[^]]*\]', '"vae": ["os", "system"]', index.read_text()))
    with pytest.raises(ModelError, match=r"of the kind os\.system"):
        Manager([tmp_path], device="cpu", dtype="float32").use("odd")


# The tables and the document


def test_the_rows_are_those_of_the_tables() -> None:
    keys = {key for table in TABLES for key in table} - OWN_STEP
    assert keys == set(BY_KEY)
    for key in keys:
        row, found = BY_KEY[key], [table[key].__name__ if key in table else "" for table in TABLES]
        assert {*found, ""} == {*row.pipelines, ""}, key


def test_the_parts_are_those_of_the_pipelines() -> None:
    for row in ROWS:
        kind = getattr(diffusers, row.pipelines[0])
        wanted = set(kind._get_signature_keys(kind)[0]) - {"kwargs"}
        unused = {"safety_checker", "feature_extractor", "image_encoder", "watermarker", "prompt_enhancer_head"}
        unused |= {"prior_feature_extractor"} | ({"prior_image_encoder"} if row.led else set())
        plain = {"text_encoder_select_layers", "sample_sigmas", "pag_applied_layers"}
        assert set(row.parts.split()) == wanted - unused - plain, row.key


def test_the_page_names_every_entry_of_the_tables() -> None:
    text = (ROOT / "docs" / "architectures.md").read_text("utf-8")
    for key in {key for table in TABLES for key in table} | set(BY_KEY):
        assert f"`{key}`" in text, key
    for row in ROWS:
        assert row.name in text
    for key in set(BY_KEY) - set(tiny_stock.BUILT):
        assert re.search(rf"`{key}`.*not tested", text), key


def test_out_of_memory_has_its_name(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.let_go()
    run = shelf.worker.begin(shelf.recipe("auraflow"))

    def scarce(*args: Any, **options: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(use(shelf.worker._models, "auraflow", Stock).parts["transformer"], "forward", scarce)
        with pytest.raises(OutOfMemory):
            shelf.worker.step([run])
    assert run.done == 0 and not threads()


def test_diffusers_runs_as_many_steps_as_the_recipe_says() -> None:
    """Its image-to-image pipelines begin at `int(steps * strength)` from the end."""
    for steps in (3, 20, 25, 100, 500):
        for hundredths in range(1, 101):
            recipe = Recipe(steps=steps, strength=hundredths / 100, source=f"64x64-{'0' * 24}")
            assert int(steps * calls.strength(recipe)) == recipe.steps_run, (steps, hundredths)
