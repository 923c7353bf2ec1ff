"""Files that somebody else put there: pipes with the names of files, texts made to be slow, links that lead out.

Each costs a sentence at most. What would keep the studio waiting for ever ends these tests instead.
"""

import ast
import json
import math
import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio import disk
from studio.drawing.moments import Moments
from studio.errors import ModelBroken, ModelError, RecipeError, StorageError, StudioError
from studio.files import addons, folders, headers, weights
from studio.files.addons import File
from studio.library import metadata
from studio.library.library import Library
from studio.models import catalog, hashes, loading, places, sidecars
from studio.models.catalog import Catalog, Entry
from studio.models.manager import Manager
from studio.models.records import Records
from studio.pictures.gate import Gate
from studio.pictures.sources import Sources
from studio.recipe.recipe import Recipe
from studio.words.styles import Style, Styles
from studio.words.wildcards import Wildcards
from tests import tiny
from tests.weights import safetensors

LONG = bool(os.environ.get("EMERGE_LONG_TESTS"))
LORA = {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320)}

pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="There are no named pipes in folders here.")


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Ends a test that waits for a pipe."""
    if not hasattr(signal, "alarm"):
        yield
        return

    def end(*_: object) -> None:
        raise AssertionError("This would have taken for ever.")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def test_the_studio_opens_files_in_one_place() -> None:
    """Everywhere else a pipe would be waited for."""
    studio = Path(disk.__file__).parent
    found = set()
    for path in studio.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            opens = isinstance(called, ast.Name) and called.id == "open"
            reads = isinstance(called, ast.Attribute) and called.attr in ("read_text", "read_bytes")
            if opens or reads:
                found.add(path.relative_to(studio).as_posix())
    # The file with the password is where the person says; the others ask the system itself, below /proc and /sys.
    assert found <= {"disk.py", "settings.py", "memory.py", "models/needs.py"}


# Pipes: what the studio keeps


@pipes
def test_pipes_in_the_output_folder(tmp_path: Path) -> None:
    library = Library(tmp_path)
    one = library.add(Image.new("RGB", (8, 8)), Recipe(), 20)
    two = library.add(Image.new("RGB", (8, 8)), Recipe(), 20)
    library.rate(two, 3)
    library.close()
    for name in (f"{one}.png", "holiday.png", "ratings.txt", f".emerge-{1:016x}.part"):
        pipe(tmp_path / name)
    library = Library(tmp_path)
    assert [(each.id, each.rating) for each in library.recent(5)] == [(two, 3)]
    for act in (library.get, library.content, library.thumbnail, lambda each: library.rate(each, 1)):
        with pytest.raises(StorageError):
            act(one)
    with pytest.raises(StorageError, match="rating could not be written"):
        library.rate(two, 1)
    assert metadata.read(tmp_path / f"{one}.png") is None and not metadata.is_whole(tmp_path / f"{one}.png")
    library.close()


@pipes
def test_pipes_among_start_pictures_styles_steps_and_records(tmp_path: Path) -> None:
    sources = Sources(tmp_path / "sources")
    name = sources.add_image(Image.new("RGB", (16, 16)))
    pipe(sources.folder / f"{name}.png")
    fresh = Sources(sources.folder)
    for ask in (fresh.open, fresh.path):
        with pytest.raises(StorageError):
            ask(name)
    assert fresh.add_image(Image.new("RGB", (16, 16))) == name
    assert Image.open(fresh.path(name)).size == (16, 16)

    pipe(tmp_path / "styles" / "own.csv")
    styles = Styles(tmp_path / "styles")
    assert "watercolor" in styles.all()
    with pytest.raises(StorageError, match="no regular file"):
        styles.save(Style("x", "y"))

    pipe(tmp_path / "steps" / "one.safetensors")
    assert Moments(tmp_path / "steps", 10**6).recall("one") is None

    records = Records(pipe(tmp_path / "models.sqlite"))
    records.keep_notes("model/x", "mine")
    records.close()


# Pipes: models folders


@pipes
def test_pipes_in_a_models_folder(tmp_path: Path) -> None:
    root = tmp_path / "models"
    safetensors(root / "loras" / "style.safetensors", LORA)
    for name in (
        "loras/style.txt", "loras/style.json", "loras/style.civitai.info", "loras/style.preview.png",
        "checkpoints/x.safetensors", "checkpoints/x.ckpt", "checkpoints/x.gguf",
        "folder/model_index.json", "part/config.json", "main.py", "extra_model_paths.yaml", "config.json",
        "tokenizer/tokenizer_config.json", "tokenizer/tokenizer.json",
        "models--a--b/refs/main", "models--a--b/snapshots/1/model_index.json", "defaults.json",
    ):  # fmt: skip
        pipe(root / name)
    found = Catalog([root]).everything()
    assert [each.key for each in found] == ["model/sketchbook", "lora/style"]
    assert sidecars.notes(found[1]).text == ""
    with pytest.raises(ModelError):
        sidecars.thumbnail(found[1], Gate())
    assert places.vocabulary("t5", [root]) is None


@pipes
def test_what_turns_into_a_pipe_after_it_was_found(tmp_path: Path) -> None:
    path = pipe(tmp_path / "x.safetensors")
    assert addons.header(path) == {} and addons.told(path).words == ()
    beside = tuple(pipe(tmp_path / f"x{ending}") for ending in (".txt", ".json", ".civitai.info", ".png"))
    entry = Entry("x", path, kind="lora", sidecars=beside)
    assert sidecars.notes(entry).text == ""
    for act in (
        headers.read, headers.read_pickle, weights.header, folders.read_json, folders.check, folders.parameters,
        lambda path: weights.read(path, {}, None), lambda path: hashes.digest(path, "lora", lambda done: None),
        lambda path: sidecars.thumbnail(entry, Gate()), lambda path: loading.open_file(path.with_suffix(".txt")),
    ):  # fmt: skip
        with pytest.raises(ModelError):
            act(path)


@pipes
@pytest.mark.parametrize(
    "name",
    [
        "model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
        "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json", "tokenizer/vocab.json",
        "tokenizer/merges.txt", "tokenizer/tokenizer.json", "tokenizer/added_tokens.json",
        "tokenizer/chat_template.jinja", "text_encoder/generation_config.json", "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/README.md", "defaults.json",
    ],
)  # fmt: skip
def test_a_pipe_among_the_files_of_a_model(models_folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(models_folder / "sd", tmp_path / "models" / "sd")
    manager = Manager([tmp_path / "models"], "cpu", "float32")
    entry = next((each for each in manager.entries() if each.name == "sd"), None)
    assert entry and not entry.problem
    pipe(tmp_path / "models" / "sd" / name)
    with pytest.raises(ModelBroken, match="again"):
        loading.load_parts(entry, catalog.wanted(entry), manager.dtype, lambda done, whole: None)
    with pytest.raises(StudioError):
        manager.use("sd")


@pipes
def test_pipes_that_are_add_ons(models_folder: Path, tmp_path: Path) -> None:
    import torch

    from studio.families.addons import autoencoders, embeddings

    path = pipe(tmp_path / "x.safetensors")
    folder = pipe(tmp_path / "vae" / "config.json").parent
    with pytest.raises(ModelBroken):
        embeddings._read(File("x", path), False)
    for each in (path, folder):
        with pytest.raises(ModelError):
            autoencoders.load(File("x", each), tiny._vae(), torch.device("cpu"), torch.float32, "sd")


# Lists of further folders


def installation(root: Path, text: str | bytes) -> Path:
    """A program's folder with a list of further models folders."""
    (root / "models").mkdir(parents=True, exist_ok=True)
    (root / "main.py").touch()
    (root / "extra_model_paths.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def bomb(levels: int) -> str:
    """Aliases of aliases: a tenfold of lists at each level."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join([*lines, "comfyui:", f"  base_path: *a{levels - 1}", "  loras: models/loras", ""])


@pytest.mark.parametrize(
    "text",
    [
        bomb(9),
        "comfyui: &all\n  base_path: .\n  loras: more\n  again: *all\n",
        "comfyui:\n  base_path: [a, b]\n  loras: more\n",
        "comfyui:\n  base_path: {a: b}\n  loras: more\n",
        "[" * 90_000,
        "{a: " * 20_000,
        "- " * 45_000,
        "comfyui:\n  base_path: !!python/object/apply:os.system [touch exploded]\n",
        "comfyui:\n  base_path: " + "1:" * 40_000 + "1\n  loras: more\n",
        "comfyui:\n  base_path: " + "9" * 90_000 + "\n  loras: more\n",
        "comfyui:\n  base_path: \"a\\0b\"\n  loras: more\n",
        "comfyui:\n  base_path: \"~\\0\"\n  loras: more\n",
        "comfyui:\n  base_path: \"~\\ud800\"\n  loras: more\n",
        "comfyui:\n  base_path: /nowhere/" + "x" * 5000 + "\n  loras: more\n",
        "comfyui:\n  [a, b]: more\n",
        "comfyui:\n  loras: |\n" + "    x\n" * 15_000,
        b"\xff\xfe\x00",
        b"comfyui:\n  base_path: \xff\n",
        "x" * 200_000,
        "",
    ],
)  # fmt: skip
def test_lists_of_folders_that_were_made_to_harm(tmp_path: Path, text: str | bytes) -> None:
    root = installation(tmp_path / "comfy", text)
    safetensors(root / "models" / "loras" / "style.safetensors", LORA)
    assert [each.key for each in Catalog([root]).everything()] == ["model/sketchbook", "lora/style"]
    assert not Path("exploded").exists()


def test_honest_lists_of_folders_are_followed(tmp_path: Path) -> None:
    for name in ("one/loras/a", "two/b"):
        safetensors(tmp_path / f"{name}.safetensors", LORA)
    text = f"a111:\n  base_path: {tmp_path}/one\n  is_default: true\n  loras: |\n    loras\n    {tmp_path}/two\n"
    root = installation(tmp_path / "comfy", text)
    assert [each.key for each in Catalog([root]).everything()] == ["model/sketchbook", "lora/a", "lora/b"]


# Configs


HOSTILE: tuple[Any, ...] = (
    None, 0, -1, 1e308, math.nan, math.inf, 10**400, "x", [], {}, [None], [[]] * 3, {"a": {}}, True,
    "x" * 100_000, [0] * 5000,
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json", "defaults.json"],
)
@pytest.mark.parametrize("model", ["sd", "flux"])
def test_configs_that_hold_something_else(models_folder: Path, tmp_path: Path, name: str, model: str) -> None:
    root = tmp_path / "models"
    shutil.copytree(models_folder / model, root / model)
    name = name.replace("unet", "transformer") if model == "flux" else name
    path = root / model / name
    whole = json.loads(path.read_text()) if path.exists() else {"width": 64, "steps": 3, "sampler": "Euler"}
    cases = [(key, value) for key in whole for value in HOSTILE]
    for number, (key, value) in enumerate(cases if LONG else random.Random(5).sample(cases, min(50, len(cases)))):
        path.write_text(json.dumps({**whole, key: value}))
        os.utime(path, ns=(number, number))
        manager = Manager([root], "cpu", "float32")
        for entry in manager.entries():
            assert len(entry.problem) < 1000
            if not entry.problem:
                json.dumps(manager.default_recipe(entry.name).to_json(), allow_nan=False)
                facts = manager.facts(entry.name)
                assert 0 < facts.width < 100_000 and facts.sampler in catalog.family(entry).samplers


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000, '{"a":' * 100_000, '{"_class_name": ' + "[" * 900 + "]" * 900 + "}", "9" * 10_000,
        '{"_class_name": NaN}', '{"x": Infinity}', "\0", "", "null", '"text"', "[]", '{"a": 1e999}',
        b"\xff\xfe{}", b'{"_class_name": "\xff"}', '{"_class_name": "\\ud800"}', b" " * 6_000_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "tokenizer/tokenizer_config.json", "x.json"])
def test_json_that_was_made_to_harm(models_folder: Path, tmp_path: Path, name: str, text: str | bytes) -> None:
    root = tmp_path / "models"
    shutil.copytree(models_folder / "sd", root / "sd")
    safetensors(root / "x.safetensors", LORA)
    path = root / name if name == "x.json" else root / "sd" / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    found = Catalog([root])
    for entry in found.everything():
        assert len(entry.problem) < 1000 and entry.problem.isprintable()
        assert len(sidecars.notes(entry).text) < 10_000
    assert {"lora/x", "model/sd"} <= {entry.key for entry in found.everything()} or name == "model_index.json"
    places.vocabulary("t5", [root])


def test_tokenizers_of_others_cost_a_sentence(models_folder: Path, tmp_path: Path) -> None:
    from studio.models import tokens

    folder = tmp_path / "models" / "sd"
    shutil.copytree(models_folder / "sd", folder)
    manager = Manager([tmp_path / "models"], "cpu", "float32")
    entry = manager.entry("sd")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"):
        path = folder / "tokenizer" / name
        whole = path.read_bytes() if path.exists() else None
        for data in (b"", b"\0", b"[" * 100_000, b'{"model": {"type": "BPE", "vocab": []}}', b"\xff" * 100, b"{}"):
            path.write_bytes(data)
            tokens._tokenizer.cache_clear()
            tokens.measure(entry, catalog.family(entry), "a fox")
            try:
                loading.load_parts(entry, ["tokenizer"], manager.dtype, lambda done, of: None)
            except ModelError as error:
                assert str(error).endswith(".")
        path.unlink()
        if whole is not None:
            path.write_bytes(whole)


# Links


def test_what_lies_beside_a_model_shows_nothing_from_elsewhere(tmp_path: Path) -> None:
    secret, root = tmp_path / "secret.txt", tmp_path / "models"
    secret.write_text("a private key")
    picture = tmp_path / "private.png"
    Image.new("RGB", (8, 8)).save(picture)
    safetensors(root / "loras" / "style.safetensors", LORA)
    (root / "loras" / "style.txt").symlink_to(secret)
    (root / "loras" / "style.png").symlink_to(picture)
    shutil.copytree(root, tmp_path / "other")  # follows the links
    (root / "texts").mkdir()
    (root / "texts" / "style.md").write_text("honest notes")
    (root / "loras" / "style.md").symlink_to("../texts/style.md")
    (root / "linked").symlink_to(tmp_path / "other" / "loras")
    entries = {each.path.parent.name: each for each in Catalog([root]).everything()}
    assert sidecars.notes(entries["loras"]).text == "honest notes"
    assert not sidecars.has_thumbnail(entries["loras"])
    # A person's own link to a whole folder is followed, and what lies there shown.
    assert sidecars.notes(entries["linked"]).text == "a private key"


def test_wildcards_that_lead_out_are_not_named(tmp_path: Path) -> None:
    folder = tmp_path / "wildcards"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("a private key")
    (folder / "w.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "good.txt").write_text("fox")
    (folder / "folder.txt").mkdir()
    (folder / "what__cannot be written.txt").write_text("fox")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.txt")
    wildcards = Wildcards([folder])
    assert wildcards.names() == ["good"]
    for name in ("w", "pipe", "folder", "../secret", "x" * 300, "a/" * 3000 + "b"):
        with pytest.raises(RecipeError, match=r"There is no wildcard .* There are: good\."):
            wildcards.resolve(f"__{name}__" if name != "../secret" else "__a/../../secret__", 1)


# Sidecars and styles


@pytest.mark.parametrize(
    "text", ["<!--" * 200_000, "<a" * 400_000, "<![" * 300_000, "<p>" * 300_000, "&#" * 400_000, "</script" * 200_000]
)
def test_notes_that_were_made_to_be_slow(tmp_path: Path, text: str) -> None:
    path = safetensors(tmp_path / "x.safetensors", LORA)
    beside = tmp_path / "x.json"
    beside.write_text(json.dumps({"description": text, "trainedWords": ["a" * 10_000] * 50, "notes": [text]}))
    found = sidecars.notes(Entry("x", path, kind="lora", sidecars=(beside,)))
    assert len(found.text) <= 8000 and all(len(word) <= 100 for word in found.triggers)


def test_a_bad_byte_costs_no_other_style(tmp_path: Path) -> None:
    styles = Styles(tmp_path)
    styles.save(Style("glow", "{prompt}, glowing"))
    styles.save(Style("mist", "{prompt} in mist"))
    path = tmp_path / "own.csv"
    path.write_bytes(path.read_bytes().replace(b"mist", b"mi\xfft", 1))
    assert "glow" in styles.all()
    path.write_bytes(b'name,prompt\n"cut o')
    styles.save(Style("new", "{prompt} again"))
    assert styles.all()["new"].prompt == "{prompt} again" and (tmp_path / "own.csv.damaged").exists()


def test_names_that_no_disk_has_are_told(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for name in ("狐" * 200, "x" * 200):
        assert not library.has(name)
        with pytest.raises(StorageError):
            library.get(name)
    library.close()


def test_pictures_of_the_library_that_were_damaged_are_not_kept_by_browsers(tmp_path: Path) -> None:
    library = Library(tmp_path)
    path = library.get(library.add(Image.effect_noise((64, 64), 50).convert("RGB"), Recipe(), 20)).path
    library.close()
    whole = path.read_bytes()
    assert metadata.is_whole(path)
    for place in (0, 20, len(whole) // 2, len(whole) - 3):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        assert not metadata.is_whole(path), place
    for length in (0, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not metadata.is_whole(path), length


def test_a_folder_that_may_not_be_entered_costs_nobody_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `lost+found` on a disk of its own. Root may enter everything, so the system is made to say no."""
    tiny.stable_diffusion(tmp_path / "models" / "sd")
    closed = [tmp_path / "models" / "lost+found", tmp_path / "models" / "loras" / "closed", tmp_path / "elsewhere"]
    for folder in closed:
        folder.mkdir(parents=True)
    (tmp_path / "models" / "half" / "unet").mkdir(parents=True)
    (tmp_path / "models" / "half" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    closed.append(tmp_path / "models" / "half" / "unet")

    def refusing(real: Any, below_only: bool) -> Any:
        def ask(path: Any = ".", *rest: Any, **named: Any) -> Any:
            asked = Path(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else Path()
            if any(folder in asked.parents or (folder == asked and not below_only) for folder in closed):
                raise PermissionError(13, "Permission denied", str(asked))
            return real(path, *rest, **named)

        return ask

    monkeypatch.setattr(os, "stat", refusing(os.stat, True))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, False))
    monkeypatch.setattr(os, "listdir", refusing(os.listdir, False))
    found = Catalog([tmp_path / "models", tmp_path / "elsewhere"]).entries()
    assert {entry.name for entry in found if not entry.problem} == {"sketchbook", "sd"}
