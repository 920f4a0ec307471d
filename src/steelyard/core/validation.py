"""From bytes or Python objects to a row's values, or to the list of everything that is wrong.

A valid body takes one msgspec call. A body that this call refuses is read again field by field, with
the same types, so that every bad field is named; the two never disagree.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, UnsetType

from steelyard.core.fields import NULL_STRING, FieldSpec
from steelyard.core.json_text import (
    BODY,
    RowLimitError,
    check_row_count,
    field_error,
    holds_rows,
    lax_object,
    malformed,
    may_repeat,
    read_object,
    repeated_names,
    repeats,
    shown_raw,
    split_rows,
)
from steelyard.core.values import BAD_JSON, ValueCheck, WrongValueError
from steelyard.errors import InputError, nearest

__all__ = ["BODY", "RowDecoder", "RowLimitError"]

_LISTED_UNKNOWN = 20
_LONGEST_NAME = 100
_PLAIN: Final = frozenset([int, float, bool, str, type(None)])

Values = tuple[Any, ...]
Decoded = Values | list[Values | InputError]


class RowDecoder:
    """Checks rows against their fields; knows nothing but the `FieldSpec`s.

    Values come in the fields' order: int, float, bool, str, None, date, datetime (aware ones in
    UTC). Unknown fields are refused unless `allow_unknown`, and then ignored.

    >>> decoder = RowDecoder([FieldSpec("age", "int", ge=0)], allow_unknown=False)
    >>> decoder.decode_one(b'{"age": 31}')
    (31,)
    >>> decoder.decode_one(b'{"age": -1, "nmae": 2}')
    Traceback (most recent call last):
        ...
    steelyard.errors.InputError: age: expected an integer >= 0, got -1; nmae: unknown field, got 2
    """

    def __init__(self, fields: Sequence[FieldSpec], *, allow_unknown: bool) -> None:
        self.fields = tuple(fields)
        self.allow_unknown = allow_unknown
        self.checks = tuple(ValueCheck(field) for field in self.fields)
        """The check of each field's values."""
        self._places = {field.name: i for i, field in enumerate(self.fields)}
        self._defaults = [
            (i, field.absent) for i, field in enumerate(self.fields) if not field.required
        ]
        self._finishes = [
            (i, check.finish) for i, check in enumerate(self.checks) if check.finish is not None
        ]
        self._strings = [i for i, field in enumerate(self.fields) if field.kind == "str"]
        self._floats = [i for i, field in enumerate(self.fields) if field.kind == "float"]
        row = self._struct()
        self._type = row
        self._row = msgspec.json.Decoder(row).decode
        self._rows = _rows_decoder(row)
        self._astuple = cast(Callable[[Any], Values], msgspec.structs.astuple)

    def _struct(self) -> type[msgspec.Struct]:
        """Return the row as msgspec checks it; names are our own, so that any field name is safe."""
        members: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for i, check in enumerate(self.checks):
            if check.field.required:
                members.append((f"f{i}", check.type))
            else:
                members.append((f"f{i}", check.type | UnsetType, UNSET))
        return msgspec.defstruct(
            "_Row",
            members,
            rename={f"f{i}": field.name for i, field in enumerate(self.fields)},
            forbid_unknown_fields=not self.allow_unknown,
            kw_only=True,
            gc=False,
        )

    def decode(self, body: bytes, *, max_rows: int | None = None) -> Decoded:
        """Return the values of one row, or a list as `decode_many` does where the body holds rows.

        Raises InputError.
        """
        if not self.allow_unknown:
            values = self._decode_fast(body)  # stops at the first key where that is "rows"
            if values is not None:
                return values
        if holds_rows(body):
            return self.decode_many(body, max_rows=max_rows)
        return self.decode_one(body)

    def decode_one(self, body: bytes) -> Values:
        """Return the values of a row given as a JSON object.

        Raises InputError, which lists every bad field; an error about the whole body names `body`.
        """
        values = self._decode_fast(body)
        return self._decode_slow(body) if values is None else values

    def decode_many(self, body: bytes, *, max_rows: int | None = None) -> list[Values | InputError]:
        """Return the values of each row of `{"rows": [...]}`, or what is wrong with it.

        Raises InputError where the body is not of that form, RowLimitError where there are more
        than `max_rows` rows.
        """
        rows = self._decode_many_fast(body)
        if rows is None:
            return self._decode_many_slow(body, max_rows)
        check_row_count(len(rows), max_rows)
        return [*rows]

    def check_one(self, row: Mapping[str, Any], repeated: Sequence[str] = ()) -> Values:
        """Return the values of a row given as Python objects, by the same rules.

        Beside JSON's types, date, datetime and Decimal objects are read. `repeated` are names that
        whatever held the row had more than once. Raises InputError.
        """
        values = None if repeated else self._convert_fast(row)
        if values is not None:
            return values
        return self._checked(row, lambda check, value: check.from_python(value), repeated)

    def _convert_fast(self, row: Mapping[str, Any]) -> Values | None:
        """Return the values of a valid row of JSON's types; None where another look is needed."""
        given = row.values()
        if type(row) is not dict or not _PLAIN.issuperset(map(type, given)):
            return None
        text = "".join([value for value in given if type(value) is str])
        try:
            if not text.isascii():
                text.encode()  # refuses halves of characters
            values = self._astuple(msgspec.convert(row, self._type))
        except BAD_JSON:
            return None
        if self._defaults:
            values, _ = self._filled(values)
        for i in self._floats:
            if values[i] is not None and not math.isfinite(values[i]):
                return None
        return self._finish(values, not text.isascii())

    def _decode_fast(self, body: bytes) -> Values | None:
        """Return the values of a valid body; None where another look is needed."""
        try:
            values = self._astuple(self._row(body))
        except BAD_JSON:
            return None
        present = len(values)
        if self._defaults:
            values, present = self._filled(values)
        # No fewer colons than keys: as many as there are fields leaves none for a repeated key.
        if body.count(b":") != present and may_repeat(body, present) and repeats(body):
            return None
        return self._finish(values, _may_hold_null(body))

    def _filled(self, values: Values) -> tuple[Values, int]:
        """Return values with defaults in the places of absent fields, and how many were present."""
        filled = list(values)
        present = len(filled)
        for i, default in self._defaults:
            if filled[i] is UNSET:
                filled[i] = default
                present -= 1
        return tuple(filled), present

    def _finish(self, values: Values, may_hold_null: bool) -> Values | None:
        if may_hold_null and any(values[i] == NULL_STRING for i in self._strings):
            return None
        if not self._finishes:
            return values
        finished = list(values)
        try:
            for i, finish in self._finishes:
                finished[i] = finish(finished[i])
        except (ValueError, OverflowError):
            return None
        return tuple(finished)

    def _decode_many_fast(self, body: bytes) -> list[Values] | None:
        # Rows of nothing but defaults could come in millions; the slow way stops at the limit.
        if len(self._defaults) == len(self.fields):
            return None
        try:
            rows = list(map(self._astuple, self._rows(body)))
        except BAD_JSON:
            return None
        present = 1 + len(rows) * len(self.fields)
        if self._defaults:
            filled = [self._filled(row) for row in rows]
            rows, present = [row for row, _ in filled], 1 + sum(count for _, count in filled)
        if body.count(b":") != present and may_repeat(body, present):
            return None
        may_hold_null = _may_hold_null(body)
        if not (may_hold_null or self._finishes):
            return rows
        finished = [self._finish(row, may_hold_null) for row in rows]
        return None if None in finished else cast(list[Values], finished)

    def _decode_many_slow(self, body: bytes, max_rows: int | None) -> list[Values | InputError]:
        rows, trouble = split_rows(body, max_rows)
        outcomes: list[Values | InputError] = []
        for row in rows:
            try:
                outcomes.append(self.decode_one(row))
            except InputError as error:
                outcomes.append(error)
        if trouble and not any(isinstance(outcome, InputError) for outcome in outcomes):
            raise trouble
        return outcomes

    def _decode_slow(self, body: bytes) -> Values:
        """Read the fields of an object one by one; list what is wrong with each."""
        try:
            row = read_object(body)
        except BAD_JSON as error:
            lax = lax_object(body)
            if lax is not None:
                self.check_one(lax)  # names the field that holds NaN or broken text
            raise malformed(body, error) from None
        repeated = repeated_names(body) if repeats(body) else ()
        return self._checked(row, lambda check, raw: check.from_json(raw), repeated)

    def _checked(
        self,
        row: Mapping[str, Any],
        read: Callable[[ValueCheck, Any], Any],
        repeated: Sequence[str] = (),
    ) -> Values:
        errors: list[dict[str, Any]] = []
        values: list[Any] = []
        for check, field in zip(self.checks, self.fields, strict=True):
            if field.name not in row:
                values.append(field.absent)
                if field.required:
                    errors.append(field_error(field.name, f"{check.expected}; it is missing", None))
                continue
            try:
                values.append(read(check, row[field.name]))
            except WrongValueError as wrong:
                errors.append(field_error(field.name, wrong.message, wrong.got))
        if not self.allow_unknown:
            errors += self._unknown(row)
        for name in repeated[:_LISTED_UNKNOWN]:
            errors.append(field_error(name, "expected once; the object repeats it", None))
        if errors:
            raise InputError(errors)
        return tuple(values)

    def _unknown(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        names = [name for name in row if name not in self._places]
        errors = []
        for name in names[:_LISTED_UNKNOWN]:
            guess = nearest(str(name), self._places) if len(str(name)) <= _LONGEST_NAME else ""
            hint = f". {guess}" if guess.startswith("Did you mean") else ""
            errors.append(field_error(name, f"unknown field{hint}", shown_raw(row[name])))
        if len(names) > _LISTED_UNKNOWN:
            more = len(names) - _LISTED_UNKNOWN
            errors.append(field_error(BODY, f"and {more} more unknown fields", None))
        return errors


def _rows_decoder(row: type[msgspec.Struct]) -> Callable[[bytes], list[msgspec.Struct]]:
    table: Any = msgspec.defstruct("_Rows", [("rows", list[row])], forbid_unknown_fields=True)  # type: ignore[valid-type]
    decode = msgspec.json.Decoder(table).decode
    return lambda body: cast(list[msgspec.Struct], decode(body).rows)


def _may_hold_null(body: bytes) -> bool:
    """Return whether `NULL_STRING` can stand in the body, raw or escaped."""
    return not body.isascii() or b"\\" in body
