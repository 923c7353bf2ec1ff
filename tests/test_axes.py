"""What people type for an axis, and the grids that come of it."""

from dataclasses import replace

import pytest

from studio.errors import RecipeError
from studio.grids import axes
from studio.recipe.recipe import Recipe

CHOICES = {"sampler": ["Euler", "DPM++ 2M"], "model": ["sketchbook", "other"]}
CENTRE = Recipe(prompt="a red cat on a cat tree", seed=7)


def labels(name: str, text: str, centre: Recipe = CENTRE) -> list[str]:
    return [value.label for value in axes.parse(name, text, centre, CHOICES)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("guidance_scale", "1, 2, 5-7, 3.0-9.0 +1.5", "1 2 5 6 7 3 4.5 9 7.5"),
        ("guidance_scale", "9-7", "9 8 7"),
        ("guidance_scale", "0.1-0.3 +0.1", "0.1 0.2 0.3"),
        ("steps", "4..6", "4 5 6"),
        ("seed", "9007199254740991", "9007199254740991"),
    ],
)
def test_lists_and_ranges(name: str, text: str, expected: str) -> None:
    found = {label.replace("guidance ", "").replace("seed ", "").replace(" steps", "") for label in labels(name, text)}
    assert found == set(expected.split())
    assert len(labels(name, text)) == len(found)


def test_names_sizes_and_words() -> None:
    assert labels("sampler", "dpm++ 2m, EULER") == ["DPM++ 2M", "Euler"]
    assert labels("size", "128x96, 64 × 64") == ["128 × 96", "64 × 64"]
    values = axes.parse("prompt", "cat, dog", CENTRE, CHOICES)
    assert [value.change(CENTRE).prompt for value in values] == [CENTRE.prompt, "a red dog on a dog tree"]


def test_a_style_changes_what_it_is_told_to_change() -> None:
    def styled(recipe: Recipe, name: str) -> Recipe:
        return replace(recipe, prompt=f"{name} of {recipe.prompt}")

    names = {**CHOICES, "style": ["mosaic", "oil painting"]}
    grid = axes.plan(CENTRE, [("style", "Mosaic, oil painting"), ("seed", "1")], names, {"style": styled})
    assert grid.columns == ("mosaic", "oil painting")
    assert [each.prompt for each in grid.recipes[0]] == [f"{name} of {CENTRE.prompt}" for name in grid.columns]
    with pytest.raises(RecipeError, match=r"no style 'cubism'. There are: mosaic, oil painting\."):
        axes.plan(CENTRE, [("style", "cubism")], names, {"style": styled})


def test_where_guidance_ends_can_be_compared() -> None:
    grid = axes.plan(CENTRE, [("guidance_end", "0.4, 0.6-1 +0.2")], CHOICES)
    assert grid.columns == ("guidance to 0.4", "guidance to 0.6", "guidance to 0.8", "guidance to 1")
    assert [each.guidance_end for each in grid.recipes[0]] == [0.4, 0.6, 0.8, 1.0]


def test_how_much_guidance_is_rescaled_can_be_compared() -> None:
    grid = axes.plan(CENTRE, [("guidance_rescale", "0-1 +0.5")], CHOICES)
    assert grid.columns == ("rescale 0", "rescale 0.5", "rescale 1")
    assert [each.guidance_rescale for each in grid.recipes[0]] == [0.0, 0.5, 1.0]


def test_random_seeds_are_new_each_time() -> None:
    assert len(set(labels("seed", "8 random")) | set(labels("seed", "8 random seeds"))) == 16


def test_two_axes_make_columns_and_rows() -> None:
    grid = axes.plan(CENTRE, [("guidance_scale", "1, 5, 9"), ("seed", "3, 4")], CHOICES)
    assert grid.columns == ("guidance 1", "guidance 5", "guidance 9") and grid.rows == ("seed 3", "seed 4")
    assert [(each.seed, each.guidance_scale) for row in grid.recipes for each in row] == [
        (seed, guidance) for seed in (3, 4) for guidance in (1, 5, 9)
    ]
    assert grid.count == 6


def test_a_third_axis_puts_several_rows_in_place_of_each() -> None:
    grid = axes.plan(CENTRE, [("steps", "4, 8"), ("seed", "1, 2"), ("sampler", "Euler, DPM++ 2M")], CHOICES)
    assert grid.rows == ("Euler · seed 1", "Euler · seed 2", "DPM++ 2M · seed 1", "DPM++ 2M · seed 2")
    assert grid.recipes[2][1] == Recipe(prompt=CENTRE.prompt, seed=1, steps=8, sampler="DPM++ 2M")


def test_a_grid_of_one() -> None:
    assert axes.plan(CENTRE, [], CHOICES) == axes.Grid(("",), ("",), ((CENTRE,),))


def test_braces_make_axes_too() -> None:
    grid = axes.plan(Recipe(prompt="a {red|blue} apple on a {table|beach|}"), [], CHOICES)
    assert grid.columns == ("red", "blue") and grid.rows == ("table", "beach", "(nothing)")
    assert grid.recipes[1][1].prompt == "a blue apple on a beach"
    assert grid.recipes[2][0].prompt == "a red apple on a"
    twice = axes.plan(Recipe(prompt="{a|b} and {a|b}"), [], CHOICES)
    assert [each.prompt for row in twice.recipes for each in row] == ["a and a", "b and a", "a and b", "b and b"]


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ([("seed", "")], "Seed has no values"),
        ([("seed", " , ,")], "Seed has no values"),
        ([("steps", "many")], "'many' is no number or range for Steps"),
        ([("steps", "4.5")], "whole numbers, not 4.5"),
        ([("seed", "1-10000")], "10,000 values"),
        ([("seed", "1-99999999999")], "values"),
        ([("seed", "5000 random")], "too many"),
        ([("guidance_scale", "1-5 +0")], "step of 0"),
        ([("seed", "1-9"), ("steps", "1-9")], "That makes 81 pictures, and 64 are the most"),
        ([("seed", "1"), ("seed", "2")], "Seed is chosen twice"),
        ([("sampler", "Fast")], "There is no sampler 'Fast'. There are: Euler, DPM++ 2M."),
        ([("size", "big")], "'big' is no size"),
        ([("size", "100x100")], "multiple of 8"),
        ([("steps", "0")], "0 steps cannot be run"),
        ([("prompt", "bird, fish")], "does not say 'bird'"),
        ([("strength", "0.5")], "needs a picture to start from"),
        ([("colour", "red")], "'colour' is no setting"),
    ],
)
def test_what_cannot_be_compared_is_told(chosen: list[tuple[str, str]], told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        axes.plan(CENTRE, chosen, CHOICES)
    assert told in str(caught.value) and str(caught.value).endswith(".")


def test_too_many_braces() -> None:
    with pytest.raises(RecipeError, match="pairs of braces"):
        axes.plan(Recipe(prompt="{a|b} " * 12), [], CHOICES)


LORA = Recipe(prompt="a cat <lora:ink:0.8>, <lora:Fine Lines>", seed=7)


def test_the_weight_of_a_lora_in_the_prompt() -> None:
    alone = Recipe(prompt="a cat <lora:ink:0.8> on a mat")
    values = axes.parse("lora", "-0.5, 0-1 +0.5", alone, CHOICES)
    assert [value.label for value in values] == ["ink -0.5", "ink 0", "ink 0.5", "ink 1"]
    assert [value.change(alone).prompt for value in values][::3] == [
        "a cat <lora:ink:-0.5> on a mat",
        "a cat <lora:ink:1> on a mat",
    ]
    values = axes.parse("lora", "fine lines: 0.2-1 +0.4, 2", LORA, CHOICES)
    assert [value.change(LORA).prompt for value in values] == [
        f"a cat <lora:ink:0.8>, <lora:Fine Lines:{weight}>" for weight in ("0.2", "0.6", "1", "2")
    ]


def test_a_tag_is_read_as_the_prompt_reads_it() -> None:
    for tag in ("<LORA:ink:1>", "<lyco:ink>", "<lora: ink :0.5:1>"):
        [value] = axes.parse("lora", "0.3", Recipe(prompt=f"a cat {tag}"), CHOICES)
        assert value.change(Recipe(prompt=f"a cat {tag}")).prompt == "a cat <lora:ink:0.3>"


def test_two_loras_against_each_other_need_alternatives() -> None:
    centre = Recipe(prompt="a cat {<lora:ink:1>|<lora:oil:1>}")
    grid = axes.plan(centre, [("lora", "oil: 0.5, 1")], CHOICES)
    assert [[each.prompt for each in row] for row in grid.recipes] == [
        ["a cat <lora:ink:1>"] * 2,
        ["a cat <lora:oil:0.5>", "a cat <lora:oil:1>"],
    ]


@pytest.mark.parametrize(
    ("centre", "text", "told"),
    [
        (CENTRE, "0.5", "The prompt has no LoRA. Write one into it"),
        (LORA, "0.5", "several LoRAs: ink, Fine Lines. Say which one, such as ink: 0.2-1 +0.2."),
        (LORA, "oil: 0.5", "no LoRA 'oil'. It has: ink, Fine Lines."),
        (LORA, "ink: much", "'much' is no number or range for LoRA weight"),
        (LORA, "ink:", "is no number or range"),
        (LORA, "ink: 0-9999", "64 pictures are the most"),
    ],
)
def test_weights_that_cannot_be(centre: Recipe, text: str, told: str) -> None:
    with pytest.raises(RecipeError) as raised:
        axes.parse("lora", text, centre, CHOICES)
    assert told in str(raised.value)


def test_names_can_do_more_than_be_set() -> None:
    """As styles do, which change the prompt."""
    changes = {"style": lambda recipe, name: replace(recipe, prompt=f"{recipe.prompt}, {name}")}
    values = axes.parse("style", "INK", CENTRE, {"style": ["Ink", "Oil"]}, changes)
    assert [(value.label, value.change(CENTRE).prompt) for value in values] == [("Ink", CENTRE.prompt + ", Ink")]


def test_weights_and_variables_are_chances_business_and_no_words_of_an_axis() -> None:
    axis, other = axes.alternatives("a {3::red|.5 :: blue} ${x={cat|dog}} ${y=a|b} {-2$$a|b} ${x}")
    assert [value.label for value in axis] == ["red", "blue"] and [value.label for value in other] == ["cat", "dog"]
    changed = other[1].change(axis[1].change(Recipe(prompt="{3::red|.5 :: blue} ${x={cat|dog}} ${y=a|b}")))
    assert changed.prompt == "blue ${x=dog} ${y=a|b}"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1;2;3", ["1", "2", "3"]),
        ("1, 2", ["1", "2"]),
        ("0,5; 0,7", ["0,5", "0,7"]),
        ("1，2、3", ["1", "2", "3"]),
        ('"red, old", blue', ["red, old", "blue"]),
        ("“red; old”; blue", ["red; old", "blue"]),
        ("red, old; blue", ["red, old", "blue"]),
        ('say "hi", bye', ['say "hi"', "bye"]),
        (" , ; ", []),
    ],
)
def test_values_are_told_apart(text: str, values: list[str]) -> None:
    assert axes.split(text) == values


@pytest.mark.parametrize(
    "text", ["sd, my, model", "my,model; sd", 'sd; "my, model"', "MY, MODEL, sd", "sd, “my, model”", "my, model;sd"]
)
def test_names_with_commas_can_be_compared(text: str) -> None:
    names = {**CHOICES, "model": ["my", "sd", "my, model", "a; b"]}
    found = axes.plan(CENTRE, [("model", text)], names).columns
    assert set(found) == {"sd", "my, model"}
    assert axes.plan(CENTRE, [("model", "a; b, my")], names).columns == ("a; b", "my")


def test_a_name_is_quoted_so_that_it_is_read_back() -> None:
    names = ["sd", "my, model", "a; b"]
    assert axes.split(", ".join(map(axes.quoted, names)), names) == names
    with pytest.raises(RecipeError, match=r'There are: sd, "my, model", "a; b"\.'):
        axes.plan(CENTRE, [("model", "none")], {**CHOICES, "model": names})


@pytest.mark.parametrize("text", ["512x256", "512X256", "512 × 256", "512*256", "512х256", "５１２ｘ２５６"])
def test_sizes_in_the_ways_they_are_typed(text: str) -> None:
    [[recipe]] = axes.plan(CENTRE, [("size", text)], CHOICES).recipes
    assert (recipe.width, recipe.height) == (512, 256)


def test_numbers_with_a_decimal_comma() -> None:
    assert labels("guidance_scale", "0,5; 1,5-3,5 +1") == [
        "guidance 0.5",
        "guidance 1.5",
        "guidance 2.5",
        "guidance 3.5",
    ]
    assert labels("guidance_scale", "1,5") == ["guidance 1", "guidance 5"], "commas separate where nothing else does"


def test_a_lora_with_a_comma_in_its_name() -> None:
    centre = Recipe(prompt="a cat <lora:my, ink:1> <lora:oil:1>")
    assert axes.plan(centre, [("lora", "my, ink: 0.2, 0.4")], CHOICES).columns == ("my, ink 0.2", "my, ink 0.4")


@pytest.mark.parametrize(("name", "text"), [("seed", "1-x"), ("sampler", "Fast"), ("size", "big"), ("lora", "1")])
def test_what_cannot_be_read_names_its_axis(name: str, text: str) -> None:
    with pytest.raises(RecipeError) as raised:
        axes.plan(CENTRE, [("steps", "4"), (name, text)], CHOICES)
    assert raised.value.fields == (name,)
