"""What training had becomes limits: each tail by its own length, times by their span."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.bundle.guard_limits import RARE, guard_limits, range_limits
from steelyard.core.fields import FieldSpec
from steelyard.core.guards import Guards
from steelyard.errors import CompileError
from steelyard.features.columns import columns_of
from steelyard.features.parts import Scores

finite = st.floats(allow_nan=False, allow_infinity=False)


def limits(field: FieldSpec, values: list[Any], guards: Guards | None = None) -> dict[str, Any]:
    columns = columns_of([field], [(value,) for value in values])
    found = guard_limits(guards or Guards(), (field,), columns, coded=())
    return found["fields"].get(field.name, {})  # type: ignore[no-any-return]


@settings(max_examples=200, deadline=None)
@given(st.lists(finite, min_size=1, max_size=60))
def test_training_itself_is_never_out_of_range(values: list[float]) -> None:
    low, high = range_limits(np.array(values))
    assert np.isfinite([low, high]).all()
    assert low <= min(values) <= max(values) <= high


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000), min_size=2, max_size=60),
    st.sampled_from([0.5, 2.0, 1024.0]),
    st.integers(-4096, 4096),
)
def test_the_unit_of_a_number_does_not_matter(values: list[int], scale: float, shift: int) -> None:
    low, high = range_limits(np.array(values, dtype=np.float64))
    found = range_limits(np.array(values) * scale + shift)
    assert found == pytest.approx((low * scale + shift, high * scale + shift), abs=1e-6)


def test_a_long_tail_sets_a_wide_margin_and_a_hard_end_a_narrow_one() -> None:
    money = np.random.default_rng(0).exponential(1, 10_000)
    low, high = range_limits(money)
    assert money.max() + (money.max() - 3.5) < high < 2 * money.max()
    assert -0.4 < low < 0
    assert range_limits(np.array([7.0])) == (7, 7)


def test_the_stated_share_of_good_values_is_flagged() -> None:
    # 20 / N^2 past an exponential tail; at N = 200 that is 1 in 2,000, and there is one tail.
    rng = np.random.default_rng(1)
    beyond = 0
    for _ in range(400):
        _, high = range_limits(rng.exponential(1, 200))
        beyond += int((rng.exponential(1, 5_000) > high).sum())
    assert 0.2 < beyond / (400 * 5_000) / (20 / 200**2) < 5


def test_times_may_move_on_by_their_own_span() -> None:
    days = [date(2024, 1, 1), date(2024, 1, 31)]
    found = limits(FieldSpec("on", "date"), days)["range"]
    assert found["low"] == columns_of([FieldSpec("on", "date")], [(date(2023, 12, 2),)])["on"][0]
    assert found["high"] - found["low"] == 90
    aware = FieldSpec("at", "datetime", aware=True)
    whole = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)]
    ends = limits(aware, whole)["range"]
    assert ends["low"] == columns_of([aware], [(whole[0],)])["at"][0]


def test_integers_have_whole_limits() -> None:
    found = limits(FieldSpec("n", "int"), list(range(73)))["range"]
    assert (found["low"], found["high"]) == (-6, 78)


@pytest.mark.parametrize(("nulls", "guarded"), [(0, True), (1, True), (2, False)])
def test_null_is_odd_where_one_in_a_thousand_had_it(nulls: int, guarded: bool) -> None:
    values: list[float | None] = [None] * nulls + [1.0] * (RARE - nulls)
    assert ("null" in limits(FieldSpec("x", "float", optional=True), values)) is guarded


def test_nothing_but_nulls_leaves_no_range() -> None:
    found = limits(FieldSpec("x", "float", optional=True), [None, None])
    assert found == {"range": {"action": "flag", "low": None, "high": None}}


def test_what_cannot_be_unseen_is_not_guarded() -> None:
    assert limits(FieldSpec("plan", "str", choices=("a", "b")), ["a", "b"]) == {}
    assert limits(FieldSpec("on", "bool"), [True, False]) == {}
    seen = limits(FieldSpec("stars", "int", choices=(1, 2, 3)), [3, 1])
    assert seen == {"unseen": {"action": "flag", "seen": [1, 3]}}
    assert limits(FieldSpec("on", "bool", optional=True), [True, None])["unseen"]["seen"] == [True]


def test_a_private_category_is_kept_only_where_the_model_keeps_it() -> None:
    field = FieldSpec("mail", "str", private=True)
    assert limits(field, ["a@b", "c@d"]) == {}
    with pytest.raises(CompileError, match="private"):
        limits(field, ["a@b"], Guards(fields={"mail": {"unseen": "refuse"}}))
    columns = columns_of([field], [("a@b",)])
    coded = guard_limits(Guards(), (field,), columns, coded=("mail",))
    assert coded["fields"] == {"mail": {"unseen": {"action": "flag"}}}


def test_ignored_rules_leave_no_trace() -> None:
    assert limits(FieldSpec("x", "float", optional=True), [1.0], Guards("ignore")) == {}


def test_a_row_is_empty_where_training_rows_hardly_were() -> None:
    fields = tuple(FieldSpec(name, "float", optional=True) for name in "abcd")
    full = [(1.0, 2.0, 3.0, None)] * 10
    assert guard_limits(Guards(), fields, columns_of(fields, full), ())["empty"]["nulls"] == 2
    sparse = [(1.0, None, None, None)] * 10
    assert guard_limits(Guards(), fields, columns_of(fields, sparse), ())["empty"]["nulls"] == 3
    required = (*fields[:2], FieldSpec("c", "float"), FieldSpec("d", "float"))
    filled = columns_of(required, [(1.0, 2.0, 3.0, 4.0)])
    assert "empty" not in guard_limits(Guards(), required, filled, ())


def test_the_answer_of_a_regression_has_the_range_of_labels_and_answers() -> None:
    field = FieldSpec("x", "float")
    columns = columns_of([field], [(1.0,), (2.0,)])
    labels = np.array([0.0, 10.0])
    scores = Scores(np.array([5.0, 20.0]), None, None)
    found = guard_limits(Guards(), (field,), columns, (), (labels, scores))
    assert (found["output"]["low"], found["output"]["high"]) == (-2, 22)
    named = Scores(np.array([True]), np.ones((1, 2)), (False, True))
    assert "output" not in guard_limits(Guards(), (field,), columns, (), (labels, named))
