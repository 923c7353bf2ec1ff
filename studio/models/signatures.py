"""What of a recipe other programs know by other signs: hashes by which sites recognise files, and FLUX's guidance."""

import logging

from studio import addons
from studio.models.catalog import Entry
from studio.models.files import read_json
from studio.models.manager import Manager
from studio.recipe import Recipe

log = logging.getLogger(__name__)


def signatures(models: Manager, recipe: Recipe) -> dict[str, str]:
    """Fields of an A1111-style text, beside and instead of those that a recipe gives by itself. Raises nothing.

    Model hash: the first ten digits of the file's SHA-256, if that was worked out ("AutoV2"). Lora hashes: the first
    twelve of `sshs_model_hash`, which kohya's trainer writes into its files (extensions-builtin/Lora in A1111's web
    UI). Distilled CFG Scale: the guidance that a model takes as an input, as Forge writes it, beside a CFG scale of 1.
    """
    try:
        entry = models.entry(recipe.model)
        return _guidance(entry, recipe) | _hashes(models, entry, recipe)
    except Exception as error:
        # The picture is there and is to be kept, whatever has become of the files that it was made with.
        log.warning("What other programs know %s by could not be told: %s", recipe.model, error)
        return {}


def _hashes(models: Manager, entry: Entry, recipe: Recipe) -> dict[str, str]:
    digits = models.catalog.records.sha256(entry.path, entry.stamp)
    fields = {"Model hash": digits[:10]} if digits else {}
    _, loras = addons.split(recipe.prompt)
    files = ((lora.name, addons.chosen(lora.name, models.seen("lora"), "LoRA")) for lora in loras)
    hashes = [(name, addons.header(file.path).get("sshs_model_hash", "")) for name, file in files]
    if known := [f"{name}: {told.removeprefix('0x'):.12}" for name, told in hashes if told]:
        fields["Lora hashes"] = ", ".join(known)
    return fields


def _guidance(entry: Entry, recipe: Recipe) -> dict[str, str]:
    config = entry.config / "transformer" / "config.json"
    if not config.is_file() or not read_json(config).get("guidance_embeds"):
        return {}
    return {"CFG scale": "1", "Distilled CFG Scale": f"{recipe.guidance_scale:.12g}"}
