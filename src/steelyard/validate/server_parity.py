"""A really started server, asked over HTTP: it must give the bundle's answers to the last bit."""

from collections.abc import Sequence
from typing import Any, Final

from steelyard.core.answers import class_keys
from steelyard.core.records import Check
from steelyard.errors import RefusedError
from steelyard.features.parts import Scores
from steelyard.validate.candidate import Candidate, Rows
from steelyard.validate.evidence import found, public_rows
from steelyard.validate.probe import Probe

__all__ = ["check_server"]

_SHOWN: Final = 5
_ROWS_A_REQUEST: Final = 50

Wrong = list[tuple[int, str]]


def check_server(candidate: Candidate, asked: Sequence[tuple[Rows, Scores]]) -> Check:
    """Judge the server's answers to rows against what the bundle answers for them.

    The first rows are also asked together, several in a request. Rows that a guard keeps from the
    model must not be answered by it.
    """
    if candidate.server is None:
        told = "No server could be started, so its answers are not proven."
        return found("parity", "server over HTTP", False, told)
    rows = [row for some, _ in asked for row in some]
    wanted = [document for _, answers in asked for document in _documents(answers)]
    taken = candidate.takes(rows)
    first = [i for i in range(len(asked[0][0])) if taken[i]]
    with candidate.server() as address, Probe(address) as probe:
        wrong = _asked_alone(probe, rows, wanted, taken)
        wrong += _asked_together(probe, rows, wanted, first)
    places = sorted({i for i, _ in wrong})
    told = f"A started server answers {taken.count(True)} rows with the bundle's bits."
    if not all(taken):
        told += f" Guards keep {taken.count(False)} more from the model."
    if wrong:
        told = (
            f"A started server answers {len(places)} of {len(rows)} rows otherwise than the bundle: "
            f"{wrong[0][1][:300]}"
        )
    return found(
        "parity",
        "server over HTTP",
        not wrong,
        told,
        value=len(places),
        threshold=0,
        rows=len(rows),
        kept_from_the_model=taken.count(False),
        wrong=[why for _, why in wrong[:_SHOWN]],
        examples=public_rows(candidate.definition.fields, [rows[i] for i in places[:_SHOWN]]),
    )


def _asked_alone(probe: Probe, rows: Rows, wanted: Rows, taken: Sequence[bool]) -> Wrong:
    wrong: Wrong = []
    for i, row in enumerate(rows):
        try:
            got = probe.ask(row)
        except RefusedError as error:
            if taken[i]:
                wrong.append((i, error.message))
            continue
        if not taken[i]:
            if got.get("source") != "fallback":
                wrong.append((i, f"expected that a guard refuses it, got {_said(got)}"))
        elif not _equal(got, wanted[i]):
            wrong.append((i, f"expected {wanted[i]}, got {_said(got)}"))
    return wrong


def _asked_together(probe: Probe, rows: Rows, wanted: Rows, places: Sequence[int]) -> Wrong:
    wrong: Wrong = []
    for start in range(0, len(places), _ROWS_A_REQUEST):
        some = places[start : start + _ROWS_A_REQUEST]
        try:
            answers = probe.ask_many([rows[i] for i in some])
        except RefusedError as error:
            return [*wrong, (some[0], f"{len(some)} rows in one request: {error.message}")]
        if len(answers) != len(some):
            return [*wrong, (some[0], f"{len(some)} rows in one request, {len(answers)} answers")]
        wrong += [
            (i, f"in one request: expected {wanted[i]}, got {_said(got)}")
            for i, got in zip(some, answers, strict=True)
            if not _equal(got, wanted[i])
        ]
    return wrong


def _documents(scores: Scores) -> Rows:
    """Return what a server must say, without what identifies the answer."""
    if scores.probabilities is None or scores.classes is None:
        return [{"prediction": value} for value in scores.prediction.tolist()]
    keys = class_keys(scores.classes)
    return [
        {"prediction": label, "probabilities": dict(zip(keys, line, strict=True))}
        for label, line in zip(
            scores.prediction.tolist(), scores.probabilities.tolist(), strict=True
        )
    ]


def _said(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer.get(name) for name in ("prediction", "probabilities", "source")}


def _equal(got: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether an answer is the bundle's own, to the last bit, label types included."""
    if got.get("source", "model") != "model":
        return False
    one, two = got.get("prediction"), wanted["prediction"]
    if isinstance(two, float):
        # JSON may write 3.0 as 3.
        number = isinstance(one, (int, float)) and not isinstance(one, bool)
        return number and float(str(one)).hex() == two.hex()
    if one != two or type(one) is not type(two):
        return False
    return bool(got.get("probabilities") == wanted.get("probabilities"))
