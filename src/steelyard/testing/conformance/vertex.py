"""Vertex AI's containers; texts: its requirements of custom containers for prediction.

The routes are those that `AIP_HEALTH_ROUTE` and `AIP_PREDICT_ROUTE` name, as for the container, else
those that Vertex gives to a container that chose none.
"""

import os
import time
from typing import Final

from steelyard.testing.conformance.hostile import add_hostile_cases
from steelyard.testing.conformance.instances import (
    add_instances_cases,
    instances,
    learn_rows,
    predictions_of,
)
from steelyard.testing.conformance.suite import Subject, Suite
from steelyard.testing.conformance.talk import Reply, expect

__all__ = ["SUITE"]

_DEPLOYED: Final = "/v1/endpoints/1/deployedModels/1"
_HEALTH_SECONDS: Final = 10
_ERROR: Final = "4xx."


def _health_route() -> str:
    return os.environ.get("AIP_HEALTH_ROUTE") or _DEPLOYED


def _route(subject: Subject) -> str:
    return os.environ.get("AIP_PREDICT_ROUTE") or f"{_DEPLOYED}:predict"


def _any(reply: Reply) -> None:
    """Accept whatever a refusal says: the contract gives it no form."""


SUITE: Final = Suite("vertex", learn_rows(_DEPLOYED))


@SUITE.case("healthy", "GET on the health route answers 200 within 10 seconds.")
def _healthy(subject: Subject) -> None:
    begun = time.monotonic()
    subject.talk.get(_health_route()).must(200)
    spent = time.monotonic() - begun
    expect(spent < _HEALTH_SECONDS, f"200 after {spent:.1f} seconds")


add_instances_cases(SUITE, _route, _ERROR, _any)


@SUITE.case("empty parameters", "parameters may be there, empty: 200.")
def _parameters(subject: Subject) -> None:
    body = instances(subject.rows[:1], parameters={})
    predictions_of(subject.talk.post(_route(subject), body), 1)


add_hostile_cases(SUITE, _route, "", _any, lambda subject: instances(subject.rows[:1]))
