"""The tables of docs/add-ons.md, made from the code: `python -m docs.addons` writes them there."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from studio.families import FAMILIES, Family
from studio.families.stock.family import Stock
from studio.files.folders import PICKLES
from studio.files.identity import loras
from studio.files.identity.identify import FOLDERS
from studio.models.places import DEPTH
from studio.recipe.recipe import KINDS
from studio.settings import ROOT

PAGE = Path(__file__).with_name("add-ons.md")
END = "<!-- until here -->\n"

_LAYOUTS = "a diffusers folder, or `.safetensors` in diffusers' or the original layout"
FILES = {
    "lora": ("LoRA", "`.safetensors`, of any trainer: see [below](#loras)"),
    "embedding": (
        "embedding (textual inversion)",
        f"`.safetensors`; with `--allow-pickles` also {', '.join(f'`{ending}`' for ending in PICKLES)}",
    ),
    "vae": ("VAE", _LAYOUTS),
    "controlnet": ("ControlNet", _LAYOUTS),
    "ip-adapter": (
        "IP-Adapter",
        "`.safetensors`; its `image_encoder` folder beside it, or wherever image encoders are",
    ),
    "image encoder": ("image encoder, for IP-Adapters", "a folder as transformers saves it"),
    "depth": ("depth model, to prepare pictures", "a folder as transformers saves it"),
    "text encoder": ("text encoder, for models that lack one", "`.safetensors`; T5 and Qwen3 also `.gguf`"),
}
"""Kind → what it is called, and in which form it is read."""

PREPARED = {
    "none": "the picture: for one that was prepared elsewhere",
    "canny": "white edges on black",
    "scribble": "white where the picture is darker than around: of a photo a sketch, of a drawing its lines",
    "tile": "the picture without details smaller than four pixels",
    "depth": "near is white; offered where there is a depth model",
}
"""Kind of a control → what the model is given of its picture."""


def folders() -> str:
    """Where files belong."""
    rows = (
        (label, ", ".join(f"`{name}`" for name, each in FOLDERS.items() if each == kind), form)
        for kind, (label, form) in FILES.items()
    )
    return f"In any models folder (`--models-folders`), at any depth up to {DEPTH}:\n\n" + _table(
        ("what", "folder", "form"), rows
    )


def families() -> str:
    """Which families take what; those that run through their stock pipelines in one line."""
    own = [each for each in FAMILIES if not issubclass(each, Stock)]
    rows = [(each.family, *_marks(_takes(each))) for each in own]
    others = {_takes(each) for each in FAMILIES if issubclass(each, Stock)}
    rows += [("all others", *_marks(takes)) for takes in others]
    head = (
        "family", "LoRAs", "embeddings", "VAE of choice", "ControlNets, IP-Adapters", "clip skip", "guidance rescale",
        "weights, `BREAK`, `AND`",
    )  # fmt: skip
    return _table(head, rows)


def controls() -> str:
    """What is prepared of a control's picture, under the labels of the page."""
    script = (ROOT / "studio/ui/page/form/addons.js").read_text("utf-8")
    labels = {kind: label for kind, label in re.findall(r'\["([\w-]+)", "([^"]+)"\]', script) if kind in KINDS}
    return _table(("kind", "what the model is given"), [(labels[kind], PREPARED[kind]) for kind in labels])


def kinds() -> str:
    """Kinds of LoRAs."""
    rows = [(kind.label, kind.formula, "yes" if kind.is_applied else "refused") for kind in reversed(loras.KINDS)]
    return _table(("kind", "what is added to a layer's weights W", "applied"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "folders": folders, "families": families, "kinds": kinds, "controls": controls,
}  # fmt: skip


def page(text: str) -> str:
    """The page with the tables as they are now."""
    for name, table in TABLES.items():
        begin = f"<!-- {name}: made by python -m docs.addons -->\n"
        before, _, rest = text.partition(begin)
        text = before + begin + table() + END + rest.partition(END)[2]
    return text


def _takes(family: type[Family]) -> tuple[bool, ...]:
    """What a family takes, in the order of the table."""
    is_own = not issubclass(family, Stock)
    return (
        family.takes_loras,
        family.reads_embeddings,
        is_own,
        family.takes_controls,
        family.skips_clip,
        family.rescales_guidance,
        family.weights,
    )


def _marks(takes: Iterable[bool]) -> list[str]:
    return ["yes" if each else "–" for each in takes]


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    first, *below = (f"| {' | '.join(line)} |\n" for line in (head, *rows))
    return first + "|---" * len(head) + "|\n" + "".join(below)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
