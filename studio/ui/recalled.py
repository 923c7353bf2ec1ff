"""A recipe back into a form, whoever wrote it and whatever has gone since.

What isn't here is said, and never keeps the rest from being filled in.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from studio import addons
from studio.errors import StudioError
from studio.models.catalog import Entry, family
from studio.models.manager import Manager
from studio.models.nearest import is_same, nearest
from studio.recipe import MAX_SIDE, Recipe
from studio.ui import form


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
    return replace(fitted, vae=vae), [*said, *more, *missing]


def _model(asked: str, usable: Sequence[Entry], models: Manager, now: str | None) -> tuple[Entry | None, list[str]]:
    by_name = {entry.name: entry for entry in usable}
    if asked in by_name:
        return by_name[asked], []
    records = models.catalog.records
    found = nearest(asked, usable, lambda entry: records.sha256(entry.path, entry.stamp))
    if found:
        how = "is the file of" if is_same(asked, found.name) else "is the nearest that is here to"
        return found, [f"{found.name} {how} the model {asked[:60]!r}, which the picture was made with."]
    stays = by_name.get(now or "") or next(iter(usable), None)
    if stays:
        return stays, [f"The model {asked[:60]!r} that made this picture is not here: {stays.name} is chosen instead."]
    return None, [f"The model {asked[:60]!r} that made this picture is not here, and no other can be used."]


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


def _vae(name: str, models: Manager) -> tuple[str, list[str]]:
    """The VAE by its name here."""
    if not name:
        return "", []
    try:
        return addons.chosen(name, models.seen("vae"), "VAE", models.allow_pickles).name, []
    except StudioError:
        return "", [f"The VAE {name[:60]!r} is not here: the model's own is used."]
