"""What a run leaves beside its bundle: provenance, documents, model card."""

import json
from collections.abc import Mapping
from typing import Any

from steelyard.core.definition import Model
from steelyard.core.environment import environment, lock_text, package_of
from steelyard.core.hashing import hash_bytes, hash_json
from steelyard.core.records import Verdict
from steelyard.flow.building import Table

__all__ = ["card", "documents_of", "provenance_of"]


def provenance_of(definition: Model, table: Table) -> dict[str, Any]:
    """Return the record from which a version can be made again. No times: they are in the ledger."""
    found = environment(package_of(definition.estimator))
    return {
        "model": definition.name,
        "snapshot": table.dataset.snapshot.id,
        "source": table.dataset.snapshot.source,
        "rows": {"train": len(table.train), "test": len(table.test)},
        "definition": {
            "file": definition.file_name,
            "variable": definition.variable,
            "sha256": hash_bytes(definition.source_text.encode()),
            "modules": {n: hash_bytes(t.encode()) for n, t in sorted(definition.modules.items())},
        },
        "params": dict(definition.params),
        "seed": definition.seed,
        "environment": found,
        "lock": hash_json(found["packages"]),
        "outputs": ["prediction"],
    }


def documents_of(
    definition: Model, provenance: Mapping[str, Any], verdict: Verdict, metrics: Mapping[str, float]
) -> dict[str, bytes]:
    """Return what is kept beside a version for people: source, lock, model card."""
    found = {
        f"definition/{definition.file_name}": definition.source_text.encode(),
        "requirements.txt": lock_text(provenance["environment"]),
        "card.md": card(definition, provenance, verdict, metrics).encode(),
    }
    for name, text in definition.modules.items():
        found[f"definition/{name}"] = text.encode()
    return found


def card(
    definition: Model, provenance: Mapping[str, Any], verdict: Verdict, metrics: Mapping[str, float]
) -> str:
    """Return the model card in Markdown."""
    rows = provenance["rows"]
    lines = [
        f"# {definition.name}",
        "",
        definition.description or "No description was given.",
        "",
        f"- Predicts `{definition.label}` with `{type(definition.estimator).__name__}`",
        f"- Trained on {rows['train']:,} rows, judged on {rows['test']:,} held-out rows",
        f"- Bundle `{verdict.bundle}`, snapshot `{provenance['snapshot']}`",
        "",
        "## Measured on the held-out rows",
        "",
        *[f"- {name}: {value:.5g}" for name, value in metrics.items()],
        "",
        f"## Verdict: {'passed' if verdict.passed else 'refused'}",
        "",
        "| gate | check | result | found | limit |",
        "|---|---|---|---|---|",
        *[_card_line(check) for check in verdict.checks],
        "",
        "## Row",
        "",
        *[
            f"- `{f.name}` {f.kind}{' or null' if f.optional else ''}"
            + (f": {f.description}" if f.description else "")
            for f in definition.fields
        ],
    ]
    return "\n".join(lines) + "\n"


def _card_line(check: Any) -> str:
    result = "passed" if check.passed else "failed"
    if check.waived:
        result = f"**waived** by {check.waived['by']}: {check.waived['reason']}"
    shown = [json.dumps(v) if v is not None else "" for v in (check.value, check.threshold)]
    return f"| {check.gate} | {check.name} | {result} | {shown[0]} | {shown[1]} |"
