"""What MLflow is told of a run and a version, in the form and within the limits that it takes."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from steelyard.core.hashing import canonical_json
from steelyard.core.person import current_user
from steelyard.core.ports import RunRecord
from steelyard.core.records import Check, Version

__all__ = [
    "PREFIX",
    "artifacts_of",
    "batches",
    "keys_of",
    "run_tags",
    "version_note",
    "version_tags",
]

PREFIX: Final = "steelyard."
_WAIVER: Final = f"{PREFIX}waiver."
_CARD: Final = "card.md"
_NOT_KEY: Final = re.compile(r"[^\w.\- /]+", re.ASCII)
# What every MLflow 3 server takes; later ones take more.
_LONGEST_KEY: Final = 250
_LONGEST_VALUE: Final = 5000
_LONGEST_PARAM: Final = 6000
_ENTRIES: Final = 100


def keys_of(names: Iterable[str]) -> dict[str, str]:
    """Return name -> a key that MLflow takes, a different one for each name.

    >>> keys_of(["roc_auc", "f1 [Contract=Two year]", "f1 [Contract:Two year]"])["roc_auc"]
    'roc_auc'
    >>> list(keys_of(["a?", "a!"]).values())
    ['a', 'a_2']
    """
    keys: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        # A key is a path to MLflow, which takes none that climbs or has empty steps.
        steps = [step.strip("_ ") for step in _NOT_KEY.sub("_", name).split("/")]
        steps = [step for step in steps if step.strip(".")]
        base = key = "/".join(steps)[: _LONGEST_KEY - 4] or "_"
        number = 1
        while key in taken:
            number += 1
            key = f"{base}_{number}"
        keys[name] = key
        taken.add(key)
    return keys


def _shown(check: Check) -> str:
    return f"{check.gate}: {check.name}"


def run_tags(run: RunRecord) -> dict[str, str]:
    """Return a run's tags: its lineage, its verdict, what failed and what was waived by whom.

    Given tags without a dot in their name are put under `steelyard.`.
    """
    verdict = run.verdict
    keys = keys_of(name if "." in name else f"{PREFIX}{name}" for name in run.tags)
    tags = {key: str(value) for key, value in zip(keys.values(), run.tags.values(), strict=True)}
    tags |= {
        f"{PREFIX}bundle": verdict.bundle,
        f"{PREFIX}provenance": verdict.provenance,
        f"{PREFIX}verdict": verdict.hash,
        f"{PREFIX}passed": str(verdict.passed).lower(),
        "mlflow.user": current_user(),
        "mlflow.source.name": "steelyard run",
    }
    failed = [_shown(check) for check in verdict.checks if not (check.passed or check.waived)]
    if failed:
        tags[f"{PREFIX}failed"] = "; ".join(failed)
    waived = {check.gate: check.waived for check in verdict.checks if check.waived}
    if waived:
        tags[f"{PREFIX}waived"] = ", ".join(sorted(waived))
    for gate, waiver in waived.items():
        tags[f"{_WAIVER}{gate}"] = f"{waiver['reason']} ({waiver['by']}, {waiver['at']})"
    if _CARD in run.documents:
        tags["mlflow.note.content"] = run.documents[_CARD].decode("utf-8", "replace")
    return {name: value[:_LONGEST_VALUE] for name, value in tags.items()}


def version_tags(version: Version, run: Mapping[str, str]) -> dict[str, str]:
    """Return a version's tags: those of the run that made it, and what the ledger says of it."""
    kept = {n: v for n, v in run.items() if n.startswith(PREFIX) and n != f"{PREFIX}version"}
    return kept | {
        f"{PREFIX}version": str(version.number),
        f"{PREFIX}bundle": version.bundle,
        f"{PREFIX}provenance": version.provenance,
        f"{PREFIX}verdict": version.verdict,
        f"{PREFIX}passed": str(version.passed).lower(),
        f"{PREFIX}at": version.at,
        f"{PREFIX}by": version.by,
    }


def version_note(version: Version, tags: Mapping[str, str]) -> str:
    """Return a version's description in Markdown; what was waived stands first."""
    waived = [
        f"**Waived: {name.removeprefix(_WAIVER)}** · {text}"
        for name, text in sorted(tags.items())
        if name.startswith(_WAIVER)
    ]
    verdict = "passed" if version.passed else "**refused**"
    if failed := tags.get(f"{PREFIX}failed"):
        verdict += f" ({failed})"
    lines = [
        *waived,
        f"`{version.reference}`, registered {version.at} by {version.by}",
        f"Verdict: {verdict}",
        f"Bundle `{version.bundle}`",
    ]
    return "\n\n".join(lines)


def artifacts_of(run: RunRecord) -> dict[str, bytes]:
    """Return path -> bytes of what is kept with a run: verdict, documents, plots."""
    plots = {f"plots/{n if n.endswith('.png') else n + '.png'}": d for n, d in run.plots.items()}
    return {"verdict.json": canonical_json(run.verdict.document()), **run.documents, **plots}


def batches(run: RunRecord, *, identifier: str, model: str, at: int) -> Iterator[dict[str, Any]]:
    """Yield the parameters and metrics of a run as arguments of MLflow's `log_batch`.

    Metrics are told of the run and of its model, at `at` milliseconds since 1970.
    """
    from mlflow.entities import Metric, Param

    names = keys_of(run.params)
    params = [Param(names[n], str(value)[:_LONGEST_PARAM]) for n, value in run.params.items()]
    names = keys_of(run.metrics)
    metrics = [
        Metric(names[n], float(value), at, 0, model_id=model, run_id=identifier)
        for n, value in run.metrics.items()
    ]
    for start in range(0, max(len(params), len(metrics)), _ENTRIES):
        part = slice(start, start + _ENTRIES)
        yield {"params": params[part], "metrics": metrics[part]}
