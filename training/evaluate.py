"""Measure the exported model, and draw its contact sheet.

    python -m training.evaluate                     # 200 prompts, figures into the model card, samples.webp beside it
    python -m training.evaluate --sheet look.png --guidance 3 --steps 25 --prompts 0     # a sheet alone

Seeds are fixed. The subject is judged by a recogniser that has seen real pictures only; its own accuracy on real
pictures of the same kind stands beside, for no model can be found better than its judge. A background's colour is read
off the picture's border.
"""

import argparse
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from training import recogniser
from training.compose import PALETTE, STYLE_SHARES, article, compose
from training.corpus import load_corpus
from training.export import MODEL
from training.optimise import device
from training.vae import draw_pictures, psnr

GUIDANCE, STEPS = 4.0, 20
SHEET = [
    "a cat, 3d render, on a blue background",
    "a dog, cartoon, on a yellow background",
    "flat illustration of a fox on a teal background",
    "a red apple, 3d render, on a white background",
    "a pizza, cartoon, on a purple background",
    "sticker of a strawberry on a pink background",
    "a house, 3d render, on a meadow",
    "a rocket, cartoon, under a starry sky",
    "flat illustration of a sailboat on a beach",
    "a car, 3d render, on an orange background",
    "a penguin, 3d render, in the snow",
    "cactus, cartoon, in the desert",
    "a robot, 3d render, on a black background",
    "a ghost, flat illustration, on a purple background",
    "happy face, 3d render, on a light blue background",
    "a rose, cartoon, on a gray background",
    "a tree, flat illustration, on a beige background",
    "an owl, 3d render, on a brown background",
    "a guitar, cartoon, on a green background",
    "a bus on a red background",
    "a whale",
    "a castle",
    "a sunflower",
    "a crown",
]


@dataclass(frozen=True)
class Question:
    """A prompt, and what a picture for it must show: the index of a subject, and a name of the palette."""

    prompt: str
    subject: int
    background: str


def ask(count: int, seed: int = 7) -> list[Question]:
    """Prompts over the common subjects, each subject once before any comes twice."""
    subjects, rng = load_corpus().subjects, np.random.default_rng(seed)
    common = [i for i, subject in enumerate(subjects) if subject.common]
    order = np.concatenate([rng.permutation(common) for _ in range(-(-count // len(common)))])[:count]
    questions = []
    for index in order:
        style, background = str(rng.choice([*STYLE_SHARES])), str(rng.choice([*PALETTE]))
        word = article(subjects[index].words[0])
        questions.append(Question(f"{word}, {style}, on {article(background)} background", int(index), background))
    return questions


def paint(pipeline: StableDiffusionPipeline, prompts: list[str], guidance: float, steps: int) -> np.ndarray:
    """A picture per prompt, uint8 (n, 128, 128, 3); the seed is the prompt's place."""
    pictures = []
    for start in range(0, len(prompts), 20):
        part = prompts[start : start + 20]
        seeds = [torch.Generator().manual_seed(start + row) for row in range(len(part))]
        made = pipeline(part, num_inference_steps=steps, guidance_scale=guidance, generator=seeds, output_type="np")
        pictures.append((made.images * 255).round().astype(np.uint8))
    return np.concatenate(pictures)


def border_colour(picture: np.ndarray, width: int = 5) -> str:
    """The palette's name for the border of a uint8 (h, w, 3) picture: the nearest colour to the median of its pixels.

    A median, since a large subject touches the border. Distances weigh green most, as the eye does.
    """
    inside = np.zeros(picture.shape[:2], bool)
    inside[width:-width, width:-width] = True
    middle = np.median(picture[~inside].astype(np.float32), axis=0)
    weights = np.float32((2, 4, 3))
    return min(PALETTE, key=lambda name: float((weights * (middle - np.float32(PALETTE[name])) ** 2).sum()))


def judge(pictures: np.ndarray, questions: list[Question]) -> dict[str, float]:
    """Parts of the pictures that show what was asked for."""
    subjects = np.array([question.subject for question in questions])
    first, five = recogniser.accuracy(recogniser.load_recogniser(), pictures, subjects)
    colours = [border_colour(p) == q.background for p, q in zip(pictures, questions, strict=True)]
    return {"first guess": first, "first five guesses": five, "background colour": float(np.mean(colours))}


def real_pictures(questions: list[Question], seed: int = 11) -> np.ndarray:
    """Composed pictures of the corpus for the same subjects and backgrounds: what a perfect model would paint."""
    corpus, rng = load_corpus(), np.random.default_rng(seed)
    pictures = []
    for question in questions:
        style = str(rng.choice(corpus.styles_of(question.subject)))
        pictures.append(compose(rng, corpus.pictures[style][question.subject], style, question.background))
    return np.stack(pictures)


def contact_sheet(pictures: np.ndarray, columns: int = 8) -> Image.Image:
    """uint8 (n, h, w, 3) → one picture, row by row."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    sheet = np.full((rows * columns, height, width, 3), 255, np.uint8)
    sheet[:count] = pictures
    grid = sheet.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(grid.reshape(rows * height, columns * width, 3))


def figures_table(pipeline: StableDiffusionPipeline, count: int, guidance: float, steps: int) -> str:
    """Everything that is measured, as a Markdown table."""
    questions = ask(count)
    made = judge(paint(pipeline, [question.prompt for question in questions], guidance, steps), questions)
    real = judge(real_pictures(questions), questions)
    start = time.perf_counter()
    paint(pipeline, ["a cat"], guidance, steps)
    seconds = time.perf_counter() - start
    rows = [f"| {what} | {made[what]:.0%} | {real[what]:.0%} |" for what in made]
    return "\n".join(
        [
            f"{count} prompts over common subjects, guidance {guidance:g}, {steps} steps, "
            f"{type(pipeline.scheduler).__name__}:",
            "",
            "| right | Sketchbook | real pictures |",
            "|---|---|---|",
            *rows,
            "",
            f"Autoencoder: {psnr(pipeline.vae, draw_pictures(1, 64)):.1f} dB PSNR on 64 unseen composed pictures. "
            f"One picture: {seconds:.1f} s on the machine that trained it.",
        ]
    )


def write_figures(card: Path, table: str) -> None:
    """Put the table between the card's two marks."""
    marks = re.compile(r"(<!-- figures -->\n).*(<!-- end of figures -->)", re.S)
    card.write_text(marks.sub(lambda found: f"{found[1]}{table}\n{found[2]}", card.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--prompts", type=int, default=200, help="how many to measure with; 0 for the sheet alone")
    parser.add_argument("--sheet", type=Path, default=MODEL / "samples.webp")
    given = parser.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(given.model, dtype=torch.float32).to(device())
    pipeline.set_progress_bar_config(disable=True)
    contact_sheet(paint(pipeline, SHEET, given.guidance, given.steps)).save(given.sheet, quality=85)
    if given.prompts:
        table = figures_table(pipeline, given.prompts, given.guidance, given.steps)
        print(table)
        if given.model == MODEL:
            write_figures(MODEL / "README.md", table)


if __name__ == "__main__":
    main()
