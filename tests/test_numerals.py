"""Numbers as people type them."""

import pytest

from studio.numerals import number, written


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7.5", 7.5),
        ("7,5", 7.5),
        ("0,35", 0.35),
        (",5", 0.5),
        ("5.", 5.0),
        (" 12\u00a0", 12.0),
        ("-3", -3.0),
        ("\u22122,5", -2.5),
        ("1e3", 1000.0),
        ("７．５", 7.5),
        ("٧٫٥", 7.5),
        ("۷٫۵", 7.5),
        ("१२", 12.0),
    ],
)
def test_a_point_and_a_comma_mean_the_same(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    "text", ["", " ", "1.024,5", "1,024.5", "1,2,3", "1 024", "7,5 %", "many", "-", ".", "0x10", "nan", "inf"]
)
def test_what_could_be_two_numbers_is_none(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize("value", [0, 7, 7.5, 0.1, 4096, 0.35, 1e-6])
def test_what_is_written_is_read_back(value: float) -> None:
    assert number(written(value)) == value
    assert not written(float(value)).endswith(".0")
