"""The collapse alarm of a served model: fed by its own answers, told once, reset by a version."""

import json
import logging
from typing import Any

import numpy as np
import pytest

from steelyard.bundle.predictor import Predictor
from steelyard.serve.answer.version import LoadedVersion, Served


def houses(n: int, seed: int = 0, **fixed: Any) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        {
            "rooms": int(random.integers(1, 8)),
            "area": float(random.uniform(20, 200)),
            "district": "north",
            **fixed,
        }
        for _ in range(n)
    ]


def ask(made: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        made.endpoint.answer([made.endpoint.ask(json.dumps(row).encode())])
    made.endpoint.watch.judge()


def ask_together(made: Any, rows: list[dict[str, Any]]) -> None:
    for _ in made.endpoint.ask(json.dumps({"rows": rows}).encode()):
        pass
    made.endpoint.watch.judge()


def raised(made: Any) -> bool:
    return ("collapse",) in made.counted("alarm")


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.state, getattr(record, "what", ""))
        for record in caplog.records
        if getattr(record, "event", "") == "collapse"
    ]


@pytest.mark.parametrize("way", [ask, ask_together])
def test_it_is_told_once_when_it_begins_and_once_when_it_ends(stand, caplog, way):
    made = stand("offer")
    with caplog.at_level(logging.WARNING):
        way(made, houses(300))
        assert (raised(made), told(caplog)) == (False, [])
        assert "collapse" not in made.client.call("GET", "/health/ready").document
        # Numbers vary, and the label is the same: all of these have one room.
        way(made, houses(120, 1, rooms=1))
        way(made, houses(120, 2, rooms=1))
        assert (raised(made), told(caplog)) == (True, [("raised", "label")])
        ready = made.client.call("GET", "/health/ready")
        assert ready.status == 200
        assert ready.document["collapse"] == "the model gives one label to nearly every row"
        way(made, houses(200, 3))
        assert (raised(made), told(caplog)) == (False, [("raised", "label"), ("cleared", "")])
        assert "collapse" not in made.client.call("GET", "/health/ready").document
    assert made.counted("predictions") == {("3",): 740}


def test_a_sorted_table_is_no_collapse(stand):
    made = stand("offer")
    rows = sorted(houses(600), key=lambda row: row["rooms"])
    ask_together(made, rows)
    assert not raised(made)
    ask(made, rows)  # of rows that come alone nobody knows that they are sorted
    assert made.endpoint.watch._collapse.state().alarms > 0


def test_one_row_asked_again_and_again_is_none(stand, house):
    made = stand("price")
    ask(made, [house] * 300)
    ask_together(made, [house] * 300)
    assert not raised(made)


def test_what_the_fallback_answers_says_nothing_of_the_model(stand, monkeypatch):
    made = stand("price")
    predict = Predictor.answer_some
    monkeypatch.setattr(made.endpoint.loaded, "fallback", lambda values: (7.0, None))

    def failing(self: Any, rows: Any, *rest: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(Predictor, "answer_some", failing)
    ask(made, houses(300))
    ask_together(made, houses(300))
    assert made.counted("fallbacks")
    assert not raised(made)

    def stuck(self: Any, rows: Any, *rest: Any) -> Any:
        answers, checked = predict(self, rows, *rest)
        return [(7.0, None) for _ in answers], checked

    monkeypatch.setattr(Predictor, "answer_some", stuck)
    made.endpoint.calls.breaker.is_open, made.endpoint.calls.breaker.failures = False, 0
    ask(made, houses(300))
    assert raised(made)


def test_another_version_begins_anew_and_the_old_one_has_no_say(stand, caplog):
    made = stand("offer")
    old = made.endpoint.loaded
    ask(made, houses(300, rooms=1))
    assert raised(made)
    late = [made.endpoint.ask(json.dumps(row).encode()) for row in houses(200, 1, rooms=1)]
    served = old.served
    new = LoadedVersion(Served(9, served.bundle, served.folder), old.predictor)
    made.endpoint.loaded = new
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        made.endpoint.watch.judge()
        assert not raised(made)
        assert told(caplog) == [("cleared", "")]
        for asked in late:
            made.endpoint.answer([asked])
        made.endpoint.watch.judge()
        assert not raised(made)
        ask(made, houses(300, 2, rooms=1))
        assert raised(made)
        assert told(caplog) == [("cleared", ""), ("raised", "label")]


@pytest.mark.parametrize(("rule", "raises"), [({"action": "ignore"}, False), ({}, True),
                                              ({"share": 0.99}, False)])  # fmt: skip
def test_the_definition_can_turn_it_off_and_give_the_share(stand, monkeypatch, rule, raises):
    made = stand("offer")
    monkeypatch.setattr(made.endpoint.loaded.predictor, "collapse_rule", rule)
    old = made.endpoint.loaded
    made.endpoint.loaded = LoadedVersion(old.served, old.predictor)
    ask(made, houses(300, rooms=1))
    assert raised(made) is raises


def test_one_that_is_over_before_anybody_looks_is_told_all_the_same(stand, caplog):
    made = stand("offer")
    with caplog.at_level(logging.WARNING):
        watch = made.endpoint.watch
        loaded = made.endpoint.loaded
        answers = [(str(i), i) for i in range(400)]
        labels = loaded.predictor.classes
        varied = [(labels[i % 3], [i, 0.0, 0.0]) for i in range(200)]
        watch._noted.append((loaded, [(labels[0], [i, 1.0, 0.0]) for i in range(200)] + varied,
                             answers))  # fmt: skip
        watch.judge()
    assert not raised(made)
    assert told(caplog) == [("raised", ""), ("cleared", "")]
