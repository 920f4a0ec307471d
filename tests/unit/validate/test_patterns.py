"""Strings made up from regular expressions are found by them."""

import re

import pytest

from steelyard.validate.patterns import example_of


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[A-Z]{2}-\d{4}$",
        r"^\w+@\w+\.(com|org)$",
        r"^(\d{3})-\1$",
        r"^[^a-z\s]+?x{2,3}$",
        r"\S\W\D",
        r"^(?:a|b)(?P<n>c)(?P=n)[\d_]$",
        r"^.{5}[^0]$",
        r"^[^\W\d]$",
        r"abc",
        r"",
        r"^\+?[1-9]\d{1,14}$",
        r"(?i)^iban$",
    ],
)
def test_a_made_up_string_is_found(pattern: str) -> None:
    made = example_of(pattern)
    assert made is not None
    assert re.search(pattern, made)


def test_lengths_are_kept() -> None:
    made = example_of(r"^\d+$", 6, 8)
    assert made is not None
    assert 6 <= len(made) <= 8
    assert example_of(r"^\d{9}$", 0, 8) is None
    padded = example_of(r"ab", 5)
    assert padded is not None
    assert len(padded) == 5


def test_what_cannot_be_made_up_is_none() -> None:
    assert example_of(r"^(?=b)a$") is None
