"""CLIP's hidden states of prompts: as they were before there were weights, and as A1111 and diffusers have them."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import CLIPTextModel

from studio.drawing.torch_run import TorchRun
from studio.drawing.worker import TorchWorker
from studio.errors import RecipeError
from studio.families import clip
from studio.families.clip import Chunk, Clip
from studio.library import metadata
from studio.library.library import Library
from studio.models import catalog
from studio.models.manager import Manager
from studio.recipe.recipe import Recipe
from studio.words.prompts import parse
from tests import tiny, tiny_xl
from tests.inside import begin
from tests.test_worker import draw, finish, recipe

ROOM = 14
"""Tokens that the tiny text encoders read, without start and end."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A text encoder of three layers. Its tokenizer knows no comma."""
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny._tokenizer(folder)
    encoder = tiny_xl.clip(CLIPTextModel).eval().requires_grad_(False)
    # As in a trained one, the mean is not 0.
    torch.nn.init.uniform_(encoder.final_layer_norm.bias)
    return Clip(AutoTokenizer.from_pretrained(folder), encoder, torch.device("cpu"))


def hidden(reader: Clip, *texts: str, clip_skip: int = 1) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [each.hidden for each in clip.encode([reader], texts, torch.float32, clip_skip)[0]]


def plainly(reader: Clip, text: str, count: int = 1) -> torch.Tensor:
    """The prompt in chunks through the text encoder, by itself."""
    tokenizer = reader.tokenizer
    ids = tokenizer(text, add_special_tokens=False).input_ids
    rows = []
    for start in range(0, count * ROOM, ROOM):
        piece = ids[start : start + ROOM]
        rows.append([1, *piece, 2, *[0] * (ROOM - len(piece))])
    with torch.inference_mode():
        return reader.encoder(torch.tensor(rows))[0].reshape(1, count * 16, 16)


@pytest.mark.parametrize(
    "text", ["", "a red apple", "(a red:1) apple", "a [red:1.0] apple".replace("[red:1.0]", "red")]
)
def test_without_weights_nothing_is_computed(reader: Clip, text: str) -> None:
    words = "a red apple" if text else ""
    assert torch.equal(hidden(reader, text)[0], plainly(reader, words))


def test_without_weights_long_prompts_are_what_they_were(reader: Clip) -> None:
    text = "a red apple on the table " * 6
    one, other = hidden(reader, text, "a cat")
    assert torch.equal(one, plainly(reader, text, 3)) and torch.equal(other, plainly(reader, "a cat", 3))


def test_the_bundled_model_reads_its_words_as_before() -> None:
    manager = Manager(device="cpu", dtype="float32")
    model: Any = manager.use(next(entry.name for entry in catalog.scan([]) if not entry.problem))
    for text in ("a red fox", "a panda, 3d render, on a pink background"):
        ids = model.tokenizer(text, padding="max_length", max_length=model.tokenizer.model_max_length).input_ids
        with torch.inference_mode():
            expected = model.text_encoder(torch.tensor([ids]))[0]
            assert torch.equal(model.encode(text, "", False).positive, expected)
            heavy = text.replace("a ", "(a:1.5) ", 1)
            assert not torch.equal(model.encode(heavy, "", False).positive, expected)


def test_weights_scale_and_the_mean_is_restored(reader: Clip) -> None:
    plain, weighted = plainly(reader, "a red apple"), hidden(reader, "a (red:1.4) [apple]")[0]
    scale = torch.ones(1, 16, 1)
    scale[0, 2], scale[0, 3] = 1.4, 1 / 1.1
    expected = plain * scale
    expected = expected * (plain.mean() / expected.mean())
    assert torch.allclose(weighted, expected, atol=1e-6)
    assert torch.allclose(weighted.mean(), plain.mean(), atol=1e-6)


def test_each_chunk_restores_its_own_mean(reader: Clip) -> None:
    text = "(red:1.4) " + "apple " * 13 + "cat"
    plain, weighted = plainly(reader, "red " + "apple " * 13 + "cat", 2), hidden(reader, text)[0]
    assert not torch.equal(weighted[:, :16], plain[:, :16])
    assert torch.allclose(weighted[:, 16:], plain[:, 16:], atol=1e-6)


@pytest.mark.parametrize("text", ["(a:0)", "(a red apple:0)", "(red:-10) apple", "(((((a:10)))))", "a::1 red::-0.999"])
def test_absurd_weights_stay_finite(reader: Clip, text: str) -> None:
    found = hidden(reader, text)[0]
    assert torch.isfinite(found).all() and found.abs().max() < 1000


def test_break_begins_a_chunk(reader: Clip) -> None:
    found = hidden(reader, "a red BREAK apple")[0]
    assert torch.equal(found[:, :16], plainly(reader, "a red"))
    assert torch.equal(found[:, 16:], plainly(reader, "apple"))
    assert torch.equal(hidden(reader, "BREAK apple")[0][:, 16:], plainly(reader, "apple"))


def test_parts_are_mixed_by_their_weights(reader: Clip) -> None:
    found = hidden(reader, "red apple::2 cat::1 dog::-0.5")[0]
    apple, cat, dog = (plainly(reader, text) for text in ("red apple", "cat", "dog"))
    assert torch.allclose(found, (2 * apple + cat - 0.5 * dog) / 2.5, atol=1e-5)
    assert torch.equal(hidden(reader, "cat::3")[0], plainly(reader, "cat"))
    long = hidden(reader, "red " * 20 + ":: cat")[0]
    assert torch.allclose(long, (plainly(reader, "red " * 20, 2) + plainly(reader, "cat", 2)) / 2, atol=1e-5)


def test_clip_skip_counts_as_a1111_does(reader: Clip) -> None:
    ids = torch.tensor([[1, 4, 5, 8, 2, *[0] * 11]])
    with torch.inference_mode():
        states = reader.encoder(ids, output_hidden_states=True).hidden_states
        assert torch.equal(hidden(reader, "a red apple", clip_skip=1)[0], plainly(reader, "a red apple"))
        for skip in (2, 3):
            # diffusers' clip_skip is one less, and puts the last norm behind the layer too.
            expected = reader.encoder.final_layer_norm(states[-skip])
            assert torch.equal(hidden(reader, "a red apple", clip_skip=skip)[0], expected)
    with pytest.raises(RecipeError, match="clip skip of 4"):
        hidden(reader, "a red apple", clip_skip=4)


class Words:
    """A tokenizer for which each word is a token."""

    unk_token_id, model_max_length = 0, 77

    def __call__(self, text: str, **options: Any) -> Any:
        return SimpleNamespace(input_ids=[1 if word == "," else 2 for word in text.split()])


@pytest.mark.parametrize(
    ("before", "after", "lengths"),
    [
        (75, 0, [75]),
        (76, 0, [75, 1]),
        (70, 9, [71, 9]),  # a comma near the border ends the chunk
        (55, 40, [56, 40]),  # the last place that is near
        (54, 40, [75, 20]),  # too far away
        (75, 5, [75, 6]),  # a comma that would begin the next chunk is left there
        (0, 160, [75, 75, 11]),
    ],
)
def test_chunks_end_at_a_comma_that_is_near(before: int, after: int, lengths: list[int]) -> None:
    text = " ".join(["word"] * before + ([","] if after else []) + ["word"] * after)
    found = clip.cut(Words(), parse(text)[0].sections, 75)
    assert [len(chunk.ids) for chunk in found] == lengths
    assert clip.cut(Words(), parse("")[0].sections, 75) == [Chunk()]


# Through the worker, on the way


def test_all_of_it_changes_the_picture(worker: TorchWorker) -> None:
    words = "a red cat on the table"
    texts = [words, "a (red:1.5) cat on the table", "a red cat BREAK on the table", "a red cat:: on the table::0.5"]
    texts += ["a red cat on the table " * 6, "a red [cat] on the table", "a [red|blue] cat on the table"]
    runs = [draw(worker, recipe(prompt=text))[0] for text in texts]
    assert len({run.latents.sum().item() for run in runs}) == len(texts)
    assert runs[4].prompts.positive.shape[1] == 3 * 16


@pytest.mark.parametrize("model", ["sd", "flux"])
def test_scheduled_words_hold_from_their_step_on(worker: TorchWorker, model: str) -> None:
    wanted = recipe(model, prompt="a [red:blue:0.5] cat", steps=6)
    run = worker.begin(wanted)
    [before] = draw(worker, recipe(model, prompt="a red cat", steps=6))
    turned = recipe(model, prompt="a red cat", steps=6).turned(3, {"prompt": "a blue cat"})
    [expected] = draw(worker, turned)
    for done in range(1, 7):
        worker.step([run])
        same = torch.equal(run.latents, before.moments[done].latents)
        assert same == (done <= 3)
    assert torch.equal(run.latents, expected.latents)


def test_alternating_words_take_turns(worker: TorchWorker) -> None:
    [run] = draw(worker, recipe(prompt="a [red|blue] cat", steps=4))
    turned = recipe(prompt="a red cat", steps=4)
    for step, colour in ((1, "blue"), (2, "red"), (3, "blue")):
        turned = turned.turned(step, {"prompt": f"a {colour} cat"})
    assert torch.equal(run.latents, draw(worker, turned)[0].latents)


def test_a_share_is_one_of_the_steps_that_are_run(worker: TorchWorker, sources: Any) -> None:
    from tests.test_originals import picture

    values = {"source": sources.add_image(picture()), "strength": 0.5, "steps": 8}
    [run] = draw(worker, recipe(prompt="a [red:blue:0.5] cat", **values))
    turned = recipe(prompt="a red cat", **values).turned(2, {"prompt": "a blue cat"})
    assert run.total == 4 and torch.equal(run.latents, draw(worker, turned)[0].latents)


def test_a_scheduled_picture_can_be_made_again_from_its_file(worker: TorchWorker, tmp_path: Path) -> None:
    wanted = recipe(prompt="a [red|blue] ([cat:dog:0.5]:1.3)", negative_prompt="[apple:0.5]", steps=6)
    [run] = draw(worker, wanted)
    again = in_file(worker, run, tmp_path)
    assert again == wanted and torch.equal(draw(worker, again)[0].latents, run.latents)


def test_a_fork_of_a_scheduled_picture_can_be_made_again_too(worker: TorchWorker, tmp_path: Path) -> None:
    [run] = draw(worker, recipe(prompt="a [red|blue] [cat:dog:4]", steps=6))
    for step in range(6):
        same = finish(worker, worker.begin(run.recipe, (run, step)))
        assert torch.equal(same.latents, run.latents)
    turned = run.recipe.turned(3, {"prompt": "a [green|red|blue] apple", "guidance_scale": 3.0})
    fork = finish(worker, worker.begin(turned, (run, 3)))
    again = in_file(worker, fork, tmp_path)
    assert again == turned and torch.equal(draw(worker, again)[0].latents, fork.latents)


def in_file(worker: TorchWorker, run: TorchRun, folder: Path) -> Recipe:
    """The recipe that stands in the file of the picture."""
    library = Library(folder)
    found = metadata.read(library.get(library.add(worker.decode(run), run.recipe, run.done)).path)
    library.close()
    assert found
    return found[0]


def test_neighbours_with_other_words_at_each_step(worker: TorchWorker) -> None:
    wanted = [recipe(prompt=text) for text in ("a [red|blue] cat", "a red cat BREAK dog", "[cat:dog BREAK apple:2]")]
    for each, run in zip(wanted, together(worker, wanted), strict=True):
        assert torch.allclose(run.latents, draw(worker, each)[0].latents, atol=1e-4)


def together(worker: TorchWorker, recipes: list[Recipe]) -> list[TorchRun]:
    """As the engine does it: in one call those whose keys are equal now."""
    runs = [begin(worker, each) for each in recipes]
    while moving := [run for run in runs if run.done < run.total]:
        worker.step([run for run in moving if run.key == moving[0].key and run.done == moving[0].done])
    return runs


def test_encoders_without_weights_get_the_words_alone(models: Manager, worker: TorchWorker) -> None:
    heavy, plain = draw(
        worker, recipe("flux", prompt="a (red:1.4) [cat] BREAK dog"), recipe("flux", prompt="a red cat dog")
    )
    assert torch.equal(heavy.latents, plain.latents)
    assert [models.use(name).weights for name in ("sd", "flux")] == [True, False]


def test_parts_that_cancel_out_are_refused_at_once(worker: TorchWorker) -> None:
    refused: list[Callable[[], Recipe]] = [
        lambda: recipe(prompt="cat::1 dog::-2"),
        lambda: recipe(negative_prompt="cat::1 dog::-1"),
        lambda: recipe().turned(2, {"prompt": "cat::1 dog::-2"}),
    ]
    for make in refused:
        with pytest.raises(RecipeError, match="more than 0"):
            worker.check(make())
