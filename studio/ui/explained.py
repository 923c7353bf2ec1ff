"""What each setting of the forms does, in a sentence or two, and where the documents tell more."""

import json

EXPLAINED: dict[str, tuple[str, str]] = {
    "Prompt": (
        "What the picture shows. Name the subject first, then the place, the medium and the light. "
        "Brackets give words weight: (red:1.3).",
        "prompts",
    ),
    "Negative prompt": (
        "What the picture shall keep away from, such as “blurry, text”. It works where guidance is above 1.",
        "prompts",
    ),
    "Styles": ("Words of a medium or a mood that are put around your prompt. Several can be combined.", "styles"),
    "Model": (
        "Who draws. “sketchbook” is the small model that comes with the studio and draws within seconds; "
        "the tab Models says how to get others.",
        "models-folder#from-hugging-faces-hub",
    ),
    "Shape": (
        "Width to height. It fills in a size with as many pixels as the model is made for.",
        "text-to-image#settings",
    ),
    "Width": ("Pixels from left to right. Far above the size that the model was made for, things repeat.", "models"),
    "Height": ("Pixels from top to bottom. Far above the size that the model was made for, things repeat.", "models"),
    "Pictures": (
        "How many are drawn at once. Each has its own seed, counting up from the first.",
        "text-to-image#settings",
    ),
    "Steps": (
        "How often the noise is made less. More steps are finer and slower; distilled models need four to eight.",
        "text-to-image#samplers-and-schedules",
    ),
    "Guidance scale": (
        "How strictly the picture follows the prompt: at 1 loosely, at 4 to 8 as most models are used, "
        "above that hard and garish. Compare shows it side by side.",
        "text-to-image#settings",
    ),
    "Guidance end": (
        "The share of the steps after which the prompt is no longer enforced. 0.8 leaves the last fifth free, "
        "which is quicker and often softer.",
        "text-to-image#settings",
    ),
    "Guidance rescale": (
        "Takes back the contrast that a high guidance scale adds: 0 not at all, 1 wholly. "
        "Empty means as the model wants it.",
        "add-ons#guidance-rescale",
    ),
    "Sampler": (
        "The arithmetic by which noise becomes a picture. The one that is filled in suits the model; "
        "others differ in speed and detail.",
        "text-to-image#samplers-and-schedules",
    ),
    "Schedule": (
        "How much noise each step takes away. Automatic is what the sampler and the model were made with.",
        "text-to-image#samplers-and-schedules",
    ),
    "Preview": (
        "What you see while it is drawn: the clean picture that the model has in mind, "
        "the noisy one that it works on, or nothing.",
        "text-to-image#settings",
    ),
    "Changes on the way": (
        "What shall change after a step, as “7: guidance 9” or “12: prompt a cat”. "
        "Fork and Change from here on write it for you.",
        "compare#going-back-into-a-picture",
    ),
    "Seed": (
        "The number from which the first noise comes. The same seed with the same settings gives the same picture; "
        "leave it empty for a new one each time.",
        "text-to-image#settings",
    ),
    "Variation seed": (
        "A second seed for pictures that resemble the first: the noise lies between both. It has an effect where the "
        "variation strength is above 0; with several pictures it is the one that counts up.",
        "text-to-image#settings",
    ),
    "Variation strength": (
        "How far the noise is turned from the seed towards the variation seed: 0 not at all, 0.1 to 0.3 for pictures "
        "alike, 1 wholly.",
        "text-to-image#settings",
    ),
    "Strength": (
        "How much of the start picture may change: 0 keeps it, 1 draws anew. It is the share of the steps that is run.",
        "image-to-image#settings",
    ),
    "If the picture has another shape": (
        "Crop cuts off what is too much, Pad adds a border, Stretch distorts.",
        "image-to-image#settings",
    ),
    "Start from": (
        "What lies in the mask when drawing begins: the original, a blur of what is around it, noise, or a colour.",
        "inpainting#settings",
    ),
    "Colour": ("The colour that the mask is filled with before drawing begins.", "inpainting#settings"),
    "The model works on": (
        "The whole picture, or only the region around the mask, enlarged: then small things become finer.",
        "inpainting#settings",
    ),
    "Repaint": ("Whether what you painted over changes, or everything else.", "inpainting#settings"),
    "Grow": (
        "Pixels by which the mask is made larger before it is used; a negative number makes it smaller.",
        "inpainting#settings",
    ),
    "Feather": ("Pixels over which the edge of the mask fades, so that no seam is seen.", "inpainting#settings"),
    "Margin": (
        "Pixels around the mask that the model sees too when it works on the region alone.",
        "inpainting#settings",
    ),
    "Work at": (
        "The side in pixels of the square that the region is enlarged to before it is drawn.",
        "inpainting#settings",
    ),
    "LoRAs": (
        "Small files that teach a model a style or a subject. A click writes one into the prompt, at the weight beside "
        "the search: 0 is nothing, 1 is full.",
        "add-ons#loras",
    ),
    "Controls": (
        "Pictures that guide the drawing: its outlines, its depth, or its look. From and To say for which share of "
        "the steps each one does.",
        "add-ons#controls",
    ),
    "VAE": ("What turns the model's numbers into pixels. Another one changes colours and fine detail.", "add-ons#vae"),
    "Clip skip": (
        "How many of the last layers of the text encoder are left out. Some models were trained with 2.",
        "add-ons#clip-skip",
    ),
    "Columns": ("The setting that differs from column to column, and its values: 1, 4, 7 or 1-3.", "compare#axes"),
    "Rows": ("The setting that differs from row to row, and its values: 1, 4, 7 or 1-3.", "compare#axes"),
    "And": ("A third setting: the whole grid is drawn once for each of its values.", "compare#axes"),
    "Name": ("Under which the prompt above is kept as a style of your own.", "styles#your-own"),
}
"""Label → what it does, and the page of docs/ that tells more, with its section."""


def script() -> str:
    """The table for the page, as data in its head."""
    text = json.dumps({label: {"text": text, "more": f"help/{page}"} for label, (text, page) in EXPLAINED.items()})
    return f'<script type="application/json" id="explained">{text.replace("<", chr(92) + "u003c")}</script>\n'
