"""Recipes of other programs, from the texts in their pictures: what they say in our terms, and what had to be changed.

- A1111's web UI and all that write as it does (Forge, Fooocus, Civitai's generator): a prompt, `Negative prompt: …`,
  and a last line `Steps: 20, Sampler: Euler a, …` (modules/infotext_utils.py there). Forge writes FLUX's guidance as
  `Distilled CFG Scale`, beside `CFG scale: 1`.
- ComfyUI's graph of nodes (`studio.library.comfy`).
- Fooocus' own JSON, with `"metadata_scheme": "fooocus"` (modules/meta_parser.py there).

A text is a recipe only if it says how many steps were run and one thing more of how; all else is somebody's words.
"""

import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from studio.errors import RecipeError
from studio.library import comfy
from studio.recipe import schedules
from studio.recipe.fields import BY_NAME, MAX_PROMPT, MAX_SIDE, NUMBERS
from studio.recipe.recipe import RANDOM_SEEDS, Recipe
from studio.words import tags

NEGATIVE = "Negative prompt:"

_FIELD = re.compile(r' {0,4}(\w[\w \-/]{1,40}): {0,4}("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
"""As in webui, with bounds, so that a hostile text cannot make the search slow."""

_LAST_LINE = 10_000
_JSON_LIMIT = 200_000
_DISTILLED = "Distilled CFG Scale"
_DIGITS = re.compile(r"[0-9a-f]{8,64}", re.IGNORECASE)
"""A hash, or the first digits of one."""
_TABLE = re.compile(r"\bHashes: (\{[^{}]*\})")

_HOW = {"Sampler", "CFG scale", "Seed", "Size", "Model", "Model hash"}
"""What a recipe says beside its steps: at least one of these."""

_FIELDS = {field.key: field.name for field in NUMBERS if field.key and field.name not in ("steps", "strength")}
"""The numbers that are read as they stand. A strength is nothing without its start picture."""

_FOOOCUS = {
    "steps": "Steps",
    "sampler": "Sampler",
    "scheduler": "Schedule type",
    "seed": "Seed",
    "guidance_scale": "CFG scale",
    "base_model": "Model",
    "base_model_hash": "Model hash",
    "vae": "VAE",
    "clip_skip": "Clip skip",
}

SAMPLERS = {
    "euler_ancestral": "Euler a",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_sde": "DPM++ SDE",
    "uni_pc": "UniPC",
    "uni_pc_bh2": "UniPC",
} | {
    name.lower().replace(" ", "_"): name
    for name in ("Euler", "Euler a", "Heun", "LMS", "DPM2", "DPM2 a", "DPM++ 2M", "DPM++ 2M SDE", "DPM++ SDE",
                 "DPM++ 3M SDE", "DPM++ 2S a", "DDIM", "UniPC", "LCM", "Restart")
}  # fmt: skip
"""ComfyUI's names, and A1111's in any writing → A1111's, which our labels are."""

SCHEDULES = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "beta": "Beta",
    "ddim_uniform": "DDIM",
    "uniform": "Normal",
    "kl_optimal": "KL Optimal",
}
"""The same for schedules."""


@dataclass(frozen=True, slots=True)
class Found:
    """A recipe that another program wrote. notes: sentences on what could not be taken over as it was."""

    recipe: Recipe
    notes: tuple[str, ...] = ()


def read(text: str) -> Found:
    """The recipe in the text that a picture carries as its `parameters`. Raises RecipeError if there is none."""
    text = text.strip()
    return _fooocus(text) if text.startswith("{") else _webui(text)


def read_graph(text: str) -> Found:
    """The same of the graph that ComfyUI writes as `prompt`."""
    return _found(*comfy.read(text))


def _webui(text: str) -> Found:
    lines = text.split("\n")
    # Extensions write lines of their own behind it.
    end = next(
        (number for number in range(len(lines) - 1, -1, -1) if lines[number].startswith("Steps: ")), len(lines) - 1
    )
    lines, last = lines[:end], lines[end]
    last = last[:_LAST_LINE]
    fields = {**_hashes(last), **{name: _unquoted(value) for name, value in _FIELD.findall(last)}}
    prompt, _, negative = "\n".join(lines).partition(f"\n{NEGATIVE}")
    if prompt.startswith(NEGATIVE):
        prompt, negative = "", prompt.removeprefix(NEGATIVE)
    return _found(fields, tags.with_hashes(prompt, _loras(fields.get("Lora hashes", ""))), negative)


def _fooocus(text: str) -> Found:
    try:
        told = json.loads(text[:_JSON_LIMIT])
    except (ValueError, RecursionError):
        raise _no_recipe() from None
    # Until its version 2.2 it wrote the labels of its own page.
    given = {name.lower().replace(" ", "_"): value for name, value in told.items()}
    told = {name: str(value) for name, value in given.items() if not isinstance(value, dict)}
    fields = {theirs: told[name] for name, theirs in _FOOOCUS.items() if name in told}
    if fields.get("VAE", "").startswith("Default"):
        del fields["VAE"]
    if size := re.fullmatch(r"\(?(\d{1,5}), ?(\d{1,5})\)?", told.get("resolution", "")):
        fields["Size"] = f"{size[1]}x{size[2]}"
    prompt = " ".join([told.get("prompt", ""), *_fooocus_loras(given.get("loras"))])
    return _found(fields, prompt, told.get("negative_prompt", ""))


def _fooocus_loras(told: Any) -> Iterator[str]:
    """The tags of `[["ink.safetensors", 0.5, "0123456789"], …]`."""
    for each in told if isinstance(told, list) else ():
        match each:
            case [str(name), float() | int() as weight, *rest] if abs(weight) <= tags.MAX_WEIGHT and name != "None":
                if not re.fullmatch(r"[^<>:]{1,200}", name):
                    continue
                name, digits = name.removesuffix(".safetensors"), str(rest[0]) if rest else ""
                tag = f"<lora:{name}:{float(weight):g}>"
                yield tags.with_hashes(tag, {name: digits} if _DIGITS.fullmatch(digits) else {})


def _found(fields: Mapping[str, str], prompt: str, negative: str) -> Found:
    if not re.fullmatch(r"0*[1-9]\d{0,6}", fields.get("Steps", "")) or not fields.keys() & _HOW:
        raise _no_recipe()
    notes: list[str] = []
    values: dict[str, Any] = {"steps": _within("steps", fields["Steps"], notes)}
    for name, text in (("prompt", prompt.strip()), ("negative_prompt", negative.strip())):
        values[name] = text[:MAX_PROMPT]
        if len(text) > MAX_PROMPT:
            notes.append(f"The {name.replace('_', ' ')} was cut to its first {MAX_PROMPT:,} characters.")
    for theirs, ours in _FIELDS.items():
        if theirs in fields and (value := _within(ours, fields[theirs], notes)) is not None:
            values[ours] = value
    if _DISTILLED in fields and values.get("guidance_scale", 1) == 1:
        values["guidance_scale"] = _within("guidance_scale", fields[_DISTILLED], notes)
    if model := _with_hash(fields.get("Model", ""), fields.get("Model hash", "")):
        values["model"] = model
    if fields.get("VAE", "None") not in ("None", "Automatic"):
        values["vae"] = _with_hash(fields["VAE"].removesuffix(".safetensors"), fields.get("VAE hash", ""))
    if "Size" in fields:
        values |= _size(fields["Size"], notes)
    if "Sampler" in fields:
        values |= _sampler(fields["Sampler"], fields.get("Schedule type", ""), notes)
    values = {name: value for name, value in values.items() if value is not None}
    return Found(Recipe.from_values(values), tuple(notes))


def _with_hash(name: str, digits: str) -> str:
    """Both, as `studio.models.nearest` reads them, or the one that is told."""
    return f"{name} [{digits}]" if name and _DIGITS.fullmatch(digits) else name or digits


def _hashes(line: str) -> dict[str, str]:
    """What is told as one table, `Hashes: {"model": "…", "lora:ink": "…"}`, as the fields that A1111 writes apart."""
    found = _TABLE.search(line)
    try:
        table = json.loads(found[1]) if found else {}
    except (ValueError, RecursionError):
        return {}
    table = {name: digits for name, digits in table.items() if isinstance(digits, str)}
    loras = [f"{name[5:]}: {digits}" for name, digits in table.items() if name.lower().startswith("lora:")]
    alone = {theirs: table[name] for name, theirs in (("model", "Model hash"), ("vae", "VAE hash")) if name in table}
    return {**alone, **({"Lora hashes": ", ".join(loras)} if loras else {})}


def _loras(told: str) -> dict[str, str]:
    """Name → digits of `Lora hashes: "ink: 0123456789ab, oil: …"`."""
    pairs = [each.rpartition(":") for each in told.split(",")]
    named = {name.strip(): digits.strip().removeprefix("0x").lower() for name, _, digits in pairs}
    return {name: digits for name, digits in named.items() if name and _DIGITS.fullmatch(digits)}


def _within(name: str, text: str, notes: list[str]) -> float | int | None:
    """The number, brought into the range that a recipe allows; None if it is no number."""
    field = BY_NAME[name]
    low, high = field.least, field.most
    label = name.replace("_", " ")
    try:
        value = int(text) if field.kind == "whole" else float(text)
        if not math.isfinite(value) or len(text) > 40:
            raise ValueError
    except ValueError:
        notes.append(f"The {label} {text[:40]!r} is no number, and was left out.")
        return None
    if (name, value) == ("seed", -1):
        notes.append("The seed -1 means one left to chance, so a new one was drawn.")
        return random.randrange(RANDOM_SEEDS)
    fitting = min(max(value, low), high)
    if fitting != value:
        notes.append(f"The {label} {text} became {_text(fitting)}: it can be {_text(low)} to {_text(high)}.")
    return fitting


def _text(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _size(text: str, notes: list[str]) -> dict[str, int]:
    if not (told := re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)):
        notes.append(f"The size {text[:40]!r} was not understood, and was left out.")
        return {}
    width, height = (min(max(round(int(side) / 8) * 8, 64), MAX_SIDE) for side in told.groups())
    if (fitting := f"{width}x{height}") != text:
        notes.append(f"The size {text} became {fitting}: sides are multiples of 8 from 64 to {MAX_SIDE}.")
    return {"width": width, "height": height}


def sampling(sampler: str, schedule: str = "") -> tuple[str, str]:
    """Sampler and schedule by their names here; what is not known stays as it is called.

    Until its version 1.9 A1111 wrote the schedule behind the sampler, "DPM++ 2M Karras"; ComfyUI's names are others.
    """
    name = sampler.strip().lower().replace(" ", "_")
    for ending, label in SCHEDULES.items():
        if name.endswith(f"_{ending}"):
            name, schedule = name.removesuffix(f"_{ending}"), schedule or label
            sampler = sampler[: len(name)]
    name = re.sub(r"(_cfg_pp)?(_gpu)?$", "", name)
    asked = schedule.strip().lower().replace(" ", "_")
    return SAMPLERS.get(name, sampler.strip()), "" if asked == "automatic" else SCHEDULES.get(asked, schedule.strip())


def _sampler(told: str, schedule: str, notes: list[str]) -> dict[str, str]:
    sampler, schedule = sampling(told, schedule)
    if (sampler, schedule) == ("DPM++ 2M", "Karras"):  # which has had a label of its own
        return {"sampler": "DPM++ 2M Karras"}
    if schedule and schedule not in schedules.SCHEDULES:
        notes.append(f"The schedule {schedule[:40]} is not known here: the sampler's own is used.")
        schedule = ""
    return {"sampler": sampler, **({"schedule": schedule} if schedule else {})}


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            pass
    return value.strip()


def _no_recipe() -> RecipeError:
    return RecipeError("That text has no line of settings that starts with 'Steps:'.")
