"""Recipes in PNG files: our own exactly, other tools' as far as they go, and nothing from broken files."""

import io
import json
import random
import re
import struct
import time
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio import __version__
from studio.errors import RecipeError, SourceError
from studio.library import metadata
from studio.library.library import Library
from studio.models.manager import Manager
from studio.models.signatures import signatures
from studio.recipe.fields import MAX_PROMPT
from studio.recipe.recipe import Recipe
from tests import weights

ORDINARY = Recipe(prompt="a red fox", negative_prompt="blur", seed=1, sampler="DPM++ 2M Karras")


def store(path: Path, recipe: Recipe, steps_done: int) -> Path:
    Image.new("RGB", (8, 8)).save(path, "PNG", pnginfo=metadata.png_text(recipe, steps_done))
    return path


def store_texts(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key.replace("_", "-"), text)
    Image.new("RGB", (8, 8)).save(path, "PNG", pnginfo=info)
    return path


def chunks(data: bytes) -> dict[bytes, bytes]:
    """Keyword → kind of each text chunk, read without Pillow."""
    found, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind in (b"tEXt", b"iTXt", b"zTXt"):
            found[body.partition(b"\0")[0]] = kind
        at += length + 12
    return found


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        ORDINARY,
        Recipe(prompt="two\nlines, (weighted:1.2) [and] <so on>", negative_prompt="a: b, c"),
        Recipe(prompt="Steps: 3, Sampler: no, Seed: 4\nNegative prompt: none"),
        Recipe(prompt="狐 🦊 “quoted” \\ \" ' ${alert(1)}", negative_prompt="café"),
        Recipe(prompt="x" * MAX_PROMPT, negative_prompt="🦊" * MAX_PROMPT),
        Recipe(prompt="  spaces \n\n around  "),
        Recipe(prompt="nul\x00inside", guidance_scale=0.1 + 0.2, seed=2**53 - 1),
        Recipe(model="a, strange: name", sampler="Euler a"),
        Recipe(guidance_end=0.35, guidance_rescale=0.0),
    ],
)
def test_the_exact_recipe_comes_back(tmp_path: Path, recipe: Recipe) -> None:
    assert metadata.read(store(tmp_path / "a.png", recipe, recipe.steps)) == (recipe, recipe.steps)


def test_a_stopped_picture_tells_how_far_it_came(tmp_path: Path) -> None:
    path = store(tmp_path / "a.png", ORDINARY, 7)
    assert metadata.read(path) == (ORDINARY, 7)
    assert Image.open(path).info["emerge-steps-done"] == "7"
    assert "emerge-steps-done" not in Image.open(store(path, ORDINARY, ORDINARY.steps)).info


def test_other_tools_find_the_text_they_know(tmp_path: Path) -> None:
    image = Image.open(store(tmp_path / "a.png", ORDINARY, 20))
    assert image.info["parameters"] == (
        "a red fox\n"
        "Negative prompt: blur\n"
        "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 5, Seed: 1, Size: 256x256, Model: sketchbook, "
        f"Version: Emerge Studio {__version__}"
    )
    assert json.loads(image.info["emerge-recipe"])["prompt"] == "a red fox"


def test_what_only_the_models_know_is_written_too(models: Manager, tmp_path: Path) -> None:
    """Forge writes FLUX's guidance apart (modules/processing.py there), beside a CFG scale of 1, and reads it so."""
    library = Library(tmp_path)
    library.signatures = partial(signatures, models)
    flux = Recipe("a fox", model="flux", guidance_scale=3.5, sampler="Euler")
    with Image.open(tmp_path / f"{library.add(Image.new('RGB', (8, 8)), flux, 20)}.png") as image:
        assert "CFG scale: 1, Seed: 0" in image.info["parameters"]
        assert "Distilled CFG Scale: 3.5, Version" in image.info["parameters"]
        assert metadata.from_info(image.info) == (flux, 20)
        assert metadata.parse_parameters(image.info["parameters"]) == flux
    library.close()
    assert signatures(models, Recipe(model="sd")) == signatures(models, Recipe(model="gone")) == {}


def test_hashes_are_those_that_sites_look_for(tmp_path: Path) -> None:
    weights.flux_in_parts(tmp_path)
    weights.safetensors(tmp_path / "loras" / "ink.safetensors", {"a": (1,)}, {"sshs_model_hash": "0x" + "ab" * 32})
    models = Manager([tmp_path], "cpu")
    entry = next(each for each in models.entries() if each.single)
    models.catalog.records.keep_hashes(entry.path, entry.stamp, "0123456789abcdef" * 4)
    told = signatures(models, Recipe("<lora:ink:0.5> a fox", model=entry.name))
    assert told["Model hash"] == "0123456789" and told["Lora hashes"] == "ink: abababababab"


def test_webuis_own_reader_understands_it() -> None:
    """Its regular expression and its rules (infotext_utils.py), applied to a text with everything to be quoted."""
    text = metadata.parameters(Recipe(prompt="p", model='a, b: "c"\nd', guidance_scale=7.5))
    *lines, last = text.split("\n")
    field = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
    values = {key: json.loads(value) if value[0] == '"' else value for key, value in field.findall(last)}
    assert lines == ["p"]
    assert values["Model"] == 'a, b: "c"\nd'
    assert (values["Steps"], values["CFG scale"], values["Size"]) == ("20", "7.5", "256x256")


def test_no_line_for_an_empty_negative_prompt() -> None:
    assert "Negative" not in metadata.parameters(Recipe("a"))


def test_text_is_latin_1_where_it_can_be(tmp_path: Path) -> None:
    plain = chunks(store(tmp_path / "a.png", Recipe("café"), 20).read_bytes())
    assert plain == {b"parameters": b"tEXt", b"emerge-recipe": b"tEXt"}
    wide = chunks(store(tmp_path / "b.png", Recipe("狐"), 20).read_bytes())
    assert wide == {b"parameters": b"iTXt", b"emerge-recipe": b"iTXt"}


def test_half_a_surrogate_pair_can_be_stored(tmp_path: Path) -> None:
    found = metadata.read(store(tmp_path / "a.png", Recipe("fox \ud83e"), 20))
    assert found and found[0].prompt == "fox ?"


# Pictures of other tools


def test_a_picture_of_webui_is_understood(tmp_path: Path) -> None:
    text = (
        "a castle, (oil painting:1.2)\non a hill\nNegative prompt: people,\nBreak: none\n"
        "Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 42, Size: 512x768, "
        'Model hash: 6ce0161689, Model: "v1-5: pruned", Lora hashes: "a: 1, b: 2", Version: v1.10.1'
    )
    assert metadata.read(store_texts(tmp_path / "a.png", parameters=text)) == (
        Recipe(
            prompt="a castle, (oil painting:1.2)\non a hill",
            negative_prompt="people,\nBreak: none",
            model="v1-5: pruned [6ce0161689]",
            width=512,
            height=768,
            steps=30,
            guidance_scale=6.5,
            sampler="DPM++ 2M Karras",
            seed=42,
        ),
        30,
    )


def test_a_schedule_stands_beside_its_sampler_as_webui_has_it() -> None:
    """Since 1.9 webui writes "Sampler: Euler, Schedule type: SGM Uniform"; "Automatic" means the sampler's own."""
    text = metadata.parameters(Recipe(sampler="Euler", schedule="SGM Uniform"))
    assert "Sampler: Euler, Schedule type: SGM Uniform, " in text
    assert metadata.parse_parameters(text) == Recipe(sampler="Euler", schedule="SGM Uniform")
    plain = metadata.parameters(Recipe(sampler="Euler"))
    assert "Schedule" not in plain and metadata.parse_parameters(plain).schedule == "Automatic"


def test_our_parameters_alone_are_enough_for_most_of_a_recipe(tmp_path: Path) -> None:
    path = store_texts(tmp_path / "a.png", parameters=metadata.parameters(ORDINARY), emerge_recipe="{broken")
    assert metadata.read(path) == (ORDINARY, 20)
    ended = replace(ORDINARY, guidance_end=0.35, guidance_rescale=0.25)
    assert metadata.parse_parameters(metadata.parameters(ended)) == ended
    assert "CFG rescale: 0.25" in metadata.parameters(ended) and "rescale" not in metadata.parameters(ORDINARY)


def test_a_negative_prompt_without_a_prompt() -> None:
    found = metadata.parse_parameters("Negative prompt: blur\nSteps: 5, Sampler: Euler, Seed: 3")
    assert (found.prompt, found.negative_prompt, found.seed) == ("", "blur", 3)


@pytest.mark.parametrize(
    "text",
    ["", "only a prompt", "a\nSteps: 20", "a\nSteps: 0, Seed: 1, Size: 64x64", "a\nSteps: x, Seed: 1, CFG scale: 2"],
)
def test_what_is_no_recipe_is_not_made_one(text: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        metadata.parse_parameters(text)
    assert metadata.read(store_texts(tmp_path / "a.png", parameters=text)) is None


# Broken and hostile files


@pytest.mark.parametrize("steps_done", ["-1", "x", "99999999999999999999", "1.5", "", "²"])
def test_a_wrong_count_of_steps_counts_as_all(tmp_path: Path, steps_done: str) -> None:
    path = store_texts(tmp_path / "a.png", emerge_recipe=ORDINARY.to_json(), emerge_steps_done=steps_done)
    assert metadata.read(path) == (ORDINARY, 20)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"\xff" * 100, b"GIF89a" + b"\0" * 50],
)
def test_what_is_no_png_has_no_recipe(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert metadata.read(tmp_path / "a.png") is None


def test_a_missing_file_and_a_folder_have_no_recipe(tmp_path: Path) -> None:
    assert metadata.read(tmp_path / "nowhere.png") is None
    assert metadata.read(tmp_path) is None


def test_a_damaged_file_never_raises(tmp_path: Path) -> None:
    path = store(tmp_path / "a.png", Recipe("狐 fox", "blur"), 3)
    whole, chance = path.read_bytes(), random.Random(0)
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at])
        metadata.read(path)
        broken = bytearray(whole)
        broken[at] ^= 1 << chance.randrange(8)
        path.write_bytes(broken)
        metadata.read(path)


def _with_chunk(kind: bytes, body: bytes) -> bytes:
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    data = plain.getvalue()
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]  # behind the header


def test_a_text_that_unpacks_to_gigabytes_is_left_alone(tmp_path: Path) -> None:
    bomb = zlib.compress(b"x" * 100_000_000)
    (tmp_path / "a.png").write_bytes(_with_chunk(b"zTXt", b"parameters\0\0" + bomb))
    assert metadata.read(tmp_path / "a.png") is None


@pytest.mark.parametrize(
    "text",
    [
        "a" * 900_000,
        " " * 900_000,
        "ab:" * 300_000,
        'ab: "' * 180_000,
        "ab: \\" * 180_000,
        "[" * 900_000,
        '{"version":' * 80_000,
        '{"version": 1, "seed": ' + "9" * 4000 + "}",
        '{"version": 1, "prompt": {"a": []}}',
    ],
)
def test_a_hostile_text_is_refused_quickly(tmp_path: Path, text: str) -> None:
    path = store_texts(tmp_path / "a.png", parameters=text, emerge_recipe=text)
    start = time.process_time()
    assert metadata.read(path) is None
    assert time.process_time() - start < 2


def test_what_a_file_that_was_brought_says(tmp_path: Path) -> None:
    own = store(tmp_path / "own.png", ORDINARY, 20).read_bytes()
    assert metadata.told(own) == (ORDINARY, "")
    foreign = store_texts(tmp_path / "foreign.png", parameters="a cat\nSteps: 7, Sampler: Euler, CFG scale: 4, Seed: 5")
    recipe, _ = metadata.told(foreign.read_bytes())
    assert (recipe.prompt, recipe.steps, recipe.seed) == ("a cat", 7, 5)
    bare = store_texts(tmp_path / "bare.png").read_bytes()
    for data in (b"", b"no picture", own[:60], bare):
        with pytest.raises(SourceError, match="does not say how it was made"):
            metadata.told(data)
