"""Make a version again from its records, and compare."""

import json
import tempfile
from pathlib import Path
from typing import Any

from steelyard.core.config import Config
from steelyard.core.definition import Model
from steelyard.core.environment import environment, package_of
from steelyard.core.loading import load_definition
from steelyard.core.records import Version
from steelyard.errors import IntegrityError
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import resolved
from steelyard.flow.versions import differences
from steelyard.registry.ledger import Ledger

__all__ = ["reproduce_version"]


def reproduce_version(ref: str, config: Config) -> dict[str, Any]:
    """Train again from the recorded snapshot, definition, parameters and seed; compare the bundle.

    `equal` says whether the rebuilt bundle is the same, bit for bit. `differences` lists what is
    not as recorded: packages of the environment, and files of the bundle.
    """
    ledger, version, folder = resolved(ref, config)
    provenance = ledger.provenance(version)
    with tempfile.TemporaryDirectory(prefix="steelyard-") as scratch:
        definition = _definition(ledger, version, provenance, Path(scratch))
        table = read_table(definition, config, snapshot=provenance["snapshot"])
        built = build(definition, table, Path(scratch) / "bundles")
        rebuilt = json.loads((built.folder / "manifest.json").read_bytes())["files"]
    recorded = json.loads((folder / "manifest.json").read_bytes())["files"]
    now = environment(package_of(definition.estimator))
    return {
        "equal": built.bundle == version.bundle,
        "model": version.model,
        "version": version.number,
        "bundle": version.bundle,
        "rebuilt": built.bundle,
        "differences": [
            *differences(provenance["environment"], now, "environment"),
            *differences(recorded, rebuilt, "bundle"),
        ],
    }


def _definition(
    ledger: Ledger, version: Version, provenance: dict[str, Any], scratch: Path
) -> Model:
    """Load the definition's kept source, with its siblings, from a folder of its own."""
    kept = provenance["definition"]
    for name in (kept["file"], *kept["modules"]):
        if not name.endswith(".py") or "/" in name or name.startswith("."):
            raise IntegrityError(
                f"the definition of {version.reference} has a file {name[:100]!r}.",
                fix="Whoever recorded that was not Steelyard: do not run it.",
            )
        (scratch / name).write_bytes(ledger.document(version, f"definition/{name}"))
    params = {name: str(value) for name, value in provenance["params"].items()}
    return load_definition(f"{scratch / kept['file']}:{kept['variable']}", params)
