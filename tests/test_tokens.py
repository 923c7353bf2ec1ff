"""How long a prompt is: what the line under it says, without a model being loaded."""

import json
from pathlib import Path

import pytest

from studio.families import FAMILIES
from studio.families.stable_diffusion import StableDiffusion
from studio.files.identity.parts import CONFIGS
from studio.models import tokens
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.models.tokens import Length
from studio.words.wildcards import Wildcards
from tests import tiny_addons, weights
from tests.test_loading import t5


@pytest.fixture
def wildcards(tmp_path: Path) -> Wildcards:
    (tmp_path / "animal.txt").write_text("red cat\n")
    return Wildcards([tmp_path])


def said(models: Manager, wildcards: Wildcards, name: str, text: str) -> str:
    return tokens.line(models.entry(name), text, 0, wildcards, "prompt")


def test_the_bundled_model_has_chunks_of_forty_six(wildcards: Wildcards) -> None:
    models = Manager(device="cpu")

    def line(text: str) -> str:
        return said(models, wildcards, "sketchbook", text)

    assert line("") == line("  \n") == ""
    assert line("a red fox") == "Room for about 35 more words (3 of 46 tokens)"
    assert line("a (red:1.3) [fox]").endswith("(3 of 46 tokens)")
    assert line("<lora:ink:0.8> a red fox") == line("a red fox")
    assert line("a red fox, " * 11 + "a cat") == "Full, and all of it is read at once (46 of 46 tokens)"
    assert line("a red fox, " * 11 + "cat") == "Room for about 1 more word (45 of 46 tokens)"
    assert line("a red fox " * 15 + "a Butterfly") == ("Read in 2 parts (47 tokens): the second begins at ‘butterfly’")
    assert line("a red fox BREAK on a table") == "Read in 2 parts (6 tokens): the second begins at ‘on’"
    assert line("cat BREAK fox BREAK table") == "Read in 3 parts (3 tokens): they go on at ‘fox’, ‘table’"
    assert line("a BREAK " * 5 + "cat") == "Read in 6 parts (6 tokens): they go on at ‘a’, ‘a’, ‘a’, …"
    assert line("apple::2 a red pizza::1").endswith("(4 of 46 tokens)")
    assert line("a [cat:very red fox:0.5]").endswith("(4 of 46 tokens)")
    assert not models.loaded("sketchbook")


def test_the_room_is_told_in_words_of_the_prompts_own_kind(wildcards: Wildcards) -> None:
    """Sketchbook knows English: what it has to spell out takes a token for each letter or two."""
    models = Manager(device="cpu")
    line = said(models, wildcards, "sketchbook", "красный кот на столе")
    assert line == "Room for about 1 more word (38 of 46 tokens)"


def test_wildcards_are_counted_as_they_will_be_chosen(models: Manager, wildcards: Wildcards) -> None:
    chosen = "Room for about 9 more words (3 of 14 tokens) · other choices are longer or shorter"
    assert said(models, wildcards, "sd", "a __animal__") == chosen
    assert said(models, wildcards, "sd", "a {red|green} cat") == chosen
    assert "no wildcard 'unicorn'" in said(models, wildcards, "sd", "a __unicorn__")


def test_a_model_that_takes_no_weights_says_so(models: Manager, wildcards: Wildcards) -> None:
    assert said(models, wildcards, "flux", "a red cat") == "Room for about 335 more words (5 of 512 tokens)"
    weighted = said(models, wildcards, "flux", "a (red:1.2) cat")
    assert weighted.endswith("(5 of 512 tokens) · FLUX.1 reads (red:1.2) as plain words")
    assert said(models, wildcards, "flux", "red BREAK cat").endswith("FLUX.1 reads BREAK as plain words")
    assert said(models, wildcards, "flux", "apple::2 cat::1").endswith("FLUX.1 reads apple::2 as plain words")
    assert said(models, wildcards, "flux", "red AND cat").endswith("FLUX.1 reads AND as plain words")
    # What takes turns does so with every model.
    assert said(models, wildcards, "flux", "a [red|blue] cat").endswith("(5 of 512 tokens)")
    told = "Too long for this model by about 1 word (513 of 512 tokens): shorten it"
    assert said(models, wildcards, "flux", "cat " * 511) == told


def test_prompts_that_guide_together_are_counted_apart(models: Manager, wildcards: Wildcards) -> None:
    assert said(models, wildcards, "sd", "a red cat AND a dog :1.2").endswith(
        "(5 of 14 tokens) · 2 prompts guide together"
    )
    entry = models.entry("sd")
    line = tokens.line(entry, "red AND cat", 0, wildcards, "negative_prompt")
    assert line.endswith(" · AND is read as a word here")


NOT_READ = [
    ("<loar:ink:0.8> fox", "<loar:ink:0.8> is no tag, and read as words: a LoRA is written <lora:name:0.8>"),
    ("fox <lora:ink:0.8", "<lora:ink:0.8 is never closed, and read as words: end it with >"),
    ("<lora:ink:1:lbw=ALL> fox", "lbw= in a LoRA's tag has no effect"),
    ("<lora:ink:heavy> fox", "'heavy' in <lora:ink:heavy> is no weight"),
    ("a ${colour} fox", "${colour} has no value"),
    ("a {red} fox", "{red} is no choice"),
    ("a {$$red|$$blue} fox", "is read as it stands: several are chosen by {2$$red|green|blue}"),
    ("a {red|blue fox", "lacks its other brace"),
    ("a my__new__fox", "__new__ is no wildcard, and is read as words"),
    ("a (red:1,2) fox", "(red:1,2) gives no weight: write (red:1.2)"),
    ("a (red:1e9) fox", "(red:1e9) gives no weight"),
    ("a [red:blue:soon] fox", "[red:blue:soon] changes nothing on the way"),
    ("a embedding:nobody fox", "there is no embedding nobody: it is read as words"),
]


@pytest.mark.parametrize(("text", "remark"), NOT_READ)
def test_what_is_not_understood_is_said(models: Manager, wildcards: Wildcards, text: str, remark: str) -> None:
    assert remark in said(models, wildcards, "sd", text)


@pytest.mark.parametrize(
    "text",
    [r"a \{red\} fox", "a (red:1.2) [fox:cat:1e-1]", "(red)BREAK(blue)", "a fox: 5:30, <3",
     "<lora:a__b__c:te=1:unet=0>",
     "[red|blue] fox :)", "snake_case __", "band, SANDY", "{a|b} ${x=y}${x}", "apple::2 tart", "2 < 3: yes"],
)  # fmt: skip
def test_what_is_understood_is_not_spoken_of(models: Manager, wildcards: Wildcards, text: str) -> None:
    line = said(models, wildcards, "sd", text)
    assert "tokens" in line and " · " not in line.removesuffix(" · other choices are longer or shorter")


def test_a_tag_that_is_misspelt_is_counted_as_the_words_that_it_is(models: Manager, wildcards: Wildcards) -> None:
    assert "(1 of 14 tokens)" in said(models, wildcards, "sd", "cat")
    assert "tokens)" in (tagged := said(models, wildcards, "sd", "cat <loar:ink:1>")) and "(1 of" not in tagged


def test_the_line_says_which_words_are_embeddings(models: Manager, wildcards: Wildcards, tmp_path: Path) -> None:
    found = {
        "inky": tiny_addons.embedding(tmp_path / "inky.safetensors"),
        "sub/red": tiny_addons.embedding(tmp_path / "sub" / "red.safetensors", width=24),
    }
    line = tokens.line(models.entry("sd"), "a red cat, Inky", 0, wildcards, "prompt", found)
    assert line.endswith(" · with the embedding inky · red is a word: the embedding of that name is for other models")
    assert "red is a word" not in tokens.line(models.entry("flux"), "a red cat", 0, wildcards, "prompt", found)


def test_any_text_has_a_line(models: Manager, wildcards: Wildcards) -> None:
    for sign in ("<lora:", "<a:", "{", "${", "__a", "(a:1,", "[a:", "AND ", "embedding:", "embedding:a/"):
        assert said(models, wildcards, "sd", sign * (9999 // len(sign)))


def test_a_model_without_a_known_tokenizer_says_nothing(tmp_path: Path) -> None:
    family, entry = FAMILIES[0], Entry("x", tmp_path, config=tmp_path)
    assert tokens.measure(entry, family, "a cat") is None
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "config.json").write_text("{}")
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text("{}")
    for library in ("os", "transformers"):
        (tmp_path / "model_index.json").write_text(json.dumps({"tokenizer": [library, "system"]}))
        assert tokens.measure(entry, family, "a cat") is None


def test_a_single_files_prompts_are_counted_in_whole_words() -> None:
    entry = Entry("x", Path("x"), config=CONFIGS / "stable-diffusion-v1", single=True)
    assert tokens.measure(entry, StableDiffusion, "a red apple on a table") == Length(6, 75, 6)


def test_a_single_files_t5_may_lie_in_a_models_folder(tmp_path: Path, wildcards: Wildcards) -> None:
    weights.flux_in_parts(tmp_path)
    models = Manager([tmp_path], "cpu")
    assert said(models, wildcards, "flux1-dev.safetensors", "an apple").startswith("flux1-dev.safetensors holds only a")
    t5(tmp_path / "tokenizers" / "t5_tokenizer")
    models.entries()
    assert said(models, wildcards, "flux1-dev.safetensors", "apple apple").endswith("(3 of 512 tokens)")
