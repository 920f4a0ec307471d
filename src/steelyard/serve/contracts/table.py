"""The wire contracts of a server: which are on, and which take each other's paths.

| contract | paths | on by default |
|---|---|---|
| native | `/predict/{model}` | always |
| v2 | `/v2/...` | yes |
| kserve-v1 | `/v1/models...` | yes |
| vertex | what `AIP_HEALTH_ROUTE` and `AIP_PREDICT_ROUTE` name | yes |
| mlflow | `/ping`, `/health`, `/version`, `/invocations` | yes |
| sagemaker | `/ping`, `/execution-parameters`, `/invocations` | no: it takes paths of mlflow |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from steelyard.errors import UsageError, nearest
from steelyard.serve.contracts.exchange import Ready
from steelyard.serve.contracts.kserve_v1 import kserve_v1_routes
from steelyard.serve.contracts.mlflow import mlflow_routes
from steelyard.serve.contracts.sagemaker import sagemaker_routes
from steelyard.serve.contracts.v2 import v2_routes
from steelyard.serve.contracts.vertex import vertex_paths, vertex_routes
from steelyard.serve.http.asgi import Front

if TYPE_CHECKING:
    from starlette.routing import Route

__all__ = ["NAMES", "Contract", "contracts_of"]

NAMES: Final = ("native", "v2", "kserve-v1", "vertex", "mlflow", "sagemaker")


@dataclass(frozen=True, slots=True)
class Contract:
    """A wire contract: its name, the paths that are its own, and its routes.

    `given` are paths that a platform chose, which may be those of other contracts.
    """

    name: str
    paths: tuple[str, ...]
    routes: Callable[[Front, Ready], list["Route"]]
    given: tuple[str, ...] = ()


def contracts_of(chosen: Sequence[str], environment: Mapping[str, str]) -> tuple[Contract, ...]:
    """Return the contracts of a server: the chosen, and those by default that do not clash.

    Those come first that a platform configures, since its paths may be any. Raises UsageError for
    an unknown contract and where two of the chosen have a path in common.

    >>> [contract.name for contract in contracts_of(["sagemaker"], {})]
    ['vertex', 'native', 'v2', 'kserve-v1', 'sagemaker']
    """
    known = {contract.name: contract for contract in _all(environment)}
    for name in chosen:
        if name not in known:
            raise UsageError(f"no contract {name[:100]!r}. {nearest(name[:100], NAMES)}")
    taken: dict[str, str] = {}
    for name in dict.fromkeys(chosen):
        for path in known[name].paths:
            if path in taken:
                raise UsageError(
                    f"the contracts {taken[path]} and {name} both answer {path}.",
                    fix="Choose one of them; start a second server for the other.",
                )
            taken[path] = name
    return tuple(
        contract
        for contract in known.values()
        if contract.name in chosen
        or (contract.name != "sagemaker" and not any(path in taken for path in contract.paths))
    )


def _all(environment: Mapping[str, str]) -> list[Contract]:
    paths = vertex_paths(environment)
    return [
        # Its paths may be those of others: it is asked first.
        Contract("vertex", (), partial(vertex_routes, paths=paths), given=paths),
        Contract("native", ("/predict/{model}",), lambda front, ready: []),
        Contract("v2", ("/v2",), v2_routes),
        Contract("kserve-v1", ("/v1/models",), kserve_v1_routes),
        Contract("mlflow", ("/ping", "/health", "/version", "/invocations"), mlflow_routes),
        Contract("sagemaker", ("/ping", "/execution-parameters", "/invocations"), sagemaker_routes),
    ]
