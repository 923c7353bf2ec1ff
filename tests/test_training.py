"""How the bundled model is made: captions, pictures, tokens, losses and the exported folder, on tiny configurations."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from training import denoiser, evaluate, export, recogniser, tokenizer, vae
from training.compose import PALETTE, SCENES, STYLE_SHARES, Composer, article, compose
from training.corpus import NAMED, NEXT, Corpus, Subject, read_named, squared
from training.optimise import Optimiser

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
TINY_VAE = vae.CONFIG | {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}


@pytest.fixture
def disc() -> np.ndarray:
    """A red disc: uint8 RGBA (128, 128, 4)."""
    y, x = np.mgrid[0:128, 0:128] - 63.5
    picture = np.zeros((128, 128, 4), np.uint8)
    picture[..., 0] = 220
    picture[..., 3] = 255 * (x**2 + y**2 < 60**2)
    return picture


@pytest.fixture
def corpus(disc: np.ndarray) -> Corpus:
    subjects = [
        Subject("🔴", "red circle", ("disc", "red circle"), True),
        Subject("🟥", "red square", ("square",), False),
    ]
    return Corpus(subjects, {style: np.stack([disc, disc]) for style in STYLE_SHARES})


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory):
    texts = ["a cat on a blue background", "a dog, 3d render, on a red background"] * 20
    return tokenizer.train_tokenizer(texts, tmp_path_factory.mktemp("tokenizer"), size=700)


@pytest.fixture
def pair(words, monkeypatch: pytest.MonkeyPatch) -> denoiser.Pair:
    monkeypatch.setattr(denoiser, "UNET", TINY_UNET)
    monkeypatch.setattr(denoiser, "TEXT", TINY_TEXT)
    torch.manual_seed(0)
    return denoiser.Pair(len(words))


def test_composing_is_repeatable_and_the_caption_names_what_is_drawn(corpus: Corpus) -> None:
    pictures, captions, plans = Composer(corpus, seed=3).batch(40)
    again = Composer(corpus, seed=3).batch(40)
    assert np.array_equal(pictures, again[0]) and captions == again[1]
    assert pictures.shape == (40, 128, 128, 3) and pictures.dtype == np.uint8
    for caption, plan in zip(captions, plans, strict=True):
        assert any(word in caption for word in corpus.subjects[plan.subject].words)
        assert not any(f"{name} background" in caption for name in PALETTE if name not in plan.background)


@pytest.mark.parametrize("name", PALETTE)
def test_a_named_background_is_recognised_from_the_border(name: str, disc: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    pictures = [compose(rng, disc, style, name) for style in STYLE_SHARES for _ in range(5)]
    assert np.mean([evaluate.border_colour(picture) == name for picture in pictures]) >= 0.9


@pytest.mark.parametrize("name", SCENES)
def test_scenes_are_drawn_at_any_size(name: str, disc: np.ndarray) -> None:
    assert compose(np.random.default_rng(0), disc, "cartoon", name, size=64).shape == (64, 64, 3)


def test_articles() -> None:
    assert [article(words) for words in ("cat", "apple", "grapes", "dress")] == [
        "a cat",
        "an apple",
        "grapes",
        "a dress",
    ]


def test_a_subject_fills_its_square(disc: np.ndarray) -> None:
    small = np.zeros_like(disc)
    small[20:40, 30:80] = 255
    found = squared(Image.fromarray(small), 64)
    assert found[32, 0, 3] > 200 and found[32, -1, 3] > 200 and found[0, 32, 3] == 0


def test_common_subjects_are_named_once() -> None:
    common = read_named(NAMED.read_text().partition(NEXT)[0])
    usual = [words[0] for words in common.values()]
    assert len(common) >= 70 and common["automobile"] == ("car", "automobile")
    assert {word for word in usual if usual.count(word) > 1} == set()


def test_tokens_keep_words_whole_and_spell_the_rest(words) -> None:
    assert words.convert_ids_to_tokens(words("a CAT").input_ids)[1:-1] == ["a</w>", "cat</w>"]
    for text in ("a cat on a blue background", "zyx qu", "кошка"):
        ids = tokenizer.encode(words, [text])[0]
        assert len(ids) == tokenizer.LENGTH and words.decode(ids, skip_special_tokens=True).strip() == text
        assert max(ids) < len(words) and ids[0] == words.bos_token_id and ids[-1] == words.eos_token_id


def test_the_schedule_ends_in_pure_noise() -> None:
    scheduler = DDIMScheduler(**denoiser.SCHEDULE)
    assert scheduler.alphas_cumprod[-1] == 0
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999


def test_a_perfect_denoiser_has_no_loss() -> None:
    scheduler, latents = DDIMScheduler(**denoiser.SCHEDULE), torch.zeros(8, 4, 16, 16)

    def perfect(noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Where the picture is all zeros: velocity = sqrt(alpha) noise, noisy = sqrt(1 - alpha) noise."""
        signal = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return signal.sqrt() * noisy / (1 - signal).sqrt()

    ids = torch.zeros(8, 4, dtype=torch.long)
    assert denoiser.training_loss(perfect, scheduler, latents, ids, ids[0]) < 1e-9


def test_the_denoiser_learns(pair: denoiser.Pair) -> None:
    torch.manual_seed(0)
    scheduler, optimiser = DDIMScheduler(**denoiser.SCHEDULE), Optimiser(pair)
    latents, ids = torch.ones(8, 4, 16, 16), torch.zeros(8, tokenizer.LENGTH, dtype=torch.long)
    losses = []
    for _ in range(12):
        loss = denoiser.training_loss(pair, scheduler, latents, ids, ids[0])
        optimiser.step(loss, 3e-3)
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_the_autoencoder_learns(disc: np.ndarray) -> None:
    torch.manual_seed(0)
    tiny = AutoencoderTiny(**TINY_VAE)
    optimiser = Optimiser(tiny)
    pictures = np.stack([compose(np.random.default_rng(0), disc, "cartoon", "blue")])
    losses = []
    for _ in range(15):
        loss = vae.training_step(tiny, vae.crops(pictures, 4, np.random.default_rng(0)))
        optimiser.step(loss, 3e-3)
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0] and np.isfinite(vae.psnr(tiny, pictures))


def test_the_recogniser_takes_pictures(disc: np.ndarray) -> None:
    network = recogniser.Recogniser(subjects=7, width=8).eval()
    pictures = np.stack([compose(np.random.default_rng(0), disc, "cartoon", "blue")] * 3)
    assert recogniser.best_guesses(network, pictures).shape == (3, 5)


def test_the_export_is_an_ordinary_pipeline(words, pair: denoiser.Pair, tmp_path) -> None:
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
    assert pictures.shape == (2, 128, 128, 3) and not np.array_equal(pictures[0], pictures[1])
    assert evaluate.contact_sheet(pictures, columns=2).size == (256, 128)
