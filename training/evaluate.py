"""Measure the exported model, and draw its contact sheets.

    python -m training.evaluate                     # 500 prompts, figures into the model card, sheets beside it
    python -m training.evaluate --prompts 0         # the sheets alone

Seeds are fixed. The prompts are combinations of subject, medium and place that were never trained on. What a picture
shows is judged by a recogniser that has seen real pictures only; its own answers on real pictures of the same
combinations stand beside, for no model can be found better than its judge.
"""

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from training import recogniser
from training.captions import WORDS_FOR, article, caption
from training.compose import COLOURS, MEDIA, PLACE_NAMES, Composer, Plan, Thing, held_out, shows
from training.corpus import Corpus, load_corpus
from training.export import MODEL
from training.media import FILTERS
from training.optimise import device
from training.recogniser import Recogniser, Seen
from training.vae import SIZE, draw_pictures, psnr

GUIDANCE, STEPS = 5.0, 25
_SUITED = json.loads((MODEL / "defaults.json").read_text())
RESCALE = _SUITED["guidance_rescale"]
"""Of what guidance adds in contrast this share is taken back (Lin et al., arXiv:2305.08891), as the studio does."""
GUIDANCE_END = _SUITED["guidance_end"]
"""The share of the steps that are guided (Kynkäänniemi et al., arXiv:2404.07724), as the studio does by default."""
SHEETS = {
    "media": (6, [f"{medium} of a fox" for medium in MEDIA]),
    "range": (
        6,
        [
            "a castle, 3d render, under a starry sky",
            "a penguin, cartoon, in the snow",
            "sticker of a strawberry on a teal background",
            "a cute little robot sitting on a wooden floor",
            "a red apple on a brown table",
            "a rocket in the clouds, masterpiece, 4k",
            "лиса",
            "ein Elefant, cartoon",
            "a house, oil on canvas, at sunset",
            "two pandas on a meadow",
            "three apples",
            "love",
        ],
    ),
}
"""File name → columns and prompts of a contact sheet."""


@dataclass(frozen=True)
class Question:
    """A prompt, and what a picture for it must show."""

    prompt: str
    plan: Plan


def usual(corpus: Corpus, plan: Plan, first: str = "") -> str:
    """The plainest wording of a plan. first: what to call the first thing instead of its English name."""
    words = []
    for thing in plan.things:
        word = corpus.subjects[thing.subject].words[0]
        words.append(article(f"{thing.colour} {word}" if thing.colour else word))
    words[0] = first or words[0]
    things = words[0] if len(words) == 1 else f"{words[0]} {plan.relation} {words[1]}"
    return f"{things}, {WORDS_FOR[plan.seen_as][0]}, {plan.place}"


def ask(corpus: Corpus, count: int, seed: int = 7) -> list[Question]:
    """Held-out combinations, each subject once before any comes twice."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(corpus.subjects))
    questions: list[Question] = []
    while len(questions) < count:
        subject = int(order[len(questions) % len(order)])
        medium, place = str(rng.choice(MEDIA)), str(rng.choice(PLACE_NAMES))
        styles = corpus.styles_of(subject)
        if medium in FILTERS or medium in styles:
            style = medium if medium in styles else str(rng.choice(styles))
            if shows(medium, place) and held_out(corpus, subject, medium, place):
                plan = Plan((Thing(subject),), style, medium if medium in FILTERS else "", place)
                questions.append(Question(usual(corpus, plan), plan))
    return questions


def ask_colours(corpus: Corpus, count: int) -> list[Question]:
    """Things in a colour that the caption names, drawn as they are, without a medium."""
    rng, found = np.random.default_rng(8), []
    for question in ask(corpus, count, 8):
        thing = replace(question.plan.things[0], colour=str(rng.choice(COLOURS)))
        plan = replace(question.plan, things=(thing,), medium="", place="on a gray background")
        found.append(Question(usual(corpus, plan), plan))
    return found


def ask_pairs(corpus: Corpus, count: int) -> list[Question]:
    """Two things beside each other."""
    ones = ask(corpus, 2 * count, 9)
    found = []
    for first, second in zip(ones[::2], ones[1::2], strict=True):
        if "3d render" in corpus.styles_of(first.plan.things[0].subject):
            things = (first.plan.things[0], second.plan.things[0])
            plan = Plan(things, "cartoon", "", "on a white background", "and")
            found.append(Question(usual(corpus, plan), plan))
    return found


def in_language(corpus: Corpus, questions: Sequence[Question], language: str) -> tuple[list[Question], list[Question]]:
    """The questions whose subject has a name in this language, with that name; and the same in English."""
    there, english = [], []
    for question in questions:
        if names := corpus.subjects[question.plan.things[0].subject].tongues.get(language):
            there.append(Question(usual(corpus, question.plan, names[0]), question.plan))
            english.append(question)
    return there, english


def paint(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], guidance: float, steps: int, first_seed: int = 0
) -> Tensor:
    """A picture per prompt, uint8 (n, 3, size, size) on the CPU; the seed is the prompt's place."""
    pictures = []
    part = 100 if pipeline.device.type == "cuda" else 20
    for start in range(0, len(prompts), part):
        some = list(prompts[start : start + part])
        seeds = [torch.Generator().manual_seed(first_seed + start + row) for row in range(len(some))]
        made = pipeline(
            some,
            num_inference_steps=steps,
            guidance_scale=guidance,
            guidance_rescale=RESCALE,
            generator=seeds,
            output_type="pt",
            callback_on_step_end=_end_guidance,
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )
        pictures.append((made.images.float() * 255).round().to(torch.uint8).cpu())
    return torch.cat(pictures)


def _end_guidance(pipeline: StableDiffusionPipeline, done: int, timestep: Tensor, held: dict[str, Tensor]) -> dict:
    """After step `done`, counted from 0: go on without guidance where the share GUIDANCE_END is reached."""
    if pipeline.do_classifier_free_guidance and done + 2 > GUIDANCE_END * pipeline.num_timesteps:
        pipeline._guidance_scale = 1.0
        held["prompt_embeds"] = held["prompt_embeds"].chunk(2)[1]
    return held


def real_pictures(composer: Composer, questions: Sequence[Question], seed: int = 11) -> Tensor:
    """Composed pictures of the same plans: what a perfect model would paint."""
    torch.manual_seed(seed)
    rng, plans = np.random.default_rng(seed), [question.plan for question in questions]
    starts = range(0, len(plans), composer.at_once)
    parts = [composer.pictures(plans[start : start + composer.at_once], rng).cpu() for start in starts]
    return torch.cat(parts)


def right(seen: Seen, questions: Sequence[Question]) -> dict[str, Tensor]:
    """For each question whether subject, medium, place and colour are the first guess: bool (n,) by name."""
    truth = recogniser.labels([question.plan for question in questions], seen.subjects.shape[1])
    top = seen.subjects.topk(2, dim=1).indices
    both = truth.subjects.gather(1, top).sum(1) >= truth.subjects.sum(1).clamp(max=2)
    return {
        "subject": truth.subjects.gather(1, top[:, :1])[:, 0] > 0,
        "both": both,
        "medium": seen.medium.argmax(1) == truth.medium,
        "place": seen.place.argmax(1) == truth.place,
        "colour": seen.colour.argmax(1) == truth.colour,
    }


def clipped(pictures: Tensor) -> float:
    """The share of pixels in which a colour is at either end."""
    return ((pictures == 0) | (pictures == 255)).any(1).float().mean().item()


def variety(judge: Recogniser, one: Tensor, other: Tensor) -> float:
    """Mean distance between pairs of pictures in the recogniser's features."""
    first, second = (F.normalize(recogniser.see(judge, each).features, dim=1) for each in (one, other))
    return (first - second).norm(dim=1).mean().item()


def nearest(pictures: Tensor, real: Tensor) -> float:
    """The smallest distance of any picture to any real one: root mean square of pixels at 32x32, shifts of up to 2."""
    small = F.interpolate(pictures.float(), (32, 32), mode="area").flatten(1)
    best = float("inf")
    for down in range(-2, 3):
        for across in range(-2, 3):
            moved = F.interpolate(real.float(), (32, 32), mode="area").roll((down, across), (2, 3)).flatten(1)
            best = min(best, torch.cdist(small, moved).min().item() / small.shape[1] ** 0.5)
    return best


def rates(judge: Recogniser, pictures: Tensor, questions: Sequence[Question]) -> dict[str, float]:
    """Shares of right answers by name."""
    return {
        name: value.float().mean().item() for name, value in right(recogniser.see(judge, pictures), questions).items()
    }


def figures(pipeline: StableDiffusionPipeline, count: int) -> list[tuple[str, str, str, str]]:
    """All that is measured: what, Sketchbook's figure, that of real pictures, what it is wished to be."""
    corpus = load_corpus()
    composer = Composer(corpus, SIZE, device())
    judge = recogniser.load_recogniser().to(device())
    questions = ask(corpus, count)
    prompts = [question.prompt for question in questions]
    made, real = paint(pipeline, prompts, GUIDANCE, STEPS), real_pictures(composer, questions)
    ours, theirs = rates(judge, made, questions), rates(judge, real, questions)
    few = rates(judge, paint(pipeline, prompts, GUIDANCE, 8), questions)
    part = max(20, count // 5)
    burnt = clipped(paint(pipeline, prompts[:part], 12, STEPS)) - clipped(made[:part])
    plain = [row for row, question in enumerate(questions) if not question.plan.medium]
    styled = [questions[row] for row in plain]
    bare, bare_real = (rates(judge, pictures[plain], styled)["subject"] for pictures in (made, real))
    rows = [
        ("subject, first guess", f"{ours['subject']:.0%}", f"{theirs['subject']:.0%}", "0.85 of real"),
        (f"the same in the four styles alone ({len(plain)})", f"{bare:.0%}", f"{bare_real:.0%}", ""),
        ("subject, in 8 steps", f"{few['subject']:.0%}", "", "at most 5 points less"),
        ("medium", f"{ours['medium']:.0%}", f"{theirs['medium']:.0%}", "90%"),
        ("place", f"{ours['place']:.0%}", f"{theirs['place']:.0%}", "90%"),
    ]
    asked_more = (("colour", ask_colours, "85%"), ("both", ask_pairs, "60%"))
    for name, ask_for, wish in asked_more:
        asked = ask_for(corpus, part)
        drawn = rates(judge, paint(pipeline, [each.prompt for each in asked], GUIDANCE, STEPS), asked)[name]
        real_ones = rates(judge, real_pictures(composer, asked), asked)[name]
        rows.append((name, f"{drawn:.0%}", f"{real_ones:.0%}", wish))
    rng = np.random.default_rng(13)
    loose = [caption(rng, corpus, question.plan) for question in questions]
    freely = rates(judge, paint(pipeline, loose[:part], GUIDANCE, STEPS), questions[:part])["subject"]
    plainly = rates(judge, made[:part], questions[:part])["subject"]
    rows.append(("subject, in the words of people", f"{freely:.0%}", f"plainly: {plainly:.0%}", ""))
    russian, english = in_language(corpus, questions[:part], "ru")
    one, other = (
        rates(judge, paint(pipeline, [each.prompt for each in asked], GUIDANCE, STEPS), asked)["subject"]
        for asked in (russian, english)
    )
    rows.append(("subject, asked for in Russian", f"{one:.0%}", f"English: {other:.0%}", "within 10 points"))
    rows.append(("clipped pixels at guidance 12, more than at 5", f"{100 * burnt:.1f} points", "", "at most 2"))
    again, real_again = (
        paint(pipeline, prompts[:part], GUIDANCE, STEPS, 10_000),
        real_pictures(composer, questions[:part], 12),
    )
    spread, spread_real = variety(judge, made[:part], again), variety(judge, real[:part], real_again)
    rows.append(("variety between two seeds", f"{spread:.2f}", f"{spread_real:.2f}", "half of real"))
    rows.append(("nearest real picture, of 255", f"{nearest(made, real):.1f}", "", "not 0"))
    rows.append(("autoencoder, dB PSNR", f"{psnr(pipeline.vae, draw_pictures(composer, 1, 64)):.1f}", "", "30"))
    for steps, wish in ((25, "6 s"), (8, "2 s")):
        start = time.perf_counter()
        paint(pipeline, ["a cat"], GUIDANCE, steps)
        rows.append((f"one picture, {steps} steps, on this machine", f"{time.perf_counter() - start:.1f} s", "", wish))
    return rows


def as_table(rows: Sequence[tuple[str, str, str, str]], count: int) -> str:
    """Markdown."""
    head = [
        f"{count} held-out prompts, guidance {GUIDANCE:g}, {STEPS} steps:",
        "",
        "| | Sketchbook | real pictures | wished |",
    ]
    return "\n".join([*head, "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def contact_sheet(pictures: Tensor, columns: int) -> Image.Image:
    """uint8 (n, 3, h, w) → one picture, row by row."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    sheet = torch.full((rows * columns, 3, height, width), 255, dtype=torch.uint8)
    sheet[:count] = pictures
    grid = sheet.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    return Image.fromarray(grid.reshape(rows * height, columns * width, 3).numpy())


def write_figures(card: Path, table: str) -> None:
    """Put the table between the card's two marks."""
    marks = re.compile(r"(<!-- figures -->\n).*(<!-- end of figures -->)", re.S)
    card.write_text(marks.sub(lambda found: f"{found[1]}{table}\n{found[2]}", card.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--prompts", type=int, default=500, help="how many to measure with; 0 for the sheets alone")
    given = parser.parse_args()
    dtype = torch.bfloat16 if device().type == "cuda" else torch.float32
    pipeline = StableDiffusionPipeline.from_pretrained(given.model, dtype=dtype).to(device())
    pipeline.set_progress_bar_config(disable=True)
    for name, (columns, prompts) in SHEETS.items():
        contact_sheet(paint(pipeline, prompts, GUIDANCE, STEPS), columns).save(given.model / f"{name}.webp", quality=85)
    scales = torch.cat([paint(pipeline, ["a fox, cartoon, on a meadow"] * 4, scale, STEPS) for scale in (1, 3, 5, 12)])
    contact_sheet(scales, 4).save(given.model / "guidance.webp", quality=85)
    if given.prompts:
        table = as_table(figures(pipeline, given.prompts), given.prompts)
        print(table)
        if given.model == MODEL:
            write_figures(MODEL / "README.md", table)


if __name__ == "__main__":
    main()
