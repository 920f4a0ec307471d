"""The files by which MLflow reads a bundle as a model. They lie beside it, outside its hash."""

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from steelyard.bundle.format import MANIFEST
from steelyard.core.answers import class_keys
from steelyard.core.fields import FieldSpec, fields_from_json_schema
from steelyard.core.files import atomic_write

__all__ = ["ENTRY", "PROBABILITY", "describe", "model_files", "model_paths"]

ENTRY: Final = "MLmodel"
PROBABILITY: Final = "probability_"
"""What a class's key follows in the name of its column of probabilities."""
_VIRTUALENV: Final = "mlflow/python_env.yaml"
_CONDA: Final = "mlflow/conda.yaml"
_LOADER: Final = "steelyard.adapters.mlflow.pyfunc"
_TYPES: Final = {
    "int": "long",
    "float": "double",
    "bool": "boolean",
    "str": "string",
    "date": "datetime",
    "datetime": "datetime",
}
_LABELS: Final = {bool: "boolean", int: "long", str: "string"}


def _column(name: str, kind: str, *, required: bool = True) -> dict[str, Any]:
    return {"type": kind, "name": name, "required": required}


def _inputs(fields: tuple[FieldSpec, ...]) -> list[dict[str, Any]]:
    return [_column(f.name, _TYPES[f.kind], required=f.required) for f in fields]


def _outputs(classes: list[str | int | bool] | None) -> list[dict[str, Any]]:
    if classes is None:
        return [_column("prediction", "double")]
    columns = [_column("prediction", _LABELS[type(classes[0])])]
    return columns + [_column(f"{PROBABILITY}{key}", "double") for key in class_keys(classes)]


def model_files(bundle: Path, digest: str) -> dict[str, bytes]:
    """Return path -> bytes of MLflow's description of the bundle with hash `digest`.

    JSON is YAML, and needs no writer of it. There are no times in it: the bundle has none.
    """
    model = json.loads((bundle / "model.json").read_bytes())
    fields = fields_from_json_schema(json.loads((bundle / "schema.json").read_bytes()))
    packages = [f"{name}=={metadata.version(name)}" for name in ("steelyard", "mlflow")]
    python = platform.python_version()
    entry = {
        "flavors": {
            "python_function": {
                "loader_module": _LOADER,
                "python_version": python,
                "env": {"conda": _CONDA, "virtualenv": _VIRTUALENV},
            }
        },
        "signature": {
            "inputs": json.dumps(_inputs(fields)),
            "outputs": json.dumps(_outputs(model["classes"])),
            "params": None,
        },
        # The model checks its input itself. MLflow's own check would refuse whole numbers for a
        # float and nulls for an int, and its server would take "5" for 5.
        "is_signature_from_type_hint": True,
        "type_hint_from_example": False,
        "mlflow_version": metadata.version("mlflow"),
        "model_uuid": digest[:32],
        "metadata": {
            "steelyard": {"model": model["model"], "bundle": digest, "task": model["task"]}
        },
    }
    environment = {"python": python, "build_dependencies": [], "dependencies": packages}
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": packages}],
    }
    return {
        ENTRY: _text(entry),
        _VIRTUALENV: _text(environment),
        _CONDA: _text(conda),
    }


def _text(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


def describe(bundle: Path, digest: str) -> None:
    """Write MLflow's description beside a bundle's files, unless it is there."""
    if (bundle / ENTRY).is_file():
        return
    files = model_files(bundle, digest)
    # Last of all the file by which MLflow knows a model.
    for name in sorted(files, key=lambda name: name == ENTRY):
        atomic_write(bundle / name, files[name])


def model_paths(bundle: Path) -> list[Path]:
    """Return the files that make a bundle a model elsewhere: its own, and MLflow's description.

    What else may have come to lie beside them is no part of it.
    """
    listed = json.loads((bundle / MANIFEST).read_bytes())["files"]
    return [bundle / n for n in (MANIFEST, *sorted(listed), _VIRTUALENV, _CONDA, ENTRY)]
