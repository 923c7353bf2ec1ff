"""Recipes: what is accepted, what is told, and what comes back from JSON."""

import dataclasses
import json
import math
from typing import Any

import pytest

from studio.errors import RecipeError
from studio.recipe import recipe as module
from studio.recipe import turns
from studio.recipe.fields import MAX_SEED, MAX_STEPS
from studio.recipe.recipe import Recipe, Turn
from studio.words import prompts

GOOD = Recipe(
    prompt="a fox, “red” 🦊",
    negative_prompt="blur",
    model="another",
    width=512,
    height=64,
    steps=1,
    guidance_scale=7.25,
    guidance_end=0.45,
    guidance_rescale=0.3,
    sampler="Euler a",
    seed=MAX_SEED,
)


def test_json_brings_the_same_recipe_back() -> None:
    assert Recipe.from_json(GOOD.to_json()) == GOOD
    assert json.loads(GOOD.to_json())["version"] == module.VERSION


def test_a_recipe_is_a_value() -> None:
    assert len({GOOD, Recipe.from_json(GOOD.to_json())}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        GOOD.seed = 1  # type: ignore[misc]


def test_names_that_older_versions_did_not_have_take_their_default() -> None:
    assert Recipe.from_json('{"version": 6, "prompt": "a"}') == Recipe("a")


def test_recipes_from_before_there_were_schedules_keep_what_they_were_drawn_with() -> None:
    for version in range(1, 6):
        assert Recipe.from_json(f'{{"version": {version}, "prompt": "a"}}') == Recipe("a", schedule=module.AS_PUBLISHED)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "nonsense", '{"prompt": "a"}', "\x00"])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="not a recipe"):
        Recipe.from_json(text)


def test_a_recipe_of_a_newer_studio_is_refused_with_both_versions() -> None:
    with pytest.raises(RecipeError, match=r"version 999.*up to version 7"):
        Recipe.from_json('{"version": 999}')


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("width", 100, "multiple of 8 from 64"),
        ("width", 0, "multiple of 8 from 64"),
        ("height", -64, "multiple of 8 from 64"),
        ("height", 1_000_000, "multiple of 8 from 64"),
        ("width", 128.5, "whole number"),
        ("steps", 0, "Use 1 to 500"),
        ("steps", 10_000, "10,000 steps cannot be run. Use 1 to 500."),
        ("steps", True, "must be a number"),
        ("steps", "20", "must be a number"),
        ("steps", None, "must be a number"),
        ("steps", math.nan, "whole number"),
        ("steps", math.inf, "whole number"),
        ("guidance_scale", math.nan, "guidance scale of nan"),
        ("guidance_scale", math.inf, "guidance scale of inf"),
        ("guidance_scale", -1, "guidance scale of -1"),
        ("guidance_end", 60, "cannot end at 60"),
        ("guidance_end", math.nan, "cannot end at nan"),
        ("guidance_rescale", 1.5, "cannot be rescaled by 1.5. Use 0"),
        ("guidance_rescale", math.nan, "cannot be rescaled by nan"),
        ("guidance_rescale", "0.5", "must be a number"),
        ("seed", -1, "out of range"),
        ("seed", MAX_SEED + 1, "out of range"),
        ("prompt", 3, "must be text"),
        ("prompt", "x" * 10_001, "10,001 characters"),
        ("negative_prompt", "x" * 100_000, "100,000 characters"),
        ("sampler", None, "must be text"),
        ("colour", "red", "no setting named 'colour'"),
    ],
)
def test_a_wrong_value_is_told_in_a_sentence(name: str, value: object, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_values({name: value})
    assert told in str(caught.value)
    assert str(caught.value).endswith(".")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe(width=1, steps=0, seed=-1).check()
    assert all(word in str(caught.value) for word in ("width", "steps", "seed"))


def test_whole_floats_of_a_form_become_ints() -> None:
    made = Recipe.from_values({"width": 256.0, "steps": 20.0, "guidance_scale": 5})
    assert (made.width, made.steps, made.guidance_scale) == (256, 20, 5.0)
    assert type(made.width) is int and type(made.guidance_scale) is float


@pytest.mark.parametrize("name", ["width", "steps", "seed", "guidance_scale"])
def test_numbers_beyond_a_float_are_refused_too(name: str) -> None:
    with pytest.raises(RecipeError):
        Recipe.from_values({name: 10**400})


def test_half_a_character_is_refused() -> None:
    with pytest.raises(RecipeError, match="half a character"):
        Recipe(prompt="\ud83e").check()


NAME = "200x120-" + "0" * 24
MASKED: dict[str, Any] = {"source": NAME, "mask": "200x120-" + "1" * 24}


def test_json_brings_back_what_a_picture_started_from() -> None:
    made = Recipe(**MASKED, strength=0.4, fill="#102030", box=(8, 0, 136, 120))
    assert Recipe.from_json(made.to_json()) == made
    assert made.size == (200, 120) and Recipe(width=64, height=72).size == (64, 72)


def test_the_steps_that_are_run() -> None:
    assert Recipe(steps=20, strength=0.5).steps_run == 20
    source = "256x256-" + "0" * 24
    for strength, run in ((0, 0), (0.04, 0), (0.05, 1), (0.3, 6), (0.99, 19), (1, 20)):
        assert Recipe(steps=20, strength=strength, source=source).check().steps_run == run


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"strength": 1.5}, "strength of 1.5 is out of range"),
        ({"strength": math.nan}, "strength of nan"),
        ({"strength": "much"}, "must be a number"),
        ({"fill": "red"}, "'red' is nothing to fill with"),
        ({"source": "../../etc/passwd"}, "not the name of a start picture"),
        ({"source": NAME}, "has 200x120 pixels, and 256x256 are asked for"),
        ({"mask": NAME}, "no picture that it belongs to"),
        ({**MASKED, "mask": "64x64-" + "0" * 24}, "differ in size"),
        ({**MASKED, "box": (0, 0, 201, 120)}, "does not lie in a picture of 200x120"),
        ({**MASKED, "box": (8, 8, 8, 16)}, "does not lie in"),
        ({"box": [1, 2, 3]}, "four whole numbers"),
        ({"box": [1, 2, 3, "x"]}, "four whole numbers"),
        ({"box": "all"}, "four whole numbers"),
    ],
)
def test_a_wrong_start_is_told_in_a_sentence(values: dict[str, object], told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_values(values)
    assert told in str(caught.value) and str(caught.value).endswith(".")


# Changes on the way


def test_what_holds_at_a_step() -> None:
    made = Recipe("a cat", turns=(Turn(3, guidance_scale=9.0), Turn(5, prompt="a dog")))
    assert made.at(0) == made.at(2) == Recipe("a cat")
    assert made.at(3) == made.at(4) == Recipe("a cat", guidance_scale=9.0)
    assert made.at(9) == Recipe("a dog", guidance_scale=9.0)
    assert Recipe.from_json(made.to_json()) == made
    assert (
        Recipe.from_values({"prompt": "a cat", "turns": [{"step": 3, "guidance_scale": 9}]}).turns[0] == made.turns[0]
    )


def test_a_turn_takes_the_place_of_what_came_after_it() -> None:
    made = Recipe("a cat").turned(5, {"prompt": "a dog"}).turned(8, {"guidance_scale": 2.0})
    assert [turn.step for turn in made.turns] == [5, 8]
    again = made.turned(6, {"prompt": "a fox"})
    assert again.turns == (Turn(5, prompt="a dog"), Turn(6, prompt="a fox"))
    assert made.turned(5, {"prompt": "a cat"}) == Recipe("a cat")
    assert Recipe("a cat").turned(4, {}) == Recipe("a cat")
    assert made.turned(8, {"prompt": "a fox"}).turns[-1] == Turn(8, prompt="a fox", guidance_scale=2.0)
    with pytest.raises(RecipeError, match="width cannot be changed on the way"):
        made.turned(3, {"width": 64})


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([{"step": 3, "guidance_scale": 1000}], "guidance scale of 1000"),
        ([{"step": 500, "prompt": "a"}], "after 0 to 499 steps"),
        ([{"step": 3, "prompt": "a"}, {"step": 2, "prompt": "b"}], "order of their steps"),
        ([{"step": 3, "seed": 5}], "must have a step"),
        ([{"prompt": "a"}], "must have a step"),
        ([{"step": 3, "prompt": 5}], "must be text"),
        ("x", "must have a step"),
        ([{"step": 3, "prompt": "x" * 10_001}], "10,001 characters"),
    ],
)
def test_turns_that_cannot_be_taken_are_told(turns: object, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_values({"turns": turns})
    assert told in str(caught.value)


def test_turns_as_people_write_them() -> None:
    text = "12: prompt a red fox: 3d\n 7 : guidance 9.5\n\n12: negative"
    found = turns.parse(text)
    assert found == (Turn(7, guidance_scale=9.5), Turn(12, prompt="a red fox: 3d", negative_prompt=""))
    assert turns.parse(turns.written(found)) == found
    assert turns.written(found) == "7: guidance 9.5\n12: prompt a red fox: 3d\n12: negative"
    for wrong in ("guidance 9", "7: guidance much", "7: size 64", "-1: guidance 3", "7"):
        with pytest.raises(RecipeError):
            turns.parse(wrong)


def test_another_schedule_is_a_turn() -> None:
    made = Recipe("a cat").turned(4, {"schedule": "Karras"})
    assert (made.at(3).schedule, made.at(4).schedule) == ("Automatic", "Karras")
    assert turns.written(made.turns) == "4: schedule Karras" and turns.parse("4: schedule Karras") == made.turns


def test_another_sampler_and_fresh_noise_are_turns() -> None:
    made = Recipe("a cat").turned(4, {"sampler": "Euler", "noise": (0.5, 12)})
    assert made.turns == (Turn(4, sampler="Euler", noise=(0.5, 12)),)
    assert Recipe.from_json(made.to_json()) == made
    assert (made.at(3).sampler, made.at(4).sampler, made.at(9).turns) == ("DPM++ 2M", "Euler", ())
    assert made.turned(4, {"guidance_scale": 2.0}).turn(4) == Turn(4, None, None, 2.0, "Euler", (0.5, 12))
    assert made.turned(4, {"sampler": "DPM++ 2M", "noise": None}) == Recipe("a cat")
    text = "4: sampler Euler\n4: noise 0.5 seed 12"
    assert turns.written(made.turns) == text and turns.parse(text) == made.turns
    for noise, told in (
        ((0.0, 1), "strength 0 is out of range"),
        ((1.5, 1), "strength 1.5 is out of range"),
        ((0.5, -1), "seed -1 of the fresh noise"),
        ((0.5,), "a strength and a seed"),
        ((True, 1), "a strength and a seed"),
        ((0.5, 1.5), "whole number"),
        ("much", "a strength and a seed"),
    ):
        with pytest.raises(RecipeError, match=told):
            Recipe.from_values({"turns": [{"step": 1, "noise": noise}]})
    for wrong in ("1: noise", "1: noise 0.5", "1: noise much seed 1", "1: noise 0.5 seed x"):
        with pytest.raises(RecipeError, match="no fresh noise"):
            turns.parse(wrong)


def test_guidance_holds_up_to_its_end() -> None:
    def guided(made: Recipe) -> list[int]:
        return [step for step in range(made.steps_run) if made.guides(step)]

    assert guided(Recipe(steps=5)) == [0, 1, 2, 3, 4]
    assert guided(Recipe(steps=5, guidance_end=0.6)) == [0, 1, 2]
    assert guided(Recipe(steps=8, guidance_end=0.6)) == [0, 1, 2, 3]  # the fifth would go beyond it
    assert guided(Recipe(steps=5, guidance_end=0)) == []
    # Of the steps that are run on a start picture it is a share too.
    assert guided(Recipe(steps=10, guidance_end=0.5, source=f"64x64-{'0' * 24}", strength=0.4)) == [0, 1]
    # Who asks for another scale later, wants it to have an effect.
    assert guided(Recipe(steps=8, guidance_end=0.5, turns=(Turn(6, guidance_scale=9.0),))) == [0, 1, 2, 3, 6, 7]
    assert guided(Recipe(steps=8, guidance_end=0.5, turns=(Turn(1, guidance_scale=9.0), Turn(6, prompt="a")))) == [
        0,
        1,
        2,
        3,
    ]
    shares = [(steps, n) for steps in range(1, 60) for n in range(steps + 1)]
    assert all(guided(Recipe(steps=steps, guidance_end=n / steps)) == list(range(n)) for steps, n in shares)


def test_seeds_that_a_page_would_round_go_there_as_text() -> None:
    """JSON's numbers are doubles in a browser, exact up to 2^53 (ECMA-262, Number.MAX_SAFE_INTEGER)."""
    recipe = Recipe(seed=2**64 - 1, turns=(Turn(3, noise=(0.5, 2**53)),))
    values = json.loads(json.dumps(recipe.for_page()), parse_int=lambda text: int(float(text)))
    assert values["seed"] == "18446744073709551615" and Recipe.from_values(values) == recipe
    assert Recipe(seed=2**53 - 1).for_page()["seed"] == 2**53 - 1
    assert Recipe.from_json(recipe.to_json()) == recipe
    for seed in ("", "x", "-1", "1.5", "²", str(2**64), "9" * 21):
        with pytest.raises(RecipeError):
            Recipe.from_values({"seed": seed})


SOURCE = f"64x64-{'0' * 24}"


def test_no_step_is_lost_to_rounding() -> None:
    for steps in range(1, MAX_STEPS + 1):
        for hundredths in range(101):
            run = Recipe(steps=steps, strength=hundredths / 100, source=SOURCE).steps_run
            assert run == steps * hundredths // 100, (steps, hundredths)


def test_recipes_of_older_versions_keep_their_number_of_steps() -> None:
    values = {"steps": 100, "strength": 0.29, "source": SOURCE, "width": 64, "height": 64}
    assert Recipe.from_json(json.dumps({"version": 7, **values})).steps_run == 29
    old = Recipe.from_json(json.dumps({"version": 6, **values}))
    assert old.steps_run == 28 and old.strength == 0.28
    again = Recipe.from_json(old.to_json())
    assert again == old
    kept = Recipe.from_json(json.dumps({"version": 6, **values, "strength": 0.3}))
    assert kept.strength == 0.3 and kept.steps_run == 30


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"width": 100}, ("width",)),
        ({"steps": 0, "guidance_scale": -1.0}, ("steps", "guidance_scale")),
        ({"steps": 2.5}, ("steps",)),
        ({"seed": -1}, ("seed",)),
        ({"prompt": "x" * 10_001}, ("prompt",)),
        ({"strength": 2.0}, ("strength",)),
        ({"turns": [{"step": 3, "guidance_scale": 1000.0}]}, ("turns",)),
        ({"controls": [{"model": "", "picture": "x"}]}, ("controls",)),
        ({"mask": SOURCE}, ()),
    ],
)
def test_an_error_names_the_fields_that_are_to_blame(values: dict[str, Any], fields: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError) as raised:
        Recipe.from_values(values)
    assert tuple(dict.fromkeys(raised.value.fields)) == fields


def test_changes_on_the_way_take_a_decimal_comma() -> None:
    [turn] = turns.parse("7: guidance 7,5")
    assert turn.guidance_scale == 7.5
    [turn] = turns.parse("7: noise 0,5 seed 12")
    assert turn.noise == (0.5, 12)


def test_and_stays_the_word_that_it_was_before_version_7() -> None:
    old = Recipe.from_json(
        json.dumps({"version": 6, "prompt": "a cat AND a dog", "turns": [{"step": 2, "prompt": "AND"}]})
    )
    assert old.prompt == r"a cat \AND a dog" and old.turns[0].prompt == r"\AND"
    assert prompts.composed(old.prompt) == ((old.prompt, 1.0),) and prompts.plain(old.prompt) == "a cat AND a dog"
    assert Recipe.from_json(old.to_json()) == old
    assert len(prompts.composed(Recipe.from_json(json.dumps({"version": 7, "prompt": "a AND b"})).prompt)) == 2
