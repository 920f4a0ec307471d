"""The parity bound, flips where the reference is sure, exact ties apart, bits."""

from typing import Any

import numpy as np
import pytest

from steelyard.features.parts import Scores
from steelyard.validate.agreement import agree, bits_differ, margins


def binary(*positive: float) -> Scores:
    column = np.array(positive)
    return Scores(column >= 0.5, np.column_stack([1 - column, column]), (False, True))


def numbers(*values: float) -> Scores:
    return Scores(np.array(values), None, None)


@pytest.mark.parametrize(
    ("reference", "answer", "good"),
    [(0.0, 9e-6, True), (0.0, 2e-5, False), (1e6, 1e6 + 9, True), (1e6, 1e6 + 11, False),
     (-3.0, -3.0, True), (1.0, np.nan, False), (np.inf, np.inf, True), (1.0, np.inf, False)],
)  # fmt: skip
def test_the_bound_is_relative_above_one(reference: float, answer: float, good: bool) -> None:
    found = agree(numbers(answer), numbers(reference), 0.5)
    assert found.good is good
    assert found.over.tolist() == [not good]


def test_flips_count_where_the_reference_is_sure() -> None:
    reference = binary(0.500002, 0.5000005, 0.5)
    answers = binary(0.499998, 0.4999995, 0.49999999)
    found = agree(answers, reference, 0.5)
    assert found.flipped.tolist() == [True, False, False]
    assert (found.unsure_flips, found.ties) == (2, 1)
    assert not found.good
    assert found.document()["exact_ties"] == 1


def test_margins_of_many_classes_are_between_the_best_two() -> None:
    table = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]])
    scores = Scores(np.array(["a", "a"]), table, ("a", "b", "c"))
    assert margins(scores, 0.5) == pytest.approx([0.2, 0.0])
    assert margins(numbers(1.0), 0.5).tolist() == [np.inf]


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [(numbers(1.0), numbers(1.0), False), (numbers(1.0), numbers(np.nextafter(1.0, 2)), True),
     (numbers(0.0), numbers(-0.0), True), (binary(0.7), binary(0.7), False)],
)  # fmt: skip
def test_bits(first: Any, second: Any, differ: bool) -> None:
    assert bits_differ(first, second).tolist() == [differ]
