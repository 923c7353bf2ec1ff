"""Words left to chance: the same seed chooses the same words, and nothing that is written can hang or hurt."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from studio import axes
from studio.errors import RecipeError
from studio.recipe import Recipe, Turn
from studio.ui import form
from studio.wildcards import Wildcards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one" / "beings").mkdir(parents=True)
    write(tmp_path, "one/animal", "# of the wood\nred fox\n\nbrown bear  \n{grey|white} wolf\n")
    write(tmp_path, "one/beings/ghost", "kind ghost\n")
    write(tmp_path, "one/scene", "a __animal__ and a __beings/ghost__\n")
    write(tmp_path, "two/animal", "never seen\n")
    write(tmp_path, "two/größe", "\ufeffriesig\n")
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@pytest.fixture
def wildcards(folder: Path) -> Wildcards:
    return Wildcards([folder / "one", folder / "two", folder / "none"])


def seen(wildcards: Wildcards, text: str) -> set[str]:
    return {wildcards.resolve(text, seed) for seed in range(200)}


def test_a_line_of_a_file_is_chosen_by_the_seed(wildcards: Wildcards) -> None:
    assert seen(wildcards, "a __animal__!") == {"a red fox!", "a brown bear!", "a grey wolf!", "a white wolf!"}
    assert wildcards.resolve("a __animal__", 7) == wildcards.resolve("a __animal__", 7)
    assert wildcards.resolve("__größe__ __beings/ghost__", 1) == "riesig kind ghost"
    assert wildcards.names() == ["animal", "beings/ghost", "größe", "scene"]
    assert wildcards.lines("animal")[0] == "red fox"


def test_wildcards_stand_in_each_other(wildcards: Wildcards) -> None:
    assert "a red fox and a kind ghost" in seen(wildcards, "__scene__")
    assert seen(wildcards, "{__beings/ghost__|none}") == {"kind ghost", "none"}


def test_several_wildcards_choose_apart_from_each_other(wildcards: Wildcards) -> None:
    assert len(seen(wildcards, "{a|b}{a|b}{a|b}")) == 8
    pairs = {(wildcards.resolve("{a|b}", s), wildcards.resolve("{a|b}", s, "negative_prompt")) for s in range(40)}
    assert len(pairs) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {red|blue} cat", {"a red cat", "a blue cat"}),
        ("a {red| } cat", {"a red cat", "a  cat"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{2$$a|b}", {"a, b", "b, a"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{0-1$$a}", {"", "a"}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("[{a|b}:c:0.4]", {"[a:c:0.4]", "[b:c:0.4]"}),
    ],
)
def test_choices(wildcards: Wildcards, text: str, expected: set[str]) -> None:
    assert seen(wildcards, text) == expected


@pytest.mark.parametrize(
    "text", ["{}", "{{value}}", "${alert(1)}", "{a", "a}", "{a|b", r"\{a|b\}", "50% #1", "snake_case __", "____", "a|b"]
)
def test_what_is_no_choice_stays(wildcards: Wildcards, text: str) -> None:
    assert wildcards.resolve(text, 3) == text


def test_mistakes_are_named(wildcards: Wildcards, folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"no wildcard 'unicorn'. There are: animal, beings/ghost"):
        wildcards.resolve("a __unicorn__", 1)
    with pytest.raises(RecipeError, match=r"put files such as animal\.txt into"):
        Wildcards([folder / "none"]).resolve("a __unicorn__", 1)
    write(folder, "one/empty", "# nothing yet\n\n")
    with pytest.raises(RecipeError, match="is empty"):
        wildcards.resolve("__empty__", 1)
    write(folder, "one/hen", "__egg__\n")
    write(folder, "one/egg", "{__hen__}\n")
    with pytest.raises(RecipeError, match="'hen' contains itself: hen → egg → hen"):
        wildcards.resolve("__hen__", 1)


def test_a_name_never_leads_out_of_its_folder(wildcards: Wildcards, folder: Path) -> None:
    write(folder, "secret", "password")
    (folder / "one" / "link.txt").symlink_to(folder / "secret.txt")
    for name in ("../secret", "beings/../../secret", "link", f"{folder}/secret"):
        with pytest.raises(RecipeError):
            print(wildcards.resolve(f"__{name}__", 1) if name[0] not in "./" else wildcards.lines(name))


def test_files_that_change_are_read_anew(wildcards: Wildcards, folder: Path) -> None:
    write(folder, "one/animal", "only a newt\n")
    assert wildcards.resolve("__animal__", 1) == "only a newt"


def test_there_is_an_end(wildcards: Wildcards, folder: Path) -> None:
    for number in range(40):
        write(folder, f"one/double{number}", f"__double{number + 1}__ __double{number + 1}__")
        write(folder, f"one/chain{number}", f"__chain{number + 1}__")
    for text, message in (
        ("__double25__ x", "more than 1,000 choices|no wildcard"),
        ("__chain1__", "more than 30 others"),
        ("{a|b}" * 2000, "more than 1,000 choices"),
    ):
        with pytest.raises(RecipeError, match=message):
            wildcards.resolve(text, 1)
    write(folder, "one/long", "x" * 9000)
    with pytest.raises(RecipeError, match="over 10,000 characters"):
        wildcards.resolve("__long__ __long__", 1)
    for text in ("{" * 10_000, "{" * 3000 + "a|b" + "}" * 3000, "__" * 5000, "__" + "a" * 9998, "}" * 10_000):
        assert len(wildcards.resolve(text, 1)) <= len(text)


def test_any_text_can_be_resolved(wildcards: Wildcards) -> None:
    chance = random.Random(8)
    signs = [
        "{",
        "}",
        "|",
        "$$",
        "2",
        "1-3",
        "__",
        "animal",
        "\\",
        "/",
        "..",
        " ",
        "a",
        "_",
        "[",
        "\x00",
        "\u202e",
        "🦊",
    ]
    for _ in range(3000):
        text = "".join(chance.choices(signs, k=chance.randrange(16)))
        try:
            assert wildcards.resolve(text, 1) == wildcards.resolve(text, 1)
        except RecipeError as error:
            assert str(error).endswith(".")


def test_each_picture_of_a_form_makes_its_own_choices(wildcards: Wildcards) -> None:
    values = {"prompt": "a __animal__", "model": "m", "seed": "5", "pictures": 8, "previews": "clean"}
    values |= {"negative_prompt": "{x|y}", "turns": "3: prompt a blue __animal__"}
    recipes = [form.with_choices_made(each, wildcards) for each in form.read(values)[0]]
    assert len({recipe.prompt for recipe in recipes}) > 1 and len({each.negative_prompt for each in recipes}) == 2
    for recipe in recipes:
        assert recipe.turns == (Turn(3, prompt=f"a blue {recipe.prompt[2:]}"),)
        again = replace(recipe, prompt="a __animal__", negative_prompt="{x|y}")
        assert form.with_choices_made(again, wildcards) == recipe


def test_a_comparison_leaves_plain_braces_to_its_grid() -> None:
    assert len(axes.alternatives("a {red|blue} {2$$cat|dog|fox} {1-2$$x|y}")) == 1
    grid = axes.plan(Recipe(prompt="a {red|blue} {2$$cat|dog|fox}"), [], {})
    assert [recipe.prompt for [recipe] in zip(*grid.recipes, strict=True)] == [
        "a red {2$$cat|dog|fox}",
        "a blue {2$$cat|dog|fox}",
    ]
