"""What a platform that runs the server has decided for it: address, port, contract, model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steelyard.errors import UsageError

__all__ = ["SAGEMAKER_MODEL", "Hosting", "hosting"]

SAGEMAKER_MODEL: Final = Path("/", "opt", "ml", "model")
"""Where SageMaker unpacks a model."""
_ANY: Final = "0.0.0.0"
_PORTS: Final = 65_535


@dataclass(frozen=True, slots=True)
class Hosting:
    """Defaults of the command line on a platform; `ref` is empty where none names a model."""

    host: str = "127.0.0.1"
    port: int = 8000
    contracts: tuple[str, ...] = ()
    ref: str = ""


_HERE: Final = Hosting()


def hosting(environment: Mapping[str, str], sagemaker_model: Path = SAGEMAKER_MODEL) -> Hosting:
    """Return what the platform says that Vertex AI, SageMaker, Cloud Run or Knative is.

    `STEELYARD_REF` names the model on any of them; a `PORT` without a platform is only the default
    port. Raises UsageError for a port that is none.

    >>> hosting({"K_SERVICE": "churn", "PORT": "8080"})
    Hosting(host='0.0.0.0', port=8080, contracts=(), ref='')
    """
    ref = environment.get("STEELYARD_REF", "")
    if "AIP_HTTP_PORT" in environment:
        port = _port(environment, "AIP_HTTP_PORT", 8080)
        return Hosting(_ANY, port, ("vertex",), ref or environment.get("AIP_STORAGE_URI", ""))
    if sagemaker_model.is_dir():
        port = _port(environment, "SAGEMAKER_BIND_TO_PORT", 8080)
        return Hosting(_ANY, port, ("sagemaker",), ref or str(sagemaker_model))
    host = _ANY if "K_SERVICE" in environment else _HERE.host
    return Hosting(host, _port(environment, "PORT", _HERE.port), (), ref)


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= _PORTS:
        return int(text)
    raise UsageError(f"{name} must be a port from 0 to {_PORTS}; got {text[:100]!r}.")
