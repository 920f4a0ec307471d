"""The layout of a packed row: which value stands where in the few wide inputs of `packed.onnx`.

`numbers` float64 [N, D] holds raw numbers and the codes of categories; `integers` int64 [N, I]
holds what float64 cannot hold exactly; `strings` [N, S] what row features read as text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.fields import NULL_STRING, FieldSpec
from steelyard.features.columns import to_wire
from steelyard.features.parts import Columns

__all__ = ["Packer", "Packing"]

_BY_COLUMNS: Final = 8
"""Rows from which on it is quicker to go through them column by column."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Column names by input.

    `codes` maps a column to its categories' codes, `unseen` to the code of any other category
    (None is NaN). A column with codes stands in `numbers` as its code.
    """

    numbers: tuple[str, ...]
    integers: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()
    codes: Mapping[str, Mapping[str, float]] | None = None
    unseen: Mapping[str, float | None] | None = None

    def document(self) -> dict[str, Any]:
        """Return the layout as JSON values; `of` reads it back."""
        return {
            "numbers": list(self.numbers),
            "integers": list(self.integers),
            "strings": list(self.strings),
            "codes": {name: dict(codes) for name, codes in (self.codes or {}).items()},
            "unseen": dict(self.unseen or {}),
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Packing":
        """Read a layout from its document."""
        return cls(
            tuple(document["numbers"]),
            tuple(document["integers"]),
            tuple(document["strings"]),
            document["codes"],
            document["unseen"],
        )


class _Codes(dict[str | None, float]):
    """Category -> code, with one answer for all that are unseen."""

    def __init__(self, codes: Mapping[str, float], unseen: float | None) -> None:
        super().__init__()
        self.update(codes)
        self.unseen = float("nan") if unseen is None else unseen
        # Rows hold null as None; columns hold it as NULL_STRING. Both find the same code.
        self[None] = self.get(NULL_STRING, self.unseen)

    def __missing__(self, key: object) -> float:
        return self.unseen


class Packer:
    """Turns validated rows, or columns, into the inputs of the packed graph."""

    def __init__(self, packing: Packing, fields: Sequence[FieldSpec]) -> None:
        self._fields = {field.name: field for field in fields}
        self._packing = packing
        place = {field.name: i for i, field in enumerate(fields)}
        self._numbers = [place[name] for name in packing.numbers]
        codes, unseen = packing.codes or {}, packing.unseen or {}
        self._coded = [
            (j, _Codes(codes[name], unseen[name]))
            for j, name in enumerate(packing.numbers)
            if name in codes
        ]
        # Dates among the numbers become days; every other number stands for itself, None for NaN.
        self._dates = [
            (j, self._fields[name])
            for j, name in enumerate(packing.numbers)
            if self._fields[name].temporal
        ]
        self._integers = [(place[name], self._fields[name]) for name in packing.integers]
        self._strings = [place[name] for name in packing.strings]
        self._get = itemgetter(*self._numbers) if len(self._numbers) > 1 else self._get_few

    def _get_few(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(row[i] for i in self._numbers)

    def pack_many(self, rows: Sequence[Sequence[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs [N, ...] of N rows of validated values in field order."""
        feeds: dict[str, npt.NDArray[Any]] = {}
        if self._numbers:
            feeds["numbers"] = self._numbers_of(rows)
        if self._integers:
            whole = [[to_wire(field, row[i]) for i, field in self._integers] for row in rows]
            feeds["integers"] = np.array(whole, dtype=np.int64)
        if self._strings:
            text = np.empty((len(rows), len(self._strings)), dtype=object)
            for n, row in enumerate(rows):
                text[n] = [NULL_STRING if row[i] is None else row[i] for i in self._strings]
            feeds["strings"] = text
        return feeds

    def _numbers_of(self, rows: Sequence[Sequence[Any]]) -> npt.NDArray[np.float64]:
        if len(rows) >= _BY_COLUMNS:
            columns: list[Any] = list(self._get(list(zip(*rows, strict=True))))
            for j, codes in self._coded:
                columns[j] = list(map(codes.__getitem__, columns[j]))
            for j, field in self._dates:
                columns[j] = [to_wire(field, value) for value in columns[j]]
            return np.ascontiguousarray(np.array(columns, dtype=np.float64).T)
        table = []
        for row in rows:
            values = list(self._get(row))
            for j, codes in self._coded:
                values[j] = codes[values[j]]
            for j, field in self._dates:
                values[j] = to_wire(field, values[j])
            table.append(values)
        return np.array(table, dtype=np.float64)

    def code_of(self, name: str) -> Callable[[str | None], float] | None:
        """Return what gives the code of a column's categories, where it has codes."""
        found = next((c for j, c in self._coded if self._packing.numbers[j] == name), None)
        return None if found is None else found.__getitem__

    def pack_columns(
        self, columns: Columns, codes: Columns | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs [N, ...] of columns [N] in the column representation.

        A column whose `codes` [N] are given need not be there itself.
        """
        packing, codes = self._packing, codes or {}
        feeds: dict[str, npt.NDArray[Any]] = {}
        rows = len(next(iter([*columns.values(), *codes.values()])))
        if packing.numbers:
            numbers = np.empty((rows, len(packing.numbers)))
            coded = dict(self._coded)
            for j, name in enumerate(packing.numbers):
                if name in codes:
                    numbers[:, j] = codes[name]
                    continue
                column = columns[name]
                table = coded.get(j)
                numbers[:, j] = column if table is None else [table[v] for v in column.tolist()]
            feeds["numbers"] = numbers
        if packing.integers:
            feeds["integers"] = np.column_stack([columns[name] for name in packing.integers])
        if packing.strings:
            feeds["strings"] = np.column_stack([columns[name] for name in packing.strings])
        return feeds
