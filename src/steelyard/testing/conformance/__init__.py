"""Conformance suites of the wire contracts, to be pointed at any server that claims one.

They need the base install only, and nothing of Steelyard on the other side.
"""

from collections.abc import Mapping
from typing import Any, Final

from steelyard.errors import UsageError, nearest
from steelyard.testing.conformance import (
    aws_lambda,
    kserve_v1,
    mlflow,
    native,
    sagemaker,
    v2,
    v2_grpc,
    vertex,
)
from steelyard.testing.conformance.samples import read_rows
from steelyard.testing.conformance.suite import Case, Report, Suite
from steelyard.testing.conformance.talk import Talk

__all__ = ["CONTRACTS", "Case", "Report", "conform"]

CONTRACTS: Final[dict[str, Suite[Any]]] = {
    suite.contract: suite
    for suite in (
        native.SUITE,
        v2.SUITE,
        v2_grpc.SUITE,
        kserve_v1.SUITE,
        mlflow.SUITE,
        sagemaker.SUITE,
        vertex.SUITE,
        aws_lambda.SUITE,
    )
}
"""The suites by the names of their contracts."""


def conform(
    url: str,
    contract: str,
    *,
    model: str | None = None,
    rows: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Report:
    """Judge the server at a base URL by a contract; `rows` names a file of rows that it takes.

    Without `model` and `rows` both are learnt from the server where its contract tells them.
    Raises UsageError where no server answers, or where a model or a row has to be named.
    """
    suite = CONTRACTS.get(contract)
    if suite is None:
        raise UsageError(f"no contract {contract!r}.", fix=nearest(contract, CONTRACTS))
    given = None if rows is None else read_rows(rows)
    return suite.run(Talk(url, dict(headers or {})), model, given)
