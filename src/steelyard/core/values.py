"""One value against one field: compiled once, the same rules for JSON text and Python objects."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec

from steelyard.core.fields import INT64_MAX, NULL_STRING, FieldSpec
from steelyard.errors import nearest

__all__ = ["BAD_JSON", "ValueCheck", "WrongValueError", "shown"]

BAD_JSON: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)
"""What msgspec raises over bytes that it cannot read as the wanted type."""

_LONGEST = 80
_SHOWN_CHOICES = 8
_LONGEST_GUESS = 60


class WrongValueError(Exception):
    """A value that its field does not allow, and what was expected."""

    def __init__(self, message: str, got: Any) -> None:
        super().__init__(message)
        self.message = message
        self.got = got


def shown(value: Any) -> Any:
    """Return a value as an error shows it: JSON, and of bounded length.

    >>> shown(7), shown("x" * 100)[-3:], shown([1, 2]), shown(float("nan"))
    (7, 'xx…', 'a list of 2', 'NaN')
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return _shown_number(value)
    if isinstance(value, dict):
        return f"an object with {len(value)} fields"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = value if isinstance(value, str) else str(value)
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def _shown_number(value: float) -> int | float | str:
    if isinstance(value, int):
        value = int(value)
        if -INT64_MAX <= value <= INT64_MAX:
            return value
        return f"an integer of {value.bit_length()} bits"
    if math.isfinite(value):
        return float(value)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


class ValueCheck:
    """The check of one field.

    `type` is what msgspec can check of it; `finish` does the rest and is None where there is none.
    """

    def __init__(self, field: FieldSpec) -> None:
        self.field = field
        self.expected = f"expected {_expectation(field)}"
        self.type, rules = _compiled(field)
        self.finish: Callable[[Any], Any] | None = None
        if rules:
            self.finish = _optional(rules) if field.optional else rules
        self._decode = msgspec.json.Decoder(self.type).decode

    def from_json(self, raw: bytes | msgspec.Raw) -> Any:
        """Return the value of a JSON text; raises WrongValueError."""
        try:
            value = self._decode(raw)
        except BAD_JSON:
            return self._whole_float(raw)
        return self._finished(value)

    def from_python(self, value: Any) -> Any:
        """Return the value of a Python object (JSON's types, date, datetime, Decimal)."""
        try:
            found = msgspec.convert(_plain(self.field, value), self.type)
        except BAD_JSON:
            raise self._wrong(value) from None
        if isinstance(found, float) and not math.isfinite(found):
            raise self._wrong(value)
        if isinstance(found, str) and not found.isascii():
            try:
                found.encode()
            except UnicodeEncodeError:
                raise WrongValueError("expected valid Unicode text", shown(value)) from None
        return self._finished(found)

    def _whole_float(self, raw: bytes | msgspec.Raw) -> Any:
        """Read a text that the type refused: 5.0 is an int all the same, the rest is wrong."""
        try:
            value = msgspec.json.decode(raw)
        except UnicodeError:
            text = bytes(raw)[: 2 * _LONGEST].decode("utf-8", "backslashreplace")
            raise WrongValueError("expected text in UTF-8", shown(text)) from None
        except BAD_JSON:
            text = bytes(raw)[: 2 * _LONGEST].decode("utf-8", "backslashreplace")
            raise self._wrong(text) from None
        if self.field.kind == "int" and type(value) is float:
            return self.from_python(value)
        raise self._wrong(value)

    def _finished(self, value: Any) -> Any:
        if value == NULL_STRING and self.field.kind == "str":
            raise WrongValueError(
                "expected text; the lone character U+FDD0 stands for null here", "U+FDD0"
            )
        if self.finish is None:
            return value
        try:
            return self.finish(value)
        except (ValueError, OverflowError):
            raise self._wrong(value) from None

    def _wrong(self, value: Any) -> WrongValueError:
        message = self.expected
        choices = self.field.choices
        low, high = self.field.int_bounds
        if self.field.kind == "int" and _beyond(value, low, high):
            message += f" between {low} and {high}"
        if choices and isinstance(value, str) and len(value) <= _LONGEST_GUESS:
            guess = nearest(value, [c for c in choices if isinstance(c, str)])
            if guess.startswith("Did you mean"):
                message += f". {guess}"
        return WrongValueError(message, shown(value))


def _beyond(value: Any, low: int, high: int) -> bool:
    number = isinstance(value, (int, float)) and value == value
    return number and not low <= value <= high


def _plain(field: FieldSpec, value: Any) -> Any:
    """Return a Python object as the type that stands for it in JSON where it differs only in form."""
    kind = type(value)
    if isinstance(value, float) and kind is not float:
        value = float(value)
    elif isinstance(value, str) and kind is not str:
        value = str(value)
    if field.kind == "int" and isinstance(value, (float, Decimal)):
        return int(value) if math.isfinite(value) and value == int(value) else value
    if field.kind == "date" and kind is datetime and value.time() == time.min:
        # Some table types have no dates; midnight stands for the day, as 5.0 for 5.
        return value.date() if value.tzinfo is None else value
    return value


def _optional(rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else rule(value)


def _compiled(field: FieldSpec) -> tuple[Any, Callable[[Any], Any] | None]:
    """Return the msgspec type of a field, and what that type cannot check."""
    kind, rule = _COMPILERS[field.kind](field)
    return (kind | None if field.optional else kind), rule


def _compile_int(field: FieldSpec) -> tuple[Any, Callable[[Any], Any] | None]:
    low, high = field.int_bounds
    if field.ge is not None:
        low = max(low, math.ceil(field.ge))
    if field.gt is not None:
        low = max(low, math.floor(field.gt) + 1)
    if field.le is not None:
        high = min(high, math.floor(field.le))
    if field.lt is not None:
        high = min(high, math.ceil(field.lt) - 1)
    # Only choices within the limits count: what lies between them must not fill their number up.
    choices = frozenset(c for c in field.choices or () if isinstance(c, int) and low <= c <= high)
    if field.choices is not None:
        low, high = (min(choices), max(choices)) if choices else (1, 0)
    if low > high:
        low, high = 1, 0  # nothing can be right; the bounds themselves may not fit into 64 bits
    step = field.multiple_of
    limits: dict[str, Any] = {"ge": low, "le": high}
    if step is not None and float(step).is_integer():
        limits["multiple_of"] = int(step)
        step = None
    if step is None and len(choices) == (high - low + 1 if choices else 0):
        return Annotated[int, msgspec.Meta(**limits)], None

    def rule(value: int) -> int:
        if (choices and value not in choices) or (step and math.fmod(value, step) != 0):
            raise ValueError
        return value

    return Annotated[int, msgspec.Meta(**limits)], rule


def _compile_float(field: FieldSpec) -> tuple[Any, Callable[[Any], Any] | None]:
    names = ("ge", "gt", "le", "lt", "multiple_of")
    given = {name: getattr(field, name) for name in names}
    # Only one bound a side is allowed there: of two, the one that leaves less.
    if given["ge"] is not None and given["gt"] is not None:
        given["ge" if given["gt"] >= given["ge"] else "gt"] = None
    if given["le"] is not None and given["lt"] is not None:
        given["le" if given["lt"] <= given["le"] else "lt"] = None
    limits: dict[str, Any] = {n: float(value) for n, value in given.items() if value is not None}
    return (Annotated[float, msgspec.Meta(**limits)] if limits else float), None


def _compile_str(field: FieldSpec) -> tuple[Any, Callable[[Any], Any] | None]:
    limits = {
        name: getattr(field, name)
        for name in ("min_length", "max_length", "pattern")
        if getattr(field, name) is not None
    }
    text = Annotated[str, msgspec.Meta(**limits)] if limits else str
    if field.choices is None:
        return text, None
    if not limits:
        return Literal[field.choices], None

    def rule(value: str) -> str:
        if value not in choices:
            raise ValueError
        return value

    choices = frozenset(field.choices)
    return text, rule


def _to_utc(value: datetime) -> datetime:
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _compile_datetime(field: FieldSpec) -> tuple[Any, Callable[[Any], Any] | None]:
    kind = Annotated[datetime, msgspec.Meta(tz=field.aware)]
    return kind, _to_utc if field.aware else None


_COMPILERS: Final[dict[str, Callable[[FieldSpec], tuple[Any, Callable[[Any], Any] | None]]]] = {
    "int": _compile_int,
    "float": _compile_float,
    "bool": lambda field: (bool, None),
    "str": _compile_str,
    "date": lambda field: (date, None),
    "datetime": _compile_datetime,
}


def _expectation(field: FieldSpec) -> str:
    """Say in a person's words what a field accepts."""
    if field.choices is not None:
        named = ", ".join(repr(choice) for choice in field.choices[:_SHOWN_CHOICES])
        rest = len(field.choices) - _SHOWN_CHOICES
        text = f"one of {named}" + (f" and {rest} more" if rest > 0 else "")
    elif field.aware:
        text = "a time with its UTC offset, like 2026-11-24T15:04:05Z"
    else:
        text = _WORDS[field.kind]
    limits = [*_number_words(field), *_text_words(field)]
    if limits:
        text += " " + " and ".join(limits)
    return text + (" or null" if field.optional else "")


_WORDS: Final = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "date": "a date like 2026-11-24",
    "datetime": "a time without a UTC offset, like 2026-11-24T15:04:05",
}


def _number_words(field: FieldSpec) -> list[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    words = [
        f"{sign} {getattr(field, name)}"
        for name, sign in signs.items()
        if getattr(field, name) is not None
    ]
    if field.multiple_of is not None:
        words.append(f"divisible by {field.multiple_of}")
    return words


def _text_words(field: FieldSpec) -> list[str]:
    words = []
    if field.min_length is not None:
        words.append(f"of at least {field.min_length} characters")
    if field.max_length is not None:
        words.append(f"of at most {field.max_length} characters")
    if field.pattern is not None:
        words.append(f"that matches {field.pattern[:_LONGEST]}")
    return words
