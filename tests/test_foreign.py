"""Recipes of other programs: what they say comes into ours, what cannot is said, and nothing else counts as one."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio.errors import RecipeError
from studio.library import foreign, metadata
from studio.recipe.fields import MAX_PROMPT
from studio.recipe.recipe import RANDOM_SEEDS, Recipe


def line(**fields: object) -> str:
    told = {
        "Steps": 20,
        "Sampler": "Euler",
        "Seed": 1,
        **{name.replace("_", " "): text for name, text in fields.items()},
    }
    return "a fox\n" + ", ".join(f"{name}: {text}" for name, text in told.items())


@pytest.mark.parametrize(
    "text",
    [
        "title: a, author: b, note: c",
        "a note\nSeed: 1, Size: 64x64, Model: x",
        "Steps: many, Sampler: Euler, Seed: 1",
        "first steps\nSteps: 3",
        "Steps: 3, Author: me, Title: a walk",
        '{"prompt": "a fox", "seed": 1, "steps": "x"}',
        '{"nodes": [], "version": 0.4}',
        '{"1": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 7}}}',
        "{broken",
        "{" * 100_000,
        "[1, 2]",
    ],
)
def test_what_is_no_recipe_is_none(text: str) -> None:
    with pytest.raises(RecipeError):
        foreign.read(text)


@pytest.mark.parametrize(
    ("sampler", "schedule", "expected"),
    [
        ("DPM++ 2M", "Karras", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M SDE Karras", "", ("DPM++ 2M SDE", "Karras")),
        ("DPM++ 2M", "SGM Uniform", ("DPM++ 2M", "SGM Uniform")),
        ("Euler a", "Automatic", ("Euler a", "")),
        ("dpmpp_2m_sde", "karras", ("DPM++ 2M SDE", "Karras")),
        ("dpmpp_2m_sde_gpu", "karras", ("DPM++ 2M SDE", "Karras")),
        ("dpmpp_2m_sde_gpu_karras", "", ("DPM++ 2M SDE", "Karras")),
        ("euler_ancestral", "normal", ("Euler a", "Normal")),
        ("dpmpp_sde_sgm_uniform", "", ("DPM++ SDE", "SGM Uniform")),
        ("uni_pc_bh2", "simple", ("UniPC", "Simple")),
        ("Euler", "Uniform", ("Euler", "Normal")),
        ("EULER A", "", ("Euler a", "")),
        ("DPM++ 4X Turbo", "", ("DPM++ 4X Turbo", "")),
    ],
)
def test_samplers_have_our_names(sampler: str, schedule: str, expected: tuple[str, str]) -> None:
    """ComfyUI's names are those of its comfy/samplers.py, A1111's those of modules/sd_samplers_kdiffusion.py."""
    assert foreign.sampling(sampler, schedule) == expected


@pytest.mark.parametrize(
    ("fields", "values", "note"),
    [
        ({"Seed": 2**64 - 1}, {"seed": 2**64 - 1}, ""),
        ({"Seed": 2**53 + 1}, {"seed": 2**53 + 1}, ""),
        ({"Seed": 2**64}, {"seed": 2**64 - 1}, "it can be 0 to 18446744073709551615"),
        ({"Size": "540x960"}, {"width": 544, "height": 960}, "The size 540x960 became 544x960"),
        ({"Size": "9000x16"}, {"width": 4096, "height": 64}, "The size 9000x16 became 4096x64"),
        ({"Size": "wide"}, {}, "The size 'wide' was not understood"),
        ({"Clip skip": 0}, {"clip_skip": 1}, "The clip skip 0 became 1: it can be 1 to 12"),
        ({"Steps": 700}, {"steps": 500}, "The steps 700 became 500"),
        ({"CFG scale": "nan"}, {}, "The guidance scale 'nan' is no number, and was left out"),
        ({"CFG scale": 200}, {"guidance_scale": 100.0}, "The guidance scale 200 became 100"),
        ({"CFG scale": 1, "Distilled CFG Scale": 3.5}, {"guidance_scale": 3.5}, ""),
        ({"CFG scale": 2, "Distilled CFG Scale": 3.5}, {"guidance_scale": 2.0}, ""),
        ({"Schedule type": "Polyexponential"}, {"sampler": "Euler"}, "The schedule Polyexponential is not known here"),
        ({"Schedule type": "SGM Uniform"}, {"sampler": "Euler", "schedule": "SGM Uniform"}, ""),
        ({"Schedule type": "Karras"}, {"sampler": "Euler", "schedule": "Karras"}, ""),
        ({"Model hash": "6ce0161689"}, {"model": "6ce0161689"}, ""),
        ({"Model hash": "6ce0161689", "Model": "v1-5"}, {"model": "v1-5 [6ce0161689]"}, ""),
        ({"Model hash": "none", "Model": "v1-5"}, {"model": "v1-5"}, ""),
        ({"VAE hash": "735e4c3a44", "VAE": "mse.safetensors"}, {"vae": "mse [735e4c3a44]"}, ""),
        ({"VAE hash": "735e4c3a44", "VAE": "Automatic"}, {"vae": ""}, ""),
    ],
)
def test_values_are_brought_to_what_can_be_done(
    fields: dict[str, object], values: dict[str, object], note: str
) -> None:
    found = foreign.read(line(**fields))
    for name, value in values.items():
        assert getattr(found.recipe, name) == value
    assert note in " ".join(found.notes) and bool(note) == bool(found.notes)


def test_a_seed_left_to_chance_is_a_new_one_each_time() -> None:
    """A1111 draws a seed where -1 is asked for (modules/processing.py, get_fixed_seed)."""
    both = [foreign.read(line(Seed=-1)) for _ in range(2)]
    assert both[0].recipe.seed != both[1].recipe.seed and all(0 <= each.recipe.seed < RANDOM_SEEDS for each in both)
    assert both[0].notes == ("The seed -1 means one left to chance, so a new one was drawn.",)


@pytest.mark.parametrize(
    "told",
    [
        'Lora hashes: "ink: 0xABABABABABAB, oil: 1, far: 0123456789"',
        'Hashes: {"model": "6ce0161689", "vae": "735e4c3a44", "lora:ink": "abababababab", "lora:oil": 1}',
    ],
)
def test_hashes_of_loras_go_along_in_their_tags(told: str) -> None:
    """As A1111 writes them (extensions-builtin/Lora/networks.py), and as Civitai does in one table."""
    found = foreign.read(f"a <lora:ink:0.5> fox <lora:oil>\nSteps: 20, Sampler: Euler, Seed: 1, Model: v1-5, {told}")
    assert found.recipe.prompt == "a <lora:ink:0.5:hash=abababababab> fox <lora:oil>"
    assert found.recipe.model == ("v1-5 [6ce0161689]" if "model" in told else "v1-5")


@pytest.mark.parametrize("table", ["{", "{}", "{1}", '{"model": ["x"]}', '{"lora:": "abababababab"}', "[" * 9000])
def test_a_table_of_hashes_may_be_anything(table: str) -> None:
    found = foreign.read(f"a <lora:ink>\nSteps: 20, Sampler: Euler, Model: v1-5, Hashes: {table}")
    assert (found.recipe.prompt, found.recipe.model) == ("a <lora:ink>", "v1-5")


def test_a_prompt_that_is_too_long_is_cut_with_a_word() -> None:
    found = foreign.read("x" * (MAX_PROMPT + 1) + "\nSteps: 20, Sampler: Euler, Seed: 1")
    assert len(found.recipe.prompt) == MAX_PROMPT and "was cut" in found.notes[0]


def test_lines_of_extensions_behind_the_settings_do_not_hide_them() -> None:
    found = foreign.read(line() + "\nTemplate: a {fox|cat}, Negative Template: ")
    assert (found.recipe.prompt, found.recipe.seed) == ("a fox", 1)


FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8Rundiffusion", "base_model_hash": "aeb7e9e689",
    "clip_skip": 2, "full_negative_prompt": ["blur"], "full_prompt": ["a fox, cinematic"], "guidance_scale": 4.0,
    "loras": [["offset", 0.1, "4852686128"]], "metadata_scheme": "fooocus", "negative_prompt": "blur",
    "performance": "Speed", "prompt": "a fox", "prompt_expansion": "", "refiner_model": "None",
    "resolution": "(1152, 896)", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "8021009372309438022",
    "sharpness": 2.0,
    "steps": 30, "styles": "['Fooocus V2']", "vae": "Default (model)", "version": "Fooocus v2.5.0",
}  # fmt: skip
"""What Fooocus 2.5 writes (modules/meta_parser.py there, FooocusMetadataParser)."""


@pytest.mark.parametrize("labels", [False, True])
def test_fooocus_own_form_is_read(labels: bool) -> None:
    """Until 2.2 its keys were the labels of its page."""
    told = {name.replace("_", " ").title(): value for name, value in FOOOCUS.items()} if labels else FOOOCUS
    found = foreign.read(json.dumps(told))
    assert found.recipe == Recipe(
        prompt="a fox <lora:offset:0.1:hash=4852686128>", negative_prompt="blur",
        model="juggernautXL_v8Rundiffusion [aeb7e9e689]",
        width=1152, height=896, steps=30,
        guidance_scale=4.0, sampler="DPM++ 2M SDE", schedule="Karras", seed=8021009372309438022, clip_skip=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("loras", "tags"),
    [
        ([["ink.safetensors", 1, "none"], ["None", 1.0]], " <lora:ink:1>"),
        ([["a>b", 1], ["a:b", 1], ["", 1], ["c"], [1, 2], ["d", "x"], "e", None, ["f", 10**400], ["g", math.nan]], ""),
        ("x", ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_loras_of_fooocus_become_tags(loras: object, tags: str) -> None:
    assert foreign.read(json.dumps(FOOOCUS | {"loras": loras})).recipe.prompt == f"a fox{tags}"


def test_what_was_changed_is_the_pictures_note(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", line(Size="540x960", Seed=2**60 + 1))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    with Image.open(tmp_path / "a.png") as image:
        found = metadata.from_info(image.info)
        assert found and found[0].seed == 2**60 + 1
        assert metadata.note_of(image.info).startswith("The size 540x960 became 544x960")


def graph(**more: object) -> dict[str, object]:
    """ComfyUI's default workflow in its API format, with a LoRA."""
    nodes = {
        "3": ("KSampler", {"seed": 156680208700286, "steps": 20, "cfg": 8, "sampler_name": "dpmpp_2m_sde",
                           "scheduler": "karras", "denoise": 1, "model": ["10", 0], "positive": ["6", 0],
                           "negative": ["7", 0], "latent_image": ["5", 0]}),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "SD\\v1-5.safetensors"}),
        "5": ("EmptyLatentImage", {"width": 512, "height": 768, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": "a fox", "clip": ["10", 1]}),
        "7": ("CLIPTextEncode", {"text": "blur", "clip": ["10", 1]}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "10": ("LoraLoader", {"lora_name": "ink.safetensors", "strength_model": 0.8, "strength_clip": 0.5,
                              "model": ["4", 0], "clip": ["4", 1]}),
    }  # fmt: skip
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()} | more


def test_comfyuis_graph_is_read_from_where_it_samples() -> None:
    assert foreign.read_graph(json.dumps(graph())).recipe == Recipe(
        prompt="a fox <lora:ink.safetensors:0.5:0.8>", negative_prompt="blur", model="SD\\v1-5.safetensors", width=512,
        height=768, steps=20, guidance_scale=8.0, sampler="DPM++ 2M SDE", schedule="Karras", seed=156680208700286,
    )  # fmt: skip


def test_a_graph_with_parts_of_a_sampler_is_read_too() -> None:
    """FLUX as in ComfyUI's examples: SamplerCustomAdvanced with its noise, guider, sampler and sigmas apart."""
    inputs = {
        "5": {"width": 1024, "height": 1024, "batch_size": 1},
        "6": {"text": "a fox", "clip": ["11", 0]},
        "10": {"vae_name": "ae.safetensors"},
        "12": {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"},
        "13": {
            "noise": ["25", 0],
            "guider": ["22", 0],
            "sampler": ["16", 0],
            "sigmas": ["17", 0],
            "latent_image": ["5", 0],
        },
        "16": {"sampler_name": "euler"},
        "17": {"scheduler": "normal", "steps": 28, "denoise": 1, "model": ["12", 0]},
        "22": {"model": ["12", 0], "conditioning": ["26", 0]},
        "25": {"noise_seed": 2**64 - 1},
        "26": {"guidance": 3.5, "conditioning": ["6", 0]},
    }
    found = foreign.read_graph(json.dumps({name: {"inputs": each} for name, each in inputs.items()}))
    assert found.recipe == Recipe(
        prompt="a fox", model="flux1-dev.safetensors", width=1024, height=1024, steps=28, guidance_scale=3.5,
        sampler="Euler", schedule="Normal", seed=2**64 - 1,
    )  # fmt: skip


def test_the_first_of_several_samplers_is_the_one() -> None:
    again = {"seed": 9, "steps": 5, "cfg": 1, "sampler_name": "euler", "latent_image": ["3", 0], "positive": ["6", 0]}
    found = foreign.read_graph(json.dumps({"1": {"inputs": again}} | graph()))
    assert (found.recipe.seed, found.recipe.steps) == (156680208700286, 20)


def test_a_large_graph_is_read_to_an_end() -> None:
    chain = {str(n): {"inputs": {"latent_image": [str(n + 1), 0], "a": [str(n + 2), 0]}} for n in range(20_000)}
    with pytest.raises(RecipeError):
        foreign.read_graph(json.dumps(chain))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "x", "{" * 50_000, '{"1": 2}', '{"1": {"inputs": []}}', json.dumps({"5": graph()["5"]}),
     '{"1": {"inputs": {"latent_image": ["1", 0], "steps": 1, "seed": 2}}}'],
)  # fmt: skip
def test_a_graph_that_makes_no_picture_is_none(text: str) -> None:
    with pytest.raises(RecipeError):
        foreign.read_graph(text)


def test_a_graph_in_a_picture_is_its_recipe(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("prompt", json.dumps(graph()))
    info.add_text("workflow", "{}")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    found = metadata.read(tmp_path / "a.png")
    assert found and found[0].seed == 156680208700286
