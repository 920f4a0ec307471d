"""Row hashes: equal rows and only they, in every process; codes; answers by place."""

import subprocess
import sys

import numpy as np

from steelyard.features.parts import Scores
from steelyard.validate.rows import codes, column_hashes, row_hashes, take_scores

SHOWN = (
    "import numpy as np; from steelyard.validate.rows import row_hashes; print(row_hashes("
    "{'a': np.array([1, 2]), 'b': np.array(['x', '\\ufdd0'], dtype=object)},"
    " np.array([True, False]), np.array([7, None], dtype=object)).tolist())"
)


def test_hashes_are_the_same_in_every_process() -> None:
    here = row_hashes(
        {"a": np.array([1, 2]), "b": np.array(["x", "\ufdd0"], dtype=object)},
        np.array([True, False]),
        np.array([7, None], dtype=object),
    )
    there = subprocess.run(
        [sys.executable, "-c", SHOWN], capture_output=True, text=True, check=True
    )
    assert str(here.tolist()) == there.stdout.strip()


def test_null_and_zero_are_one_value_each() -> None:
    odd_nan = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)
    assert column_hashes(odd_nan)[0] == column_hashes(np.array([np.nan]))[0]
    assert column_hashes(np.array([0.0]))[0] == column_hashes(np.array([-0.0]))[0]


def test_many_rows_do_not_collide_and_columns_do_not_mix() -> None:
    numbers = np.arange(200_000)
    assert len(np.unique(row_hashes({"a": numbers, "b": numbers % 7}))) == len(numbers)
    swapped = row_hashes({"a": numbers % 7, "b": numbers})
    assert not np.isin(swapped[7:], row_hashes({"a": numbers, "b": numbers % 7})).any()
    assert (
        row_hashes({"b": numbers % 7, "a": numbers}) == row_hashes({"a": numbers, "b": numbers % 7})
    ).all()


def test_the_label_and_the_key_count() -> None:
    columns = {"a": np.array([1.5])}
    label, key = np.array(["yes"], dtype=object), np.array([1], dtype=object)
    found = {
        int(hashes[0])
        for hashes in (
            row_hashes(columns),
            row_hashes(columns, label),
            row_hashes(columns, label, key),
            row_hashes(columns, key=key),
        )
    }
    assert len(found) == 4


def test_codes_and_answers_by_place() -> None:
    place, distinct = codes(["b", "a", "b", "c"])
    assert [distinct[i] for i in place] == ["b", "a", "b", "c"]
    scores = Scores(np.array([1, 2, 3]), np.eye(3), (1, 2, 3))
    taken = take_scores(scores, np.array([2, 0]))
    assert taken.prediction.tolist() == [3, 1]
    assert taken.probabilities is not None
    assert taken.probabilities.tolist() == [[0, 0, 1], [1, 0, 0]]
