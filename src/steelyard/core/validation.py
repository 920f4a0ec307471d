"""The one check of a row, for requests and for rows from files.

Two ways lead to the same verdict: a compiled decoder that answers good input in under a
microsecond, and, where it refuses, a slow one that lists every bad field. The slow one decides.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from steelyard.core.fields import MISSING, NULL_STRING, FieldSpec
from steelyard.errors import InputError, nearest

__all__ = ["RowDecoder", "field_type"]

Values = tuple[Any, ...]

_LONGEST: Final = 100
_NULL_BYTES: Final = NULL_STRING.encode()
_ESCAPED: Final = re.compile(rb"\\u[fF][dD][dD]0")
_MANY: Final = re.compile(rb'\s*\{\s*"rows"\s*:')
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _bounds(field: FieldSpec) -> dict[str, Any]:
    """Return msgspec's limits of a number; an int always has those of its representation."""
    limits: dict[str, Any] = {}
    low, high = field.int_bounds
    if field.kind == "int":
        lows = [low]
        lows += [math.ceil(field.ge)] if field.ge is not None else []
        lows += [math.floor(field.gt) + 1] if field.gt is not None else []
        highs = [high]
        highs += [math.floor(field.le)] if field.le is not None else []
        highs += [math.ceil(field.lt) - 1] if field.lt is not None else []
        limits = {"ge": max(lows), "le": min(highs)}
    elif field.kind == "float":
        # msgspec takes one bound a side; of two the tighter one counts.
        if field.gt is not None and (field.ge is None or field.gt >= field.ge):
            limits["gt"] = field.gt
        elif field.ge is not None:
            limits["ge"] = field.ge
        if field.lt is not None and (field.le is None or field.lt <= field.le):
            limits["lt"] = field.lt
        elif field.le is not None:
            limits["le"] = field.le
    if field.multiple_of is not None:
        limits["multiple_of"] = field.multiple_of
    return limits


def field_type(field: FieldSpec) -> Any:
    """Return the msgspec type that checks one field."""
    if field.choices is not None:
        kind: Any = Literal[field.choices]
    elif field.kind == "datetime":
        kind = Annotated[datetime, msgspec.Meta(tz=field.aware)]
    elif field.kind == "str":
        text = {
            name: getattr(field, name)
            for name in ("min_length", "max_length", "pattern")
            if getattr(field, name) is not None
        }
        kind = Annotated[str, msgspec.Meta(**text)] if text else str
    else:
        base: Any = {"int": int, "float": float, "bool": bool, "date": date}[field.kind]
        limits = _bounds(field)
        kind = Annotated[base, msgspec.Meta(**limits)] if limits else base
    return kind | None if field.optional else kind


def _expected(field: FieldSpec) -> str:
    """Return what a field wants, in a person's words."""
    words = {
        "int": "an integer",
        "float": "a finite number",
        "bool": "true or false",
        "str": "a string",
        "date": "a date such as 2024-05-31",
        "datetime": "a time such as 2024-05-31T12:00:00" + ("Z" if field.aware else ""),
    }[field.kind]
    if field.kind == "datetime":
        words += " with its offset" if field.aware else " without offset"
    if field.choices is not None:
        shown = ", ".join(str(choice) for choice in field.choices[:20])
        words = f"one of {shown}" + (", ..." if len(field.choices) > 20 else "")
    limits = [
        f"{sign} {getattr(field, name):g}"
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if getattr(field, name) is not None
    ]
    if field.kind == "int" and not limits and field.choices is None:
        low, high = field.int_bounds
        limits = [f"between {low} and {high}"]
    if field.multiple_of is not None:
        limits.append(f"a multiple of {field.multiple_of:g}")
    if field.min_length is not None:
        limits.append(f"at least {field.min_length} characters")
    if field.max_length is not None:
        limits.append(f"at most {field.max_length} characters")
    if field.pattern is not None:
        limits.append(f"matching {field.pattern}")
    return " ".join([words, " and ".join(limits)]).strip() + (" or null" if field.optional else "")


def _bounded(value: Any) -> Any:
    """Return what came, short enough to send back."""
    if isinstance(value, str):
        safe = value.encode("utf-8", "replace").decode()
        return safe if len(safe) <= _LONGEST else safe[:_LONGEST] + "…"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)[:_LONGEST]
    return str(value)[:_LONGEST]


class _Field:
    """The slow check of one field, with the same type as the fast one."""

    def __init__(self, spec: FieldSpec) -> None:
        self.spec = spec
        self.type = field_type(spec)
        self.expected = _expected(spec)

    def refused(self, name: str, got: Any) -> dict[str, Any]:
        return {"field": name, "message": f"expected {self.expected}", "got": _bounded(got)}

    def check(self, value: Any) -> Any:
        """Return the checked value of a Python object; raise ValidationError."""
        if isinstance(value, float) and not math.isfinite(value):
            raise msgspec.ValidationError("not finite")
        # A number without fraction is an integer, however it was written.
        if self.spec.kind == "int" and isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str) and (value == NULL_STRING or not _encodable(value)):
            raise msgspec.ValidationError("a string that cannot be text")
        return msgspec.convert(value, self.type)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class RowDecoder:
    """Checks rows against fields: JSON bytes of one row or several, or Python mappings.

    Good input gives the values in field order; everything else raises InputError with every bad
    field.

    >>> decoder = RowDecoder([FieldSpec("age", "int", ge=0), FieldSpec("plan", "str")])
    >>> decoder.decode_one(b'{"plan": "pro", "age": 3}')
    (3, 'pro')
    >>> decoder.decode_one(b'{"age": -1}')
    Traceback (most recent call last):
    steelyard.errors.InputError: age: expected an integer >= 0, got -1; plan: is missing, got None
    """

    def __init__(self, fields: Sequence[FieldSpec], *, allow_unknown: bool = False) -> None:
        self._fields = {field.name: _Field(field) for field in fields}
        self._allow_unknown = allow_unknown
        row = msgspec.defstruct(
            "Row",
            [
                (name, field.type)
                if field.spec.required
                else (name, field.type, field.spec.default)
                for name, field in self._fields.items()
            ],
            kw_only=True,
            forbid_unknown_fields=not allow_unknown,
        )
        rows = msgspec.defstruct("Rows", [("rows", list[row])], forbid_unknown_fields=True)  # type: ignore[valid-type]
        self._one = msgspec.json.Decoder(row)
        self._many = msgspec.json.Decoder(rows)
        self._values = msgspec.structs.astuple

    @staticmethod
    def holds_many(body: bytes) -> bool:
        """Return whether a body is `{"rows": [...]}` rather than one row."""
        return _MANY.match(body) is not None

    def decode_one(self, body: bytes) -> Values:
        """Return the values of one row given as a JSON object."""
        if _NULL_BYTES not in body and b"\\u" not in body:
            try:
                return self._values(self._one.decode(body))
            except (msgspec.ValidationError, *_MALFORMED):
                pass  # the slow check finds out what is wrong, and has the last word
        return self._explain(body, "")

    def decode_many(self, body: bytes) -> list[Values]:
        """Return the values of the rows in `{"rows": [...]}`; fields are named `rows.N.field`."""
        if _NULL_BYTES not in body and not _ESCAPED.search(body):
            try:
                return [self._values(row) for row in self._many.decode(body).rows]
            except (msgspec.ValidationError, *_MALFORMED):
                pass
        envelope = _objects(body, "body")
        for name in envelope:
            if name != "rows":
                raise InputError([_unknown(name, ["rows"], _shown(envelope[name]))])
        try:
            rows = msgspec.json.decode(envelope["rows"], type=list[msgspec.Raw])
        except (msgspec.ValidationError, *_MALFORMED):
            got = _bounded(bytes(envelope["rows"]).decode("utf-8", "replace"))
            raise InputError(
                [{"field": "rows", "message": "expected a list of rows", "got": got}]
            ) from None
        values: list[Values] = []
        errors: list[dict[str, Any]] = []
        for i, raw in enumerate(rows):
            try:
                values.append(self._explain(bytes(raw), f"rows.{i}."))
            except InputError as error:
                errors += error.errors
        if errors:
            raise InputError(errors)
        return values

    def check_one(self, row: Mapping[str, Any]) -> Values:
        """Return the values of one row given as a mapping of Python (or parsed JSON) values."""
        return self._collect(dict(row), "", _Field.check, _bounded)

    def _explain(self, body: bytes, prefix: str) -> Values:
        try:
            return self._collect(_objects(body, prefix[:-1] or "body"), prefix, _check_raw, _shown)
        except InputError:
            lenient = _lenient(body)
            if lenient is not None:
                # No JSON, but Python's reader knows what was meant (NaN, half of a surrogate pair):
                # where a field is to blame, this names it.
                self._collect(lenient, prefix, _Field.check, _bounded)
            raise

    def _collect(self, given: dict[str, Any], prefix: str, check: Any, shown: Any) -> Values:
        """Check every field with `check`; return the values, or raise with all that is wrong."""
        values: list[Any] = []
        errors: list[dict[str, Any]] = []
        for name, field in self._fields.items():
            if name in given:
                value = given.pop(name)
                try:
                    values.append(check(field, value))
                except (msgspec.ValidationError, *_MALFORMED):
                    errors.append(field.refused(prefix + name, shown(value)))
            elif field.spec.default is MISSING:
                errors.append({"field": prefix + name, "message": "is missing", "got": None})
            else:
                values.append(field.spec.default)
        if not self._allow_unknown:
            errors += [
                _unknown(name, self._fields, shown(value), prefix) for name, value in given.items()
            ]
        if errors:
            raise InputError(errors)
        return tuple(values)


def _objects(body: bytes, what: str) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, each not yet read."""
    try:
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        problem = "expected a JSON object with the row's fields"
    except RecursionError:
        problem = "expected a JSON object, not one nested thousands deep"
    except UnicodeDecodeError:
        problem = "expected UTF-8 text"
    except msgspec.DecodeError as error:
        problem = f"expected JSON: {error}"
    got = _bounded(body[: _LONGEST * 4].decode("utf-8", "replace"))
    raise InputError([{"field": what, "message": problem, "got": got}])


def _lenient(body: bytes) -> dict[str, Any] | None:
    """Return the object that a body means where only Python's reader takes it as JSON."""
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        pass
    except (UnicodeDecodeError, RecursionError):
        return None
    else:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _check_raw(field: _Field, raw: msgspec.Raw) -> Any:
    """Return the checked value of one JSON value."""
    try:
        value = msgspec.json.decode(raw, type=field.type)
    except msgspec.ValidationError:
        if field.spec.kind != "int":
            raise
        # The float form of an integer, which the compiled decoder does not take.
        value = field.check(msgspec.json.decode(raw, type=float))
    if isinstance(value, str) and value == NULL_STRING:
        raise msgspec.ValidationError("the null of graphs")
    return value


def _shown(raw: msgspec.Raw) -> Any:
    try:
        return _bounded(msgspec.json.decode(raw))
    except (msgspec.ValidationError, *_MALFORMED):
        return _bounded(bytes(raw).decode("utf-8", "replace"))


def _unknown(
    name: str, known: Mapping[str, Any] | Sequence[str], got: Any, prefix: str = ""
) -> dict[str, Any]:
    safe = _bounded(name)
    message = f"is not a field of the row. {nearest(str(safe), known)}"
    return {"field": f"{prefix}{safe}", "message": message, "got": _bounded(got)}
