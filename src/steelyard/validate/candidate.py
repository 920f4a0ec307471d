"""What is judged: a sealed bundle, the rows it learned from and was held from, and ways to ask it.

The flow fills it in; gates read nothing else.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from steelyard.core.definition import Model
from steelyard.features.parts import Columns, Part, Scores, Task
from steelyard.validate.rows import row_hashes

__all__ = ["Address", "Candidate", "ChampionEvidence", "Predict", "Rows"]

Rows = list[dict[str, Any]]
"""Rows as JSON objects."""

Predict = Callable[[Columns], Scores]
"""Answers N rows given as raw columns in the column representation."""


def _all_taken(rows: Rows) -> list[bool]:
    return [True] * len(rows)


@dataclass(frozen=True, slots=True)
class Address:
    """A started server: its base URL, as in `http://127.0.0.1:8080`, and the model it serves."""

    url: str
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class ChampionEvidence:
    """The version that answers now, and which rows it learned from.

    `predict` is None, with the `reason`, where it cannot answer these rows. `incompatible` says why
    its answers mean something else (another label, other classes). Of what it learned from, give
    `seen_rows`, row numbers, where it was trained on the same snapshot; else `seen_hashes`, made by
    `validate.rows.row_hashes` from its training part.
    """

    version: str
    predict: Predict | None = None
    reason: str | None = None
    incompatible: str | None = None
    seen_rows: npt.NDArray[np.int64] | None = None
    seen_hashes: npt.NDArray[np.uint64] | None = None

    def seen(self, part: Part) -> npt.NDArray[np.bool_]:
        """Return which rows of a part it learned from [N]; none where nothing is known."""
        mask = np.zeros(len(part), dtype=bool)
        if self.seen_rows is not None:
            mask |= np.isin(part.rows, self.seen_rows)
        if self.seen_hashes is not None:
            mask |= np.isin(row_hashes(part.columns, part.label, part.key), self.seen_hashes)
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A bundle to judge, with everything that the gates need.

    `counts` is the accounting of rows: `rows_in`, `good`, `bad`, `label_null`, `faults` (a list of
    `{field, reason, rows}`), `bad_file` (a path or None). Both parts have their features filled.
    `scores` is what the bundle answered on `test`. `model_features` are the features that the model
    sees, `uses` the raw columns behind each row feature. `canonical` and `packed` are the bundle's
    two graphs, `reference` the fitted pipeline in memory, for parity alone. `server` starts a real
    server and stops it on leaving; None where none can be started. `takes` tells which rows the
    guards leave to the model; others are refused, or the fallback answers.
    """

    definition: Model
    task: Task
    counts: Mapping[str, Any]
    train: Part
    test: Part
    scores: Scores
    model_features: tuple[str, ...]
    bundle: str
    provenance: str
    canonical: Predict
    packed: Predict
    reference: Predict
    server: Callable[[], AbstractContextManager[Address]] | None = None
    champion: ChampionEvidence | None = None
    train_scores: Scores | None = None
    uses: Mapping[str, frozenset[str]] = field(default_factory=dict)
    takes: Callable[[Rows], list[bool]] = _all_taken
