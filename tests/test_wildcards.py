"""Words left to chance: the same seed chooses the same words, and nothing that is written can hang or hurt."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from studio.errors import RecipeError
from studio.grids import axes
from studio.recipe.recipe import Recipe, Turn
from studio.ui import form
from studio.words import wildcard_files
from studio.words.wildcards import Wildcards


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
        ("{0::a|b|0.0::c}", {"b"}),
        ("{3::red|blue}", {"red", "blue"}),
        ("{2$$9::a|b|0::c}", {"a, b", "b, a"}),
        ("{2$$|$$a|b}", {"a|b", "b|a"}),
        ("{2$$ | $$a|b}", {"a | b", "b | a"}),
        ("{2$$a|b$$c}", {"a, b$$c", "b$$c, a"}),
        ("{-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{1-$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-$$a|b}", {"a, b", "b, a"}),
        ("{0-$$a}", {"", "a"}),
        ("{ 2 $$a|b}", {"a, b", "b, a"}),
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


def test_weights_say_how_often(wildcards: Wildcards) -> None:
    """{3::red|blue} is red three times out of four: of 4000, 3000 give or take six standard deviations of 27."""
    found = [wildcards.resolve("{3::red|blue}", seed) for seed in range(4000)]
    assert abs(found.count("red") - 3000) < 165 and set(found) == {"red", "blue"}
    with pytest.raises(RecipeError, match=r"All choices of .* have a weight of 0"):
        wildcards.resolve("{0::red|0::blue}", 1)


VARIABLES = [
    ("${x=!{a|b}} ${x}${x}", {"aa", "bb"}),
    ("${x={a|b}} ${x}${x}", {"aa", "ab", "ba", "bb"}),
    ("a ${x=red} fox, ${x}", {"a fox, red"}),
    ("${x:grey} ${x=red}${x:grey}", {"grey red"}),
    ("${x=red}${x?=blue}${y?=green} ${x} ${y}", {"red green"}),
    ("${x=${y} cat}${y=red}${x}", {"red cat"}),
    ("${x=!__animal__}${x} on ${x}",
     {"red fox on red fox", "brown bear on brown bear", "grey wolf on grey wolf", "white wolf on white wolf"}),
    ("${where=beings}__${where}/ghost__", {"kind ghost"}),
    ("__told__", {"a grey hat"}),
    ("__told(hat=red hat)__", {"a red hat"}),
    ("${hat=blue cap} __told(hat=red hat)__ ${hat}", {"a red hat blue cap"}),
    ("{2$$__told(hat=red hat)__}", {"a red hat"}),
    ("${x=${x}}${x}", {"${x}"}),
    ("${x}", {"${x}"}),
    ("${ x = red }${x}!", {"red!"}),
    ("price ${5|6}", {"price $5", "price $6"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), VARIABLES)
def test_variables(wildcards: Wildcards, folder: Path, text: str, expected: set[str]) -> None:
    write(folder, "one/told", "a ${hat:grey hat}")
    assert seen(wildcards, text) == expected


def test_names_can_have_stars(wildcards: Wildcards, folder: Path) -> None:
    """A star stays within a folder, two go into all below it (docs/SYNTAX.md of dynamicprompts)."""
    write(folder, "one/colors-warm", "red")
    write(folder, "two/colors-cold", "blue\nred")
    write(folder, "one/a/near", "near")
    write(folder, "one/a/b/c/far", "far")
    for text, expected in {
        "__colors*__": {"red", "blue"},
        "__*s-warm__": {"red"},
        "__a/*__": {"near"},
        "__a/**__": {"near", "far"},
        "__**/far__": {"far"},
        "__a/**/near__": {"near"},
        "__a/*/c/f*r__": {"far"},
        "{2$$ $$__colors*__}": {"red blue", "blue red"},
        "__a\\near__": {"near"},
    }.items():
        assert seen(wildcards, text) == expected, text
    with pytest.raises(RecipeError, match=r"No wildcard fits 'x\*'. There are: a/b/c/far, a/near"):
        wildcards.resolve("__x*__", 1)
    write(folder, "one/loop", "__lo*__")
    with pytest.raises(RecipeError, match="contains itself"):
        wildcards.resolve("__lo*__", 1)


def test_several_lines_of_one_wildcard_differ(wildcards: Wildcards) -> None:
    for seed in range(60):
        first, second = wildcards.resolve("{2$$ / $$__animal__}", seed).split(" / ")
        assert first != second
    assert wildcards.resolve("{9$$__animal__}", 1).count(",") == 2
    assert wildcards.resolve("{2$$__beings/ghost__|__beings/ghost__}", 1) == "kind ghost, kind ghost"


STRUCTURED = {
    "my.yaml": "# note\nclothing:\n  - T-shirt\n  - 2::Pants\nartists:\n  finnish: [Eero]\n  1234: 5678\n"
    "cards:\n  - text: ace\n    weight: 0\n  - text: king\n  - |\n    # usage\n    queen\n",
    "more.json": '{"fruit": ["apple", {"content": "pear", "weight": 2}, 7, null], "deep": {"er": ["x"]}}',
    "flat.yml": "- one\n- two\n",
    "sub/list.json": '["only"]',
}


def test_yaml_and_json_files_hold_lists(wildcards: Wildcards, folder: Path) -> None:
    """Keys are names (docs/SYNTAX.md of dynamicprompts); the file's name may stand before them."""
    for name, text in STRUCTURED.items():
        (folder / "one" / name).parent.mkdir(exist_ok=True)
        (folder / "one" / name).write_text(text, "utf-8")
    for text, expected in {
        "__clothing__": {"T-shirt", "Pants"},
        "__artists/finnish__": {"Eero"},
        "__my/artists/finnish__": {"Eero"},
        "__cards__": {"king", "queen"},
        "__fruit__": {"apple", "pear", "7"},
        "__deep/**__": {"x"},
        "__flat__": {"one", "two"},
        "__sub/list__": {"only"},
    }.items():
        assert seen(wildcards, text) == expected, text
    assert {"clothing", "artists/finnish", "flat", "sub/list"} <= set(wildcards.names())
    with pytest.raises(RecipeError, match="no wildcard 'artists/1234'"):
        wildcards.resolve("__artists/1234__", 1)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, &x [2]]\nb: *x",
        "{" * 5000,
        "[" * 5000,
        "a:\n\tb: [",
        "!!python/object/apply:os.system [ls]",
        "x",
        "\x00",
    ],
    ids=range(7),
)
def test_a_hostile_table_is_only_unread(wildcards: Wildcards, folder: Path, text: str) -> None:
    for name in ("bad.yaml", "bad.json"):
        (folder / "one" / name).write_text(text, "utf-8")
    assert wildcards.resolve("__animal__", 1)
    with pytest.raises(RecipeError, match=r"no wildcard 'a'.*bad\.json could not be read"):
        wildcards.resolve("__a__", 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_files_are_read_whatever_they_were_written_in(wildcards: Wildcards, folder: Path, encoding: str) -> None:
    (folder / "one" / "café.txt").write_bytes("Café crème\r\n".encode(encoding))
    (folder / "one" / "table.yaml").write_bytes("thé:\n  - Thé glacé\n".encode(encoding))
    assert wildcards.resolve("__café__ __thé__", 1) == "Café crème Thé glacé"


def test_what_is_no_text_is_no_wildcard(wildcards: Wildcards, folder: Path) -> None:
    (folder / "one" / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (folder / "one" / "greek.txt").write_bytes("λέξη, ένα".encode() + b"\xff")
    with pytest.raises(RecipeError, match="no list of words"):
        wildcards.resolve("__picture__", 1)
    # One damaged letter does not make it another encoding.
    assert wildcards.resolve("__greek__", 1) == "λέξη, ένα\ufffd"


def test_the_folders_of_other_programs_are_known(tmp_path: Path) -> None:
    webui, comfy = tmp_path / "webui", tmp_path / "comfy"
    write(webui, "extensions/sd-dynamic-prompts/wildcards/hair", "long")
    write(webui, "wildcards/eyes", "blue")
    write(comfy, "custom_nodes/impact-pack/wildcards/hat", "red")
    write(tmp_path, "own/wildcards/hair", "short")
    around = (webui / "models" / "Stable-diffusion", comfy, tmp_path / "own")
    assert Wildcards(wildcard_files.folders(around)).names() == ["eyes", "hair", "hat"]
    # What lies in a models folder itself comes before what a program brought.
    assert Wildcards(wildcard_files.folders(around)).lines("hair") == ("short",)


def test_underscores_in_the_name_of_a_file_are_no_wildcard(wildcards: Wildcards, folder: Path) -> None:
    write(folder, "one/cool", "never")
    for text in ("<lora:my__cool__lora:0.8>", "<lora:my__new__lora", "<lyco:sub/my__new__lora>", "my__new__words"):
        assert wildcards.resolve(text, 1) == text
    assert wildcards.resolve("<lora:__cool__:1>", 1) == "<lora:never:1>"


def test_what_was_chosen_before_is_chosen_still(wildcards: Wildcards) -> None:
    """A prompt and its seed stand in pictures and in people's notes: each choice draws as `random.Random` says."""
    chance = [random.Random(f"prompt:7:{number}") for number in range(1, 5)]
    lines = ("red fox", "brown bear", "{grey|white} wolf")
    inner = chance[0].choice(["a", "b"])
    several = ", ".join(chance[1].sample(["x", "y", "z"], chance[1].randint(1, 2)))
    line = chance[2].choice(lines)
    line = line.replace("{grey|white}", chance[3].choice(["grey", "white"]))
    assert wildcards.resolve("{a|b} {1-2$$x|y|z} __animal__", 7) == f"{inner} {several} {line}"


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
    write(folder, "one/in", "${a=!" * 20 + "__in2__" + "}" * 20)
    write(folder, "one/in2", "${b=!" * 20 + "__in3__" + "}" * 20)
    write(folder, "one/in3", "${c=!" * 30 + "x" + "}" * 30)
    for text, message in (
        ("__double25__ x", "more than 1,000 choices|no wildcard"),
        ("__chain1__", "more than 30 others"),
        ("{a|b}" * 2000, "more than 1,000 choices"),
        ("${a=}" + "${a}" * 1001, "uses variables more than 1,000 times"),
        (
            "".join(f"${{v{n}=${{v{n + 1}}}${{v{n + 1}}}}}" for n in range(25)) + "${v0}",
            "uses variables more than 1,000",
        ),
        ("${a=!" * 1600 + "x" + "}" * 1600, "More than 60 wildcards and variables are inside"),
        ("".join(f"${{v{n}:" for n in range(900)) + "}" * 900, "More than 60 wildcards and variables are inside"),
        ("__in__", "More than 60 wildcards and variables are inside|leads through more than 30"),
        ("${a=" + "x" * 9000 + "}${a}${a}", "over 10,000 characters"),
    ):
        with pytest.raises(RecipeError, match=message):
            wildcards.resolve(text, 1)
    write(folder, "one/long", "x" * 9000)
    with pytest.raises(RecipeError, match="over 10,000 characters"):
        wildcards.resolve("__long__ __long__", 1)
    for text in (
        "{" * 10_000,
        "{" * 3000 + "a|b" + "}" * 3000,
        "__" * 5000,
        "__" + "a" * 9998,
        "}" * 10_000,
        "${a=" * 2500,
    ):
        assert len(wildcards.resolve(text, 1)) <= len(text)
    for text in ("__*" * 3000, "__q*" + "*a" * 4000 + "__", "__" + "**/" * 3000 + "__"):
        with pytest.raises(RecipeError):
            wildcards.resolve(text, 1)


def test_any_text_can_be_resolved(wildcards: Wildcards) -> None:
    chance = random.Random(8)
    signs = [
        "{",
        "}",
        "|",
        "$$",
        "$",
        "${x=",
        "!",
        "3::",
        "*",
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
