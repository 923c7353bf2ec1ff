"""What loading costs, and what a model of real size costs: `python -m benchmarks.loading`.

A Stable Diffusion 1.5 with random weights (1.07 billion, 2.1 GB in float16) is written once into `benchmarks/.cache` as
a single file in the published layout. Loads are measured in processes of their own, taking turns with diffusers', after
the file is in the system's cache; memory is the process's peak above what the imports took.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from benchmarks.speed import NO_SOURCES, Line, _read
from studio.drawing.worker import TorchWorker
from studio.engine.engine import Engine
from studio.engine.events import FINAL, Event, Finished, Step
from studio.families import FAMILIES, Row
from studio.families.stable_diffusion import StableDiffusion
from studio.files.identity.parts import CONFIGS
from studio.models import catalog, loading
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.recipe.recipe import Recipe
from tests import original

FILE = Path(__file__).resolve().parent / ".cache" / "stable-diffusion-1.5-random.safetensors"
CONFIG = CONFIGS / "stable-diffusion-v1"
PARTS = {
    "unet": diffusers.UNet2DConditionModel,
    "vae": diffusers.AutoencoderKL,
    "text_encoder": transformers.CLIPTextModel,
}


def make() -> None:
    """Write the file, unless it is there."""
    if FILE.exists():
        return
    FILE.parent.mkdir(exist_ok=True)
    unet, vae, text = (_random(name) for name in PARTS)
    original.save(
        FILE.with_suffix(".part"),
        original.under("model.diffusion_model.", original.unet(unet, 2)),
        original.under("first_stage_model.", original.vae(vae)),
        original.under("cond_stage_model.transformer.", original.clip(text)),
    )
    FILE.with_suffix(".part").rename(FILE)


def _random(name: str) -> original.State:
    """Weights small enough that a picture comes out: what matters here is their number, not what they draw."""
    kind = PARTS[name]
    with torch.device("meta"):
        if name == "text_encoder":
            module = kind(kind.config_class.from_pretrained(CONFIG / name))
        else:
            module = kind.from_config(kind.load_config(CONFIG / name))
    noise = (torch.randn(2**22) * 0.02).half()  # the same numbers over and over take no time to draw
    state = {}
    for key, tensor in module.state_dict().items():
        if tensor.dim() == 1:
            state[key] = torch.full(tensor.shape, float(key.endswith("weight"))).half()
        else:
            count = tensor.numel()
            state[key] = noise.repeat(-(-count // len(noise)))[:count].reshape(tensor.shape).clone()
    return state


def entry() -> Entry:
    """The file as the catalog describes it."""
    described = next((each for each in catalog.scan([FILE.parent]) if each.path == FILE), None)
    if described and not described.problem:
        return described
    family = next(each for each in FAMILIES if each.family == "Stable Diffusion")
    return Entry(FILE.name, FILE, family=family.family, facts=family.facts(CONFIG), config=CONFIG, single=True)


def manager(dtype: str) -> Manager:
    """The studio's models, of which there is one."""
    found = entry()
    catalog.scan = lambda folders: [found]
    return Manager([FILE.parent], "auto", dtype)


# One load, in a process of its own


def load(who: str, dtype: str) -> dict[str, float]:
    """Seconds that a load took, and the most memory it needed in bytes, above that of the imports."""
    tokenizer = loading.tokenizer(entry(), "tokenizer", transformers.CLIPTokenizer)
    needed = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
    models, kind = manager(dtype), getattr(torch, dtype)
    found = entry()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, start, used = _memory("VmRSS"), time.perf_counter(), time.process_time()
    if who == "diffusers":
        kept: Any = diffusers.StableDiffusionPipeline.from_single_file(
            str(FILE), config=str(CONFIG), local_files_only=True, dtype=kind, tokenizer=tokenizer, safety_checker=None
        )
    elif who == "parts":
        kept = loading.load_parts(found, needed, kind, lambda read, size: None)
    else:
        kept = models.use(found.name)
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    peak = _memory("VmHWM") - before
    start = time.perf_counter()
    if who == "studio":
        models.use(found.name)
    again = time.perf_counter() - start
    assert kept
    return {"seconds": seconds, "processor": processor, "peak": peak, "again": again}


def _memory(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024
    raise KeyError(what)


def _in_a_process(who: str, dtype: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.loading", "--load", who, "--dtype", dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout.splitlines()[-1])


def loads(rounds: int, dtypes: Sequence[str]) -> Iterator[Line]:
    """The studio's loader against diffusers' own, taking turns."""
    with FILE.open("rb") as file:
        while file.read(2**24):
            pass  # into the system's cache
    size = FILE.stat().st_size
    for dtype in dtypes:
        found: dict[str, list[dict[str, float]]] = {"parts": [], "diffusers": [], "studio": []}
        for _ in range(rounds):
            for who, results in found.items():
                results.append(_in_a_process(who, dtype))
        middle = {
            who: {key: statistics.median(each[key] for each in results) for key in results[0]}
            for who, results in found.items()
        }
        theirs = middle["diffusers"]["seconds"]
        yield from [
            Line(f"Reading SD 1.5 as {dtype} / diffusers' from_single_file", middle["parts"]["seconds"] / theirs, 1.15),
            Line("… in processor time", middle["parts"]["processor"] / middle["diffusers"]["processor"], 1.15),
            Line(f"… until it can draw, previews fitted, as {dtype}", middle["studio"]["seconds"], 9, " s"),
            Line(f"diffusers' from_single_file as {dtype}", theirs, 9, " s"),
            Line(f"Peak memory as {dtype} / size of the file", middle["parts"]["peak"] / size, 1.1),
            Line(f"… diffusers' as {dtype}", middle["diffusers"]["peak"] / size, 9),
            Line(f"Second use as {dtype}", 1000 * middle["studio"]["again"], 10, " ms"),
        ]


# Drawing


class Drawing:
    """The model in the studio and, with the same weights, in diffusers' pipeline."""

    def __init__(self) -> None:
        self.models = manager("auto")
        self.worker = TorchWorker(self.models, NO_SOURCES)
        self.name = entry().name
        model = self.models.use(self.name)
        assert isinstance(model, StableDiffusion)
        self.model = model
        self.engine = Engine(self.worker, keep=lambda *_: "kept")
        self.recipe = Recipe(model=self.name, prompt="a red apple", sampler="Euler", guidance_scale=7.0)
        self.pipeline = diffusers.StableDiffusionPipeline(
            vae=self.model.vae,
            text_encoder=self.model.text_encoder,
            tokenizer=self.model.tokenizer,
            unet=self.model.unet,
            scheduler=self.model.sampler(replace(self.recipe, steps=4))._scheduler,
            safety_checker=None,
            feature_extractor=None,
        )
        self.pipeline.set_progress_bar_config(disable=True)

    def studio(self, recipe: Recipe) -> float:
        """Seconds from submit to finish, every preview encoded by a reader of its own."""
        over, previews = threading.Event(), []
        seen: list[Event] = []

        def listen(event: Event) -> None:
            if isinstance(event, Step):
                previews.append(event)
            if isinstance(event, FINAL):
                seen.append(event)
                over.set()

        unsubscribe = self.engine.subscribe(listen)
        reader = threading.Thread(target=_read, args=(previews, over))
        reader.start()
        self.model.encoded.clear()
        start = time.perf_counter()
        self.engine.submit([recipe])
        over.wait()
        seconds = time.perf_counter() - start
        reader.join()
        unsubscribe()
        assert isinstance(seen[0], Finished), seen
        return seconds

    def bare(self, recipe: Recipe) -> float:
        """The model calls that the recipe needs, and nothing else."""
        start = time.perf_counter()
        with torch.inference_mode():
            self.model.encoded.clear()
            prompts = self.model.encode(recipe.prompt, "", True)
            latents = self.model.noise(recipe, torch.Generator().manual_seed(0))
            row = Row(latents, torch.tensor(500.0), prompts, recipe.guidance_scale)
            for _ in range(recipe.steps):
                self.model.predict([row])
            self.model.decode(latents)
        return time.perf_counter() - start

    def diffusers(self, recipe: Recipe) -> float:
        start = time.perf_counter()
        self.pipeline(
            recipe.prompt,
            num_inference_steps=recipe.steps,
            guidance_scale=recipe.guidance_scale,
            width=recipe.width,
            height=recipe.height,
        )
        return time.perf_counter() - start


def ratio(rounds: int, one: Callable[[], float], other: Callable[[], float]) -> tuple[float, float, float]:
    """Medians taken in turns, and the first as a share of the second."""
    pairs = [(one(), other()) for _ in range(rounds + 1)][1:]
    first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
    return first, second, first / second


def drawings(rounds: int, side: int, steps: int) -> list[Line]:
    """The loop beside the bare calls at `side` pixels, and a whole job of 256 pixels beside diffusers' pipeline."""
    bench = Drawing()
    large = replace(bench.recipe, width=side, height=side, steps=steps)
    small = replace(bench.recipe, width=256, height=256, steps=4)
    ours, _, share = ratio(rounds, lambda: bench.studio(large), lambda: bench.bare(large))
    job, theirs, against = ratio(rounds, lambda: bench.studio(small), lambda: bench.diffusers(small))
    bench.engine.close()
    return [
        Line(f"The studio's loop at {side} px, previews on / the bare model calls", share, 1.02),
        Line(f"… {steps} steps at {side} px", ours, 999, " s"),
        Line("A job of 256 px and 4 steps / diffusers' pipeline in the same precision", against, 0.7),
        Line("… in seconds", job, 999, " s"),
        Line("… diffusers' pipeline", theirs, 999, " s"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", choices=["diffusers", "parts", "studio"])
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float16"])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", choices=["loads", "drawings"])
    given = parser.parse_args()
    if given.load:
        print(json.dumps(load(given.load, given.dtype[0])))
    else:
        make()
        if given.only != "drawings":
            for line in loads(given.rounds, given.dtype):
                print(line.markdown(), flush=True)
        if given.only != "loads":
            for line in drawings(given.rounds, given.side, given.steps):
                print(line.markdown(), flush=True)
