"""Prompts as text: what holds at a step, what weighs how much, and that any text at all is a prompt."""

import random

import pytest

from studio.errors import RecipeError
from studio.words import prompts
from studio.words.prompts import Part, Piece, at, parse


def pieces(text: str) -> list[tuple[str, float]]:
    """Words and weights of a prompt of one part and one section."""
    [part] = parse(text)
    [section] = part.sections
    return [(piece.text, round(piece.weight, 6)) for piece in section]


def held(text: str, steps: int = 10) -> list[tuple[int, str]]:
    """What the prompt says, and after how many steps it begins to say so."""
    texts = [at(text, done, steps) for done in range(steps)]
    return [(done, each) for done, each in enumerate(texts) if not done or each != texts[done - 1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red fox, 3d render: on the table", [("a red fox, 3d render: on the table", 1)]),
        ("", []),
        ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("a (red:1.2) fox", [("a ", 1), ("red", 1.2), (" fox", 1)]),
        ("a (red : .5 ) fox", [("a ", 1), ("red ", 0.5), (" fox", 1)]),
        ("[less]", [("less", 0.909091)]),
        ("((twice))", [("twice", 1.21)]),
        ("([even])", [("even", 1)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1), (" c", 0.5)]),
        (r"\(literal\] \\ \[", [(r"(literal] \ [", 1)]),
        (r"c:\dir (x\):2)", [("c:\\dir ", 1), ("x)", 2)]),
        ("(one)(two)", [("onetwo", 1.1)]),
        ("(never closed", [("never closed", 1.1)]),
        ("one) too many]", [("one) too many]", 1)]),
        ("fox :)", [("fox :)", 1)]),
        ("(x:nan) (y:1e9) (z:1.2.3)", [("x:nan", 1.1), (" ", 1), ("y:1e9", 1.1), (" ", 1), ("z:1.2.3", 1.1)]),
        ("(x:1000000000) (y:-99999)", [("x", 10), (" ", 1), ("y", -10)]),
        ("(" * 5000 + "x", [("x", 10)]),
        ("(" * 2000 + "x:0)" + ")" * 1999, [("x", 0)]),
        ("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
         [("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
          ("sky", 1.4641), (".", 1.1)]),
    ],
)  # fmt: skip
def test_weights_are_those_of_a1111(text: str, expected: list[tuple[str, float]]) -> None:
    assert pieces(text) == [(words, pytest.approx(weight, abs=1e-6)) for words, weight in expected]


def test_break_parts_sections_and_spaces_around_it_do_not_count() -> None:
    [part] = parse("a cat BREAK (a dog BREAK:1.2)")
    words = ["".join(piece.text for piece in section).strip() for section in part.sections]
    assert words == ["a cat", "a dog", ""] and part.sections[1][-1].weight == 1.2
    assert parse("BREAKFAST") == (Part(((Piece("BREAKFAST"),),)),)


@pytest.mark.parametrize(
    "text", ["(cat:1)BREAK(dog:1)", "[(cat:1.1)]BREAK [(dog:1.1)]", "(cat:1)BREAK\\(dog\\)", "catBREAK"]
)
def test_break_needs_no_space_beside_a_bracket(text: str) -> None:
    """A1111 looks for BREAK in each stretch between signs (modules/prompt_parser.py, parse_prompt_attention)."""
    [part] = parse(text)
    words = ["".join(piece.text for piece in section).strip() for section in part.sections]
    assert words == (["catBREAK"] if text == "catBREAK" else ["cat", "(dog)" if "\\" in text else "dog"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apple::2 tart::1", [("apple", 2), (" tart", 1)]),
        ("hot:: dog", [("hot", 1), (" dog", 1)]),
        ("space::2 ship", [("space", 2), (" ship", 1)]),
        ("tulips::1 red::-.5", [("tulips", 1), (" red", -0.5)]),
        ("alone::7", [("alone", 1)]),
        ("::3 alone", [(" alone", 1)]),
        ("::", []),
        ("(a::2 b) c", [("a::2 b c", None)]),
        (r"a\::2 b", [("a::2 b", None)]),
        ("sad :( ::2 red", [("sad :", None), (" red", 1)]),
        ("a::999999999 b", [("a", 1000), (" b", 1)]),
    ],
)
def test_double_colons_part_prompts(text: str, expected: list[tuple[str, float | None]]) -> None:
    found = parse(text)
    words = ["".join(piece.text for section in part.sections for piece in section) for part in found]
    assert [word.strip() for word in words if word] == [word.strip() for word, _ in expected]
    for part, (_, weight) in zip(found, expected, strict=False):
        assert weight is None or part.weight == weight


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a cat ", [(" a cat ", 1.0)]),
        ("a cat :1.2", [("a cat :1.2", 1.0)]),
        ("a cat AND a dog", [("a cat", 1.0), ("a dog", 1.0)]),
        ("a cat :1.2 AND a dog:0.5 AND a fox : -1", [("a cat", 1.2), ("a dog", 0.5), ("a fox", -1.0)]),
        ("a cat :.5AND", [("a cat :.5AND", 1.0)]),
        ("a (cat:1.2) AND (dog:0.5)", [("a (cat:1.2)", 1.0), ("(dog:0.5)", 1.0)]),
        ("a::2 b::0.5 AND c", [("a::2 b::0.5", 1.0), ("c", 1.0)]),
        (r"a \:1 AND c", [(r"a \:1", 1.0), ("c", 1.0)]),
        ("AND", [("", 1.0), ("", 1.0)]),
        ("a :99 AND b\nc :+1.", [("a", 10.0), ("b\nc", 1.0)]),
        ("band, SANDY and HANDY", [("band, SANDY and HANDY", 1.0)]),
    ],
)
def test_and_parts_prompts_that_guide(text: str, expected: list[tuple[str, float]]) -> None:
    """As get_multicond_prompt_list in A1111's modules/prompt_parser.py, but for a weight without any AND."""
    assert list(prompts.composed(text)) == expected


def test_and_does_not_part_too_many() -> None:
    prompts.check(" AND ".join("a" * 16))
    with pytest.raises(RecipeError, match=r"AND parts this into 17 prompts\. Use 16 at most"):
        prompts.check(" AND ".join("a" * 17))


def test_parts_that_weigh_nothing_together_are_refused() -> None:
    prompts.check("apple::2 tart::-1")
    prompts.check("dog::-3")
    with pytest.raises(RecipeError, match="add up to -1"):
        prompts.check("apple::1 tart::-2")


def test_a_mean_never_divides_by_almost_nothing() -> None:
    assert prompts.divisor((2.0, 1.0)) == 3.0
    assert prompts.divisor((1.0, -0.5)) == 0.5
    assert prompts.divisor((1.0, -0.999)) == pytest.approx(0.1999)
    assert prompts.divisor((0.0, 0.0)) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", [(0, "a cat")]),
        ("a [dog:cat:0.4]", [(0, "a dog"), (4, "a cat")]),
        ("a [dog:cat:4]", [(0, "a dog"), (4, "a cat")]),
        ("a [dog:cat:.45]", [(0, "a dog"), (4, "a cat")]),
        ("a [cat:3]", [(0, "a "), (3, "a cat")]),
        ("a [cat: 3 ]", [(0, "a "), (3, "a cat")]),
        ("a [cat::0.4]", [(0, "a cat"), (4, "a ")]),
        ("a [dog:cat:0]", [(0, "a cat")]),
        ("a [dog:cat:-2]", [(0, "a cat")]),
        # A1111 reads the number as lark's SIGNED_NUMBER, which may have an exponent.
        ("a [dog:cat:1e-1]", [(0, "a dog"), (1, "a cat")]),
        ("a [dog:cat:.4E1]", [(0, "a dog"), (4, "a cat")]),
        ("a [cat:1e999]", [(0, "a ")]),
        ("a [dog:cat:1e]", [(0, "a [dog:cat:1e]")]),
        ("a [dog:cat:1]", [(0, "a dog"), (1, "a cat")]),
        ("a [dog:cat:1.0]", [(0, "a dog")]),
        ("a [dog:cat:99999999999999999999]", [(0, "a dog")]),
        ("a [[[b]]:2]", [(0, "a "), (2, "a [[b]]")]),
        ("[(a:2):3]", [(0, ""), (3, "(a:2)")]),
        ("a[b:[c:d:2]:1]e", [(0, "abe"), (1, "ace"), (2, "ade")]),
        ("((a][:b:c [d:3]", [(0, "((a][:b:c "), (3, "((a][:b:c d")]),
        ("a [unbalanced", [(0, "a [unbalanced")]),
        ("[word] [a:b:c]", [(0, "[word] [a:b:c]")]),
        (r"\[a:b:0.4\]", [(0, r"\[a:b:0.4\]")]),
        ("[a =( :b:0.4]", [(0, "a =( "), (4, "b")]),
    ],
)
def test_scheduling(text: str, expected: list[tuple[int, str]]) -> None:
    assert held(text) == expected


def test_alternation_takes_turns() -> None:
    assert [at("[cat|dog]", done, 4) for done in range(4)] == ["cat", "dog", "cat", "dog"]
    assert [at("[a|(b:1.1)|]", done, 4) for done in range(4)] == ["a", "(b:1.1)", "", "a"]
    assert [at("[a|[b:c:2]]", done, 4) for done in range(4)] == ["a", "b", "a", "c"]
    assert at("[a (b|c) | d]", 0, 4) == "a (b|c) "
    assert prompts.readings("[a|b] [c:d:0.5]") == ["a c", "b c", "a d", "b d"]


@pytest.mark.parametrize(
    ("text", "words", "weighted"),
    [
        ("a cat (sitting)", "a cat sitting", True),
        ("a (red:1.2) fox BREAK on  a table", "a red fox on  a table", True),
        ("apple::2 tart::1", "apple, tart", True),
        (r"a \(red\) fox", "a (red) fox", False),
        ("  as it  stands: 5:30 ", "  as it  stands: 5:30 ", False),
        ("[(a:2):3]", "a:2:3", True),
    ],
)
def test_words_alone(text: str, words: str, weighted: bool) -> None:
    if words == "a:2:3":  # what takes turns is resolved before
        assert prompts.plain(at(text, 5, 10)) == "a" and prompts.plain(at(text, 0, 10)) == ""
    else:
        assert prompts.plain(text) == words
    assert prompts.weighted(text) == weighted


SIGNS = [
    "(",
    ")",
    "[",
    "]",
    ":",
    "::",
    "|",
    "\\",
    "1.2",
    "0.4",
    "-3",
    "nan",
    " AND ",
    "1e9",
    "9" * 400,
    "BREAK",
    "a",
    "red ",
    ",",
]
SIGNS += [" ", "\n", "{", "}", "__", "\u202e", "\U0001f98a", "\x00"]


def test_any_text_is_a_prompt() -> None:
    """What it says without signs never grows, every weight is finite, and reading it twice gives the same."""
    chance = random.Random(6)
    for _ in range(4000):
        text = "".join(chance.choices(SIGNS, k=chance.randrange(24)))
        for done in (0, 3, 9):
            now = at(text, done, 10)
            assert len(now) <= len(text)
            for part in parse(now):
                assert abs(part.weight) <= prompts.MAX_SHARE and part.sections
                for piece in (piece for section in part.sections for piece in section):
                    assert abs(piece.weight) <= prompts.MAX_WEIGHT and piece.text
            assert len(prompts.plain(now)) <= len(now)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "[" * 10_000,
        "(" * 5000 + ")" * 5000,
        "[" * 3333 + "a|b" + "]" * 3333,
        "[a:" * 2500 + ":3]" * 2500,
        "[(" * 2500 + "])" * 2500,
        "::1" * 3333,
        ":" + "1" * 9999,
        "(:" + " " * 9998,
        " BREAK" * 1600,
        "\\" * 9999,
    ],
    ids=lambda text: text[:6],
)
def test_ten_thousand_signs_are_read(text: str) -> None:
    assert len(at(text, 3, 20)) <= len(text) and parse(text)


def test_a_text_without_signs_comes_back_as_it_is() -> None:
    chance = random.Random(7)
    for _ in range(500):
        text = "".join(chance.choices("abc ,.;-'\"!?\n\té漢🦊", k=chance.randrange(40)))
        assert at(text, 1, 10) is text
        assert prompts.plain(text) == text and not prompts.weighted(text)
