"""Load a bundle and answer. Needs the base install only and runs no code from the bundle."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import onnxruntime

from steelyard.bundle.fallback import Fallback
from steelyard.bundle.format import read_verified
from steelyard.bundle.guards import Checked, Guard, UnfitAnswerError
from steelyard.bundle.outputs import Answer, Guarded, Outputs
from steelyard.bundle.packing import Packer, Packing
from steelyard.bundle.session import open_session
from steelyard.core.fields import FieldSpec, fields_from_json_schema
from steelyard.core.reference import check_name
from steelyard.core.validation import RowDecoder
from steelyard.errors import InputError, IntegrityError, SteelyardError
from steelyard.features.parts import Columns, Scores

__all__ = ["Answer", "Canonical", "Guarded", "Predictor", "close_to"]

_log = logging.getLogger(__name__)

_CHUNK: Final = 16_384
_TOLERANCE: Final = 1e-5
_MARGIN: Final = 1e-6
_SHOWN: Final = 300
_SCORES: Final = ["scores"]
_NO_BASELINE: Final = b'{"features":{},"outputs":{}}'
"""While a bundle is compiled: its baseline tells what its graph answers."""


def close_to(value: float, reference: float) -> bool:
    """Return whether a number is within the parity bound of its reference."""
    return abs(value - reference) <= _TOLERANCE * max(1.0, abs(reference))


class Predictor:
    """A verified bundle, ready to answer.

    `bundle` is its hash, `fields` the row in column order, `schema` the row's JSON Schema,
    `classes` the labels in the order of probabilities (None for regression), `baseline` the profile
    of the training rows and of the outputs for them, `collapse_rule` how the definition wants the
    collapse alarm.
    """

    def __init__(self, files: Mapping[str, bytes], bundle: str) -> None:
        document = json.loads(files["model.json"])
        self.bundle = bundle
        self.model: str = check_name(document["model"])  # it names a folder of the log
        self.label: str = document["label"]
        self.baseline: dict[str, Any] = json.loads(files.get("baseline.json", _NO_BASELINE))
        self.features: tuple[str, ...] = tuple(document["features"])
        self.schema: dict[str, Any] = json.loads(files["schema.json"])
        self.fields: tuple[FieldSpec, ...] = fields_from_json_schema(self.schema)
        self.allow_unknown: bool = self.schema["additionalProperties"]
        self.decoder = RowDecoder(self.fields, allow_unknown=self.allow_unknown)
        self._outputs = Outputs(document)
        self.task = self._outputs.task
        self.classes = self._outputs.classes
        self.threshold = self._outputs.threshold
        packing = Packing.of(document["packing"])
        self.coded: frozenset[str] = frozenset(packing.codes or ())
        """Columns whose categories are known by their codes."""
        self.inputs = tuple(dict.fromkeys((*packing.numbers, *packing.integers, *packing.strings)))
        """Columns that the graph reads."""
        self._packer = Packer(packing, self.fields)
        guards = json.loads(files.get("guards.json", b"{}"))
        self.guard = Guard(guards, self.fields, packing)
        self.collapse_rule: dict[str, Any] = guards.get("collapse", {})
        self._session = open_session(files["packed.onnx"])
        self.fallback = Fallback(files, self.fields, self._outputs)
        # There are none yet while the bundle is made: they are answered by this very object.
        golden = files.get("golden.jsonl", b"")
        self._golden = [json.loads(line) for line in golden.split(b"\n") if line]

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        expected: str | None = None,
        previous: tuple[Path, str] | None = None,
    ) -> "Predictor":
        """Verify a bundle's files and golden rows and make it ready.

        `previous` is the folder and the hash of the bundle that its fallback may answer by; where
        that one cannot be used, a warning is logged and the rest of the fallback is left. Raises IntegrityError, naming the file, where bytes differ from what was sealed, or where a
        golden row is not answered within the parity bound on this machine.
        """
        files, bundle = read_verified(folder, expected)
        try:
            predictor = cls(files, bundle)
            problems = predictor.golden_problems()
        except Exception as error:  # a bundle that was made elsewhere may hold anything
            reason = str(error)[:_SHOWN] or type(error).__name__
            raise IntegrityError(
                f"{folder} is sealed, but no bundle that can be run: {reason}",
                fix="Serve a version that Steelyard made and registered.",
            ) from error
        for problem in problems:
            raise IntegrityError(
                f"golden.jsonl in {folder}: {problem}.",
                fix="This machine's onnxruntime answers differently; use the locked version.",
            )
        if previous is not None:
            try:
                other = cls.load(previous[0], expected=previous[1])
                predictor.fallback = predictor.fallback.after(other)
            except SteelyardError as error:
                _log.warning(
                    "%s cannot fall back on its champion before: %s", predictor.model, error
                )
        return predictor

    def golden_rows(self) -> list[tuple[Any, ...]]:
        """Return the rows, as checked values, whose answers were recorded when it was sealed."""
        return [self.decoder.check_one(record["row"]) for record in self._golden]

    def golden_problems(self) -> list[str]:
        """Answer the golden rows; return what differs from the recorded answers."""
        problems = [] if self._golden else ["it holds no row"]
        rows = self.golden_rows()
        for i, (record, found) in enumerate(
            zip(self._golden, self.predict_many(rows), strict=True)
        ):
            expected = (record["prediction"], record["probabilities"])
            if self._differ(found, expected):
                problems.append(f"row {i + 1}: expected {expected}, got {found}")
        if self.fallback.by_rule:
            spare = self.fallback.answer_many(rows)
            for i, (record, other) in enumerate(zip(self._golden, spare, strict=True)):
                if self._differ(other, record["fallback"]):
                    told = f"expected the fallback {record['fallback']}, got {other}"
                    problems.append(f"row {i + 1}: {told}")
        return problems

    def _differ(self, found: Answer | None, expected: Sequence[Any] | None) -> bool:
        """Return whether an answer is not, within the parity bound, the recorded one."""
        if found is None or expected is None:
            return found is not None or expected is not None
        (prediction, scores), (label, recorded) = found, expected
        if scores is None:
            return not close_to(cast(float, prediction), label)
        sure = self._margin(recorded) > _MARGIN
        near = all(close_to(a, b) for a, b in zip(scores, recorded, strict=True))
        return not near or (sure and prediction != label)

    def _margin(self, probabilities: Sequence[float]) -> float:
        if self.task == "binary":
            return abs(probabilities[1] - self.threshold)
        first, second = sorted(probabilities, reverse=True)[:2]
        return first - second

    def pack(self, rows: Sequence[Sequence[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Return the packed form of N rows, for `run` and for `guard`."""
        return self._packer.pack_many(rows)

    def pack_columns(
        self, columns: Columns, codes: Columns | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Return the packed form of columns [N] in the column representation.

        A column whose `codes` [N] are given, made by `code_of`, need not be there itself.
        """
        return self._packer.pack_columns(columns, codes)

    def code_of(self, name: str) -> Callable[[str | None], float] | None:
        """Return what gives the code of a column's categories, where it has codes."""
        return self._packer.code_of(name)

    def run(
        self, feeds: Mapping[str, npt.NDArray[Any]], options: onnxruntime.RunOptions | None = None
    ) -> list[Answer]:
        """Answer N packed rows; `options` may stop the call from another thread."""
        scores = self._session.run(_SCORES, feeds, options)[0]
        return [self._outputs.one(line) for line in scores.tolist()]

    def predict_one(self, row: Sequence[Any]) -> Answer:
        """Answer one row of validated values in field order: prediction, class probabilities."""
        return self.predict_many((row,))[0]

    def predict_many(self, rows: Sequence[Sequence[Any]]) -> list[Answer]:
        """Answer N rows; each answer has the bits that `predict_one` gives for its row."""
        answers: list[Answer] = []
        for start in range(0, len(rows), _CHUNK):
            answers += self.run(self.pack(rows[start : start + _CHUNK]))
        return answers

    def answer_some(
        self,
        rows: Sequence[Sequence[Any]],
        options: onnxruntime.RunOptions | None = None,
        feeds: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> tuple[list[Answer], list[Checked] | None]:
        """Answer rows of one call; return beside it what the guards say of each, if anything.

        `feeds` are the rows packed, where that was done.
        """
        feeds = feeds or self.pack(rows)
        before = self.guard.check(rows, feeds)
        answers = self.run(feeds, options)
        after = self.guard.check_answers(answers)
        if before is None or after is None:
            return answers, before or after
        return answers, [_both(*pair) for pair in zip(before, after, strict=True)]

    def answer_many(self, rows: Sequence[Sequence[Any]]) -> list[Guarded | InputError]:
        """Answer N rows with their flags, by the fallback where the model's answer is unfit.

        An InputError stands for a row that a guard refuses, or for which there is no answer.
        """
        found: list[Guarded | InputError] = []
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            answers, checked = self.answer_some(part)
            judged = checked or [()] * len(answers)
            for row, answer, one in zip(part, answers, judged, strict=True):
                if isinstance(one, UnfitAnswerError):
                    spare = self.fallback.answer_one(row)
                    found.append(one if spare is None else Guarded(spare, one.flags, one.reason))
                else:
                    found.append(one if isinstance(one, InputError) else Guarded(answer, one))
        return found

    def predict_columns(self, columns: Columns) -> Scores:
        """Answer N rows given as columns [N] in the column representation."""
        rows = len(next(iter(columns.values())))
        parts = [np.empty((0, len(self.classes) if self.classes else 1))]
        for start in range(0, rows, _CHUNK):
            chunk = {name: column[start : start + _CHUNK] for name, column in columns.items()}
            parts.append(self._session.run(_SCORES, self._packer.pack_columns(chunk))[0])
        return self._outputs.many(np.concatenate(parts))


def _both(before: Checked, after: Checked) -> Checked:
    if isinstance(before, InputError):
        return before
    if isinstance(after, UnfitAnswerError):
        return UnfitAnswerError(after.errors, after.reason, before)
    return after if isinstance(after, InputError) else before + after


class Canonical:
    """The canonical graph of a bundle, `model.onnx`, as another runtime would run it."""

    def __init__(self, folder: Path) -> None:
        document = json.loads((folder / "model.json").read_bytes())
        self._outputs = Outputs(document)
        self._session = open_session((folder / "model.onnx").read_bytes())
        self._inputs = [found.name for found in self._session.get_inputs()]

    def predict_columns(self, columns: Columns) -> Scores:
        """Answer N rows given as columns [N] in the column representation."""
        rows = len(next(iter(columns.values())))
        predictions, probabilities = [], []
        for start in range(0, rows, _CHUNK):
            feeds = {
                name: columns[name.removeprefix("column_") if name not in columns else name][
                    start : start + _CHUNK
                ]
                for name in self._inputs
            }
            found = self._session.run(None, feeds)
            predictions.append(found[0])
            probabilities += found[1:]
        return Scores(
            np.concatenate(predictions),
            np.concatenate(probabilities) if probabilities else None,
            self._outputs.classes,
        )
