"""The table of docs/models.md, made from the code: `python -m docs.numbers` writes it there.

Each checkpoint is asked for as a diffusers folder, which is a shipped config with what the published one has otherwise,
and as a single file, of which the name and what identifies it are known.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.families import FAMILIES, Facts
from studio.files.identity.identify import Identity, few_steps
from studio.files.identity.parts import CONFIGS

PAGE = Path(__file__).with_name("models.md")
BEGIN, END = "<!-- made by python -m docs.numbers -->\n", "<!-- until here -->\n"


@dataclass(frozen=True)
class Row:
    """A checkpoint. config: a folder in assets/configs. file: what a single file of it is called; empty if none loads.

    base, variant: of its identity. changed: file in the published folder → values that differ from the shipped ones;
    None where there is no folder. folder: what that is called.
    """

    name: str
    config: str
    file: str
    base: str
    variant: str = ""
    changed: Mapping[str, Mapping[str, Any]] | None = field(default_factory=dict)
    folder: str = "model"


_SCHEDULER, _INDEX, _TRANSFORMER = "scheduler/scheduler_config.json", "model_index.json", "transformer/config.json"
_XL, _TRAILING = "stable-diffusion-xl", {"timestep_spacing": "trailing"}
_KLEIN, _BASE = {_INDEX: {"is_distilled": True}}, {_INDEX: {"is_distilled": False}}

ROWS = (
    Row("Stable Diffusion 1.x", "stable-diffusion-v1", "v1-5", "sd1"),
    Row("Stable Diffusion 2.x base", "stable-diffusion-v2", "v2-1_512-base", "sd2"),
    Row("Stable Diffusion 2.x", "stable-diffusion-v2-v", "v2-1_768", "sd2"),
    Row("Stable Diffusion XL", _XL, "sd_xl_base", "sdxl"),
    Row("SDXL Turbo", _XL, "sd_xl_turbo", "sdxl",
        changed={_SCHEDULER: {**_TRAILING, "_class_name": "EulerAncestralDiscreteScheduler"}}),
    Row("SDXL Lightning", _XL, "sdxl_lightning_4step", "sdxl", changed={_SCHEDULER: _TRAILING}),
    Row("SDXL Hyper", _XL, "Hyper-SDXL-8steps", "sdxl", changed=None),
    Row("SDXL DMD2", _XL, "painter_dmd2", "sdxl", changed=None),
    Row("SDXL LCM", _XL, "painter_lcm", "sdxl", changed={_SCHEDULER: {"_class_name": "LCMScheduler"}}),
    Row("Stable Diffusion 3 Medium", "stable-diffusion-3", "sd3_medium", "sd3"),
    Row("Stable Diffusion 3.5 Medium", "stable-diffusion-3.5-medium", "sd3.5_medium", "sd3.5"),
    Row("Stable Diffusion 3.5 Large", "stable-diffusion-3.5-large", "sd3.5_large", "sd3.5"),
    Row("Stable Diffusion 3.5 Large Turbo", "stable-diffusion-3.5-large", "sd3.5_large_turbo", "sd3.5", folder="turbo"),
    Row("FLUX.1 dev", "flux-1-dev", "flux1-dev", "flux1"),
    Row("FLUX.1 schnell", "flux-1-schnell", "flux1-schnell", "flux1"),
    Row("FLUX.1 Fill", "flux-1-fill", "flux1-fill-dev", "flux1"),
    Row("FLUX.2 klein", "flux-2-klein", "flux-2-klein-4b", "flux2", "klein 4B", changed=_KLEIN),
    Row("FLUX.2 klein base", "flux-2-klein", "flux-2-klein-base-4b", "flux2", "klein 4B", changed=_BASE),
    Row("FLUX.2 dev", "flux-2-klein", "", "flux2", changed={_TRANSFORMER: {"guidance_embeds": True}}),
    Row("Qwen-Image", "qwen-image", "qwen_image", "qwen-image"),
    Row("Qwen-Image Lightning", "qwen-image", "qwen_image_lightning_8steps", "qwen-image", folder="lightning"),
    Row("Z-Image", "z-image", "z_image", "z-image", changed={_SCHEDULER: {"shift": 6.0}}),
    Row("Z-Image Turbo", "z-image", "z_image_turbo", "z-image", folder="turbo"),
)  # fmt: skip


def as_file(row: Row) -> Facts:
    """What a single file begins with."""
    made_for, told = _family(row), few_steps({}, row.file, {"base": row.base, "variant": row.variant})
    return made_for.suited(made_for.facts(CONFIGS / row.config), Identity(base=row.base, **told))


def as_folder(row: Row) -> Facts:
    """What a diffusers folder begins with."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / row.folder
        shutil.copytree(CONFIGS / row.config, folder)
        for name, values in (row.changed or {}).items():
            text = json.loads((folder / name).read_text("utf-8"))
            (folder / name).write_text(json.dumps(text | values), "utf-8")
        return _family(row).facts(folder)


def table() -> str:
    """The table, in Markdown."""
    head = "| checkpoint | as | size | steps | guidance | sampler, schedule | negative prompt |\n" + "|---" * 7 + "|\n"
    return head + "".join(f"| {' | '.join(line)} |\n" for row in ROWS for line in _lines(row))


def page(text: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def _family(row: Row) -> Any:
    kind = json.loads((CONFIGS / row.config / _INDEX).read_text("utf-8"))["_class_name"]
    return next(each for each in FAMILIES if kind in each.pipelines)


def _lines(row: Row) -> Iterator[tuple[str, ...]]:
    """One line where folder and file begin alike, else one for each."""
    found: dict[Facts, list[str]] = {}
    if row.changed is not None:
        found.setdefault(as_folder(row), []).append("folder")
    if row.file:
        found.setdefault(as_file(row), []).append("file")
    for facts, kinds in found.items():
        schedule = "" if facts.schedule == "Automatic" else f", {facts.schedule}"
        yield (
            row.name,
            " and ".join(kinds),
            f"{facts.width} x {facts.height}",
            f"{facts.steps}",
            f"{facts.guidance_scale:g}",
            facts.sampler + schedule,
            "yes" if facts.negative_prompt else "no",
        )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
