"""Gate schema: how many rows broke the row's declaration, and where every row of the table went."""

from collections.abc import Iterator
from typing import Any, Final

from steelyard.core.gates import Schema
from steelyard.core.records import Check
from steelyard.validate.candidate import Candidate
from steelyard.validate.evidence import found, percent
from steelyard.validate.settings import Settings

__all__ = ["check_schema"]

_SHOWN: Final = 20


def check_schema(candidate: Candidate) -> Iterator[Check]:
    """Judge the share of bad rows among labelled ones, and that no row was lost."""
    counts = candidate.counts
    limit = Settings.of(candidate.definition).schema.max_bad
    labelled = counts["good"] + counts["bad"]
    share = counts["bad"] / labelled if labelled else 0.0
    yield found(
        "schema",
        "bad rows",
        share <= limit,
        _bad_message(counts, share, limit),
        value=share,
        threshold=limit,
        flagged=limit > Schema().max_bad,
        bad=counts["bad"],
        labelled=labelled,
        faults=sorted(counts["faults"], key=lambda f: (-f["rows"], f["field"], f["reason"]))[
            :_SHOWN
        ],
        kinds_of_fault=len(counts["faults"]),
        bad_file=counts.get("bad_file"),
    )
    lost = counts["rows_in"] - labelled - counts["label_null"]
    told = "Every row of the table is accounted for."
    if lost:
        told = (
            f"{counts['rows_in']} rows came in but {labelled + counts['label_null']} are accounted "
            "for; report this as a defect of Steelyard."
        )
    yield found(
        "schema",
        "rows accounted for",
        lost == 0,
        told,
        value=lost,
        threshold=0,
        rows_in=counts["rows_in"],
        good=counts["good"],
        bad=counts["bad"],
        label_null=counts["label_null"],
    )


def _bad_message(counts: Any, share: float, limit: float) -> str:
    if not counts["bad"]:
        return "Every labelled row fits the row's declaration."
    worst = max(counts["faults"], key=lambda fault: fault["rows"], default=None)
    told = f"{counts['bad']} labelled rows are bad ({percent(share)})"
    if worst:
        told += f", most often {worst['field']!r}: {worst['reason']} in {worst['rows']}"
    kept = f" They are kept in {counts['bad_file']}." if counts.get("bad_file") else ""
    if share <= limit:
        return f"{told}.{kept}"
    return f"{told}; {percent(limit)} are allowed.{kept} Correct the table or the row's types."
