"""A fuzzer for servers of predictions: mutated requests, on every route, over raw connections.

What no server may do is a finding: a status of 5xx other than 503 with Retry-After, bytes that are no
response, a connection that does not end, another answer to a good request in between than before.
"""

from collections.abc import Mapping

from steelyard.testing.conformance.samples import read_rows
from steelyard.testing.fuzz.campaign import Finding, Report, campaign, rerun
from steelyard.testing.fuzz.requests import Request
from steelyard.testing.fuzz.seeds import grpc_seeds, http_seeds, known_rows
from steelyard.testing.fuzz.targets import Target

__all__ = ["Finding", "Report", "Request", "Target", "campaign", "rerun", "target_of"]


def target_of(
    url: str,
    *,
    grpc: str = "",
    process: int | None = None,
    model: str | None = None,
    rows: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Target:
    """Return a server to be fuzzed, with valid requests for every route that it says it has.

    They are learnt from it by its contracts and its OpenAPI document; `rows` names a file of rows
    that its model takes where neither tells. `headers` go with all of them. Raises UsageError where
    nothing answers, or a model or rows have to be named.
    """
    given = None if rows is None else read_rows(rows)
    requests = http_seeds(url, model=model, rows=given, headers=headers)
    calls = []
    if grpc:
        known = (model, given) if model and given else known_rows(url, headers)
        calls = grpc_seeds(grpc, *known, headers=headers)
    metadata = [(name.lower(), value) for name, value in (headers or {}).items()]
    return Target("server", url, requests, process, grpc, calls, metadata)
