"""The probe: one connection, rows alone and together, and refusals with what the server said."""

from collections.abc import Callable
from typing import Any

import pytest

from steelyard.errors import RefusedError
from steelyard.features.columns import json_rows
from steelyard.validate.candidate import Address, Candidate
from steelyard.validate.probe import Probe


def test_rows_alone_and_together_get_the_same_answers(good: Candidate) -> None:
    assert good.server is not None
    rows = json_rows(good.definition.fields, {n: c[:5] for n, c in good.test.columns.items()})
    with good.server() as address, Probe(address) as probe:
        assert [probe.ask(row) for row in rows] == probe.ask_many(rows)


def test_a_refusal_says_what_the_server_said(good: Candidate, serve: Callable[..., Any]) -> None:
    with (
        serve(good.definition, good.packed)() as address,
        Probe(Address(f"{address.url}/", "a b")) as probe,
        pytest.raises(RefusedError, match="404"),
    ):
        probe.ask({})
