"""A table of numbers and strings inside a graph: one wide matrix for each kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import spox
import spox.opset.ai.onnx.v21 as op

from steelyard.errors import CompileError

__all__ = ["Frame", "frame_of", "number_frame", "side_by_side"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """D columns, each a column of `numbers` [N, P] float64 or of `strings` [N, S].

    `where` says for each column whether it is a string and its place in its matrix. Selecting
    columns only changes `where`; the matrix is cut when it is needed.
    """

    numbers: spox.Var | None
    strings: spox.Var | None
    where: tuple[tuple[bool, int], ...]

    @property
    def kinds(self) -> tuple[bool, ...]:
        """Whether each column is a string."""
        return tuple(is_string for is_string, _ in self.where)

    def select(self, columns: Sequence[int]) -> "Frame":
        """Return the columns at these places, in that order."""
        return replace(self, where=tuple(self.where[i] for i in columns))

    def part(self, strings: bool) -> spox.Var | None:
        """Return the matrix of the columns of one kind, in order; None where there are none."""
        places = [place for is_string, place in self.where if is_string == strings]
        matrix = self.strings if strings else self.numbers
        if matrix is None or not places:
            return None
        width = matrix.unwrap_tensor().shape
        if width is not None and width[1] == len(places) and places == sorted(set(places)):
            return matrix
        return op.gather(matrix, op.const(np.array(places, dtype=np.int64)), axis=1)

    def matrix(self, path: str) -> spox.Var:
        """Return all columns [N, D] float64. Raises CompileError where one holds strings."""
        found = self.part(strings=False)
        if any(self.kinds) or found is None:
            raise CompileError(
                f"pipeline part `{path}` takes numbers, and is given strings or nothing",
                fix="Encode string columns before it (OneHotEncoder, OrdinalEncoder).",
            )
        return found


def number_frame(matrix: spox.Var, columns: int) -> Frame:
    """Return the frame of a matrix [N, columns] float64."""
    return Frame(matrix, None, tuple((False, i) for i in range(columns)))


def _stack(columns: Sequence[spox.Var]) -> spox.Var | None:
    if not columns:
        return None
    wide = [op.unsqueeze(column, op.const([1])) for column in columns]
    return op.concat(wide, axis=1) if len(wide) > 1 else wide[0]


def _is_string(var: spox.Var) -> bool:
    return var.unwrap_tensor().dtype.kind in "UTO"


def frame_of(columns: Mapping[str, spox.Var]) -> Frame:
    """Return the frame of columns [N]; whatever is no string becomes float64, as in training."""
    strings = [var for var in columns.values() if _is_string(var)]
    numbers = [op.cast(var, to=np.float64) for var in columns.values() if not _is_string(var)]
    places = {True: 0, False: 0}
    where = []
    for var in columns.values():
        kind = _is_string(var)
        where.append((kind, places[kind]))
        places[kind] += 1
    return Frame(_stack(numbers), _stack(strings), tuple(where))


def side_by_side(frames: Sequence[Frame]) -> Frame:
    """Return all columns of the frames, in order."""
    matrices: dict[bool, list[Any]] = {True: [], False: []}
    places = {True: 0, False: 0}
    where = []
    for frame in frames:
        for is_string in (True, False):
            part = frame.part(is_string)
            if part is not None:
                matrices[is_string].append(part)
        for is_string in frame.kinds:
            where.append((is_string, places[is_string]))
            places[is_string] += 1

    def joined(parts: list[Any]) -> spox.Var | None:
        if not parts:
            return None
        return op.concat(parts, axis=1) if len(parts) > 1 else parts[0]

    return Frame(joined(matrices[False]), joined(matrices[True]), tuple(where))
