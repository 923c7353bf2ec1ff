"""What is said of further settings that are not as they begin."""

from typing import Any

import pytest

from studio.ui.more import differences

FIRST: dict[str, Any] = {
    "steps": 25,
    "seed": None,
    "negative_prompt": None,
    "styles": [],
    "sampler": "DDIM",
    "previews": "clean",
    "vae": "",
    "controls": "",
    "guidance_rescale": None,
    "turns": None,
}
LABELS = {
    "steps": "Steps",
    "sampler": "Sampler",
    "previews": "Preview",
    "vae": "VAE",
    "guidance_rescale": "Guidance rescale",
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"seed": "", "negative_prompt": ""}, []),
        ({"steps": 30, "seed": "4"}, ["steps 30", "seed pinned"]),
        ({"negative_prompt": "blurry"}, ["a negative prompt"]),
        ({"styles": ["photo"]}, ["style photo"]),
        ({"styles": ["photo", "ink"]}, ["2 styles"]),
        ({"sampler": "Euler"}, ["sampler Euler"]),
        ({"previews": "off"}, ["preview off"]),
        ({"vae": "soft"}, ["VAE soft"]),
        ({"controls": "[1]", "turns": "7: guidance 9"}, ["controls", "changes on the way"]),
        ({"guidance_rescale": 0.7}, ["guidance rescale 0.7"]),
        ({"guidance_rescale": 0}, ["guidance rescale 0"]),
        ({"clip_skip": 2}, []),
    ],
)
def test_what_differs_is_said(changes: dict[str, Any], said: list[str]) -> None:
    found = differences(
        {**FIRST, "model": "sketchbook", **changes}, FIRST, {name: LABELS.get(name, "") for name in FIRST}
    )
    assert sorted(found) == sorted(said)
