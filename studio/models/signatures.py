"""What of a recipe other programs know by other signs: hashes by which sites recognise files, and FLUX's guidance."""

import logging

from studio.files import addons
from studio.files.folders import read_json
from studio.models import hashes
from studio.models.catalog import Entry
from studio.models.manager import Manager
from studio.recipe.recipe import Recipe
from studio.words import tags

log = logging.getLogger(__name__)


def signatures(models: Manager, recipe: Recipe) -> dict[str, str]:
    """Fields of an A1111-style text, beside and instead of those that a recipe gives by itself. Raises nothing.

    Model hash, and Lora hashes as extensions-builtin/Lora in A1111's web UI writes them: the first ten and the first
    twelve digits, of files whose hashes were worked out (`studio.models.hashes`). Distilled CFG Scale: the guidance
    that a model takes as an input, as Forge writes it, beside a CFG scale of 1.
    """
    try:
        entry = models.entry(recipe.model)
        return _guidance(entry, recipe) | _hashes(models, entry, recipe)
    except Exception as error:
        # The picture is there and is to be kept, whatever has become of the files that it was made with.
        log.warning("What other programs know %s by could not be told: %s", recipe.model, error)
        return {}


def _hashes(models: Manager, entry: Entry, recipe: Recipe) -> dict[str, str]:
    records = models.catalog.records
    whole, _ = records.hashes(entry.path, entry.stamp)
    fields = {"Model hash": whole[:10]} if whole else {}
    _, loras = tags.split(recipe.prompt)
    files = ((lora.name, addons.chosen(lora.name, models.seen("lora"), "LoRA")) for lora in loras)
    found = [(name, hashes.known(records, file.path)[1]) for name, file in files]
    if told := [f"{name}: {data:.12}" for name, data in found if data]:
        fields["Lora hashes"] = ", ".join(told)
    return fields


def _guidance(entry: Entry, recipe: Recipe) -> dict[str, str]:
    config = entry.config / "transformer" / "config.json"
    if not config.is_file() or not read_json(config).get("guidance_embeds"):
        return {}
    return {"CFG scale": "1", "Distilled CFG Scale": f"{recipe.guidance_scale:.12g}"}
