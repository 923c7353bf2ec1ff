"""A recipe back into a form, whoever wrote it and whatever has gone since.

What isn't here is said, and never keeps the rest from being filled in.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from studio.errors import StudioError
from studio.files import addons
from studio.models import hashes
from studio.models.catalog import Entry, family
from studio.models.manager import Manager
from studio.models.nearest import How, is_same, nearest, parted
from studio.recipe.fields import MAX_SIDE
from studio.recipe.recipe import Recipe
from studio.ui import form
from studio.words import tags


def recalled(
    recipe: Recipe, models: Manager, entries: Sequence[Entry], now: str | None = None
) -> tuple[Recipe, list[str]]:
    """The recipe with what is here, and sentences on what isn't.

    now: the model that the form shows, which stays if there is none like the recipe's. Its name is "" where no model
    can be used.
    """
    usable = [entry for entry in entries if not entry.problem]
    entry, said = _model(recipe.model, usable, models, now)
    if entry is None:
        return replace(recipe, model=""), said
    fitted = form.on_entry(models, recipe, entry)
    labels = family(entry).samplers
    if recipe.sampler not in labels:
        plain = re.sub(r" (Karras|Exponential)$", "", recipe.sampler)
        fitted = replace(fitted, sampler=plain if plain in labels else fitted.sampler)
        said.append(f"{entry.name} has no sampler {recipe.sampler[:40]!r} here: {fitted.sampler} is chosen instead.")
    elif recipe.schedule != fitted.schedule:
        said.append(
            f"{fitted.sampler} has no schedule {recipe.schedule[:40]!r} here: {fitted.schedule} is chosen instead."
        )
    if recipe.negative_prompt and not fitted.negative_prompt:
        said.append(f"{entry.name} takes no negative prompt: it was left out.")
    fitted, more = _sized(fitted, entry)
    vae, missing = _vae(fitted.vae, models)
    prompt, renamed = _loras(fitted.prompt, models)
    return replace(fitted, vae=vae, prompt=prompt), [*said, *more, *missing, *renamed]


def _model(asked: str, usable: Sequence[Entry], models: Manager, now: str | None) -> tuple[Entry | None, list[str]]:
    by_name = {entry.name: entry for entry in usable}
    if asked in by_name:
        return by_name[asked], []
    records = models.catalog.records

    def hashed(entry: Entry) -> str:
        return records.hashes(entry.path, entry.stamp)[0]

    if found := nearest(asked, usable, hashed):
        entry, how = found
        return entry, _how_found(asked, entry.name, how, bool(hashed(entry)))
    stays = by_name.get(now or "") or next(iter(usable), None)
    if stays:
        return stays, [f"The model {asked[:60]!r} that made this picture is not here: {stays.name} is chosen instead."]
    return None, [f"The model {asked[:60]!r} that made this picture is not here, and no other can be used."]


def _how_found(asked: str, name: str, how: How, is_hashed: bool) -> list[str]:
    """What there is to say of a model that was found for what a recipe asks for."""
    told, digits = parted(asked)
    if digits and is_hashed and how != "hash" and told != asked:
        return [f"{name} is another file than the model {asked[:60]!r} of the picture: their hashes differ."]
    if told == name:
        return []
    ways = {"hash": "has the hash of", "name": "is the file of", "likeness": "is the nearest that is here to"}
    way = ways["likeness" if how == "name" and not is_same(told, name) else how]
    return [f"{name} {way} the model {asked[:60]!r}, which the picture was made with."]


def _sized(recipe: Recipe, entry: Entry) -> tuple[Recipe, list[str]]:
    """With sides that the model can draw. A start picture has the size that it has."""
    multiple = entry.facts.multiple if entry.facts else 8
    least, most = -(-64 // multiple) * multiple, MAX_SIDE // multiple * multiple
    size = recipe.width, recipe.height
    width, height = (min(max(round(side / multiple) * multiple, least), most) for side in size)
    if (width, height) == size or recipe.source:
        return recipe, []
    sentence = f"The size {size[0]}x{size[1]} became {width}x{height}: {entry.name} draws multiples of {multiple}."
    return replace(recipe, width=width, height=height), [sentence]


def _vae(asked: str, models: Manager) -> tuple[str, list[str]]:
    """The VAE by its hash or its name here."""
    if not asked:
        return "", []
    name, digits = parted(asked)
    found = models.seen("vae")
    if (same := _of_hash(digits, found, models)) and not is_same(name, same):
        return same, [f"The VAE {same} has the hash of {asked[:60]!r}, which the picture was made with."]
    try:
        return same or addons.chosen(name, found, "VAE", models.allow_pickles).name, []
    except StudioError:
        return "", [f"The VAE {name[:60]!r} is not here: the model's own is used."]


def _loras(prompt: str, models: Manager) -> tuple[str, list[str]]:
    """The prompt with its LoRAs as they are called here, where their hashes are told (`files.addons.with_hashes`)."""
    said: list[str] = []

    def name_of(name: str, digits: str) -> str:
        found = models.seen("lora")
        same = _of_hash(digits, found, models)
        if same and not is_same(name, same):
            said.append(f"The LoRA {same} has the hash of {name[:60]!r}, which the picture was made with.")
        elif not same and _is_hashed(name, found, models):
            said.append(f"The LoRA {name[:60]} is another file than that of the picture: their hashes differ.")
        return same or name

    return tags.named_here(prompt, name_of), said


def _of_hash(digits: str, found: Mapping[str, Path], models: Manager) -> str:
    """The name of the add-on one of whose hashes begins with these digits; empty if none is known to."""
    records = models.catalog.records
    hashed = ((name, hashes.known(records, path)) for name, path in found.items() if digits)
    return next((name for name, both in hashed if any(each.startswith(digits) for each in both)), "")


def _is_hashed(name: str, found: Mapping[str, Path], models: Manager) -> bool:
    """Whether a LoRA of this name is here of which all hashes are known."""
    try:
        return all(hashes.known(models.catalog.records, addons.chosen(name, found, "LoRA").path))
    except StudioError:
        return False
