"""JSON bodies as text: repeated keys, rows in a list, and what to say of a malformed one."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from steelyard.core.values import BAD_JSON, shown
from steelyard.errors import InputError

__all__ = [
    "BODY",
    "RowLimitError",
    "check_row_count",
    "field_error",
    "holds_rows",
    "lax_object",
    "malformed",
    "may_repeat",
    "read_object",
    "refuse",
    "repeated_names",
    "repeats",
    "shown_raw",
    "split_rows",
]

BODY: Final = "body"
"""The field that an error about the body as a whole names."""

_LONGEST_HEAD = 100
_LONGEST_RETRY = 65_536
"""A malformed body is looked at once more by a laxer parser, to name the field, up to here."""
_OPENS_ROWS: Final = re.compile(rb'\s*\{\s*"rows"\s*:')
_BLANK: Final = " \t\n\r"
_BLANKS: Final = re.compile(f"[{_BLANK}]*")


class RowLimitError(InputError):
    """More rows came at once than are taken."""


class _Probe(msgspec.Struct):
    rows: Raw | UnsetType = UNSET


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    rows: Raw


_probe = msgspec.json.Decoder(_Probe).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode

read_object = msgspec.json.Decoder(dict[str, Raw]).decode
"""Read an object's members, their values still as text; raises one of `BAD_JSON`."""


def field_error(field: object, message: str, got: Any) -> dict[str, Any]:
    """Return one entry of an InputError."""
    return {"field": shown(str(field)), "message": message, "got": got}


def refuse(field: str, message: str, got: Any) -> NoReturn:
    """Raise an InputError of one entry."""
    raise InputError([field_error(field, message, got)])


def check_row_count(count: int, max_rows: int | None) -> None:
    """Raise RowLimitError where there are more rows than `max_rows`."""
    if max_rows is not None and count > max_rows:
        raise RowLimitError([field_error("rows", f"expected at most {max_rows} rows", count)])


def holds_rows(body: bytes) -> bool:
    """Return whether a body is `{"rows": ...}` rather than one row."""
    if b"rows" not in body and b"\\" not in body:
        return False
    try:
        return _probe(body).rows is not UNSET
    except BAD_JSON:
        return _OPENS_ROWS.match(body) is not None


def shown_raw(value: Any) -> Any:
    """Return a value, perhaps still JSON text, as an error shows it."""
    if isinstance(value, Raw):
        try:
            value = msgspec.json.decode(value)
        except BAD_JSON:
            value = bytes(value)[:_LONGEST_HEAD].decode("utf-8", "backslashreplace")
    return shown(value)


def may_repeat(body: bytes, keys: int) -> bool:
    """Return whether there can be more than `keys` keys: each ends in a quote and a colon."""
    return body.translate(None, b" \t\n\r").count(b'":') != keys


def repeats(body: bytes) -> bool:
    """Return whether the object in `body` has a key twice.

    Every pair has one colon outside keys and values. A parser that keeps the last of equal keys
    leaves fewer colons than there are exactly when it dropped a pair.
    """
    try:
        found = read_object(body)
    except BAD_JSON:
        return False  # malformed, which is another error
    if b"\\" in body:
        return bool(repeated_names(body))
    inside = sum(name.count(":") + bytes(raw).count(b":") for name, raw in found.items())
    return body.count(b":") != len(found) + inside


def repeated_names(body: bytes) -> list[str]:
    """Return the keys that the object in `body` has more than once, each once."""
    outermost: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = [name for name, _ in pairs]  # inner objects come before the outermost

    try:
        text = body.decode("utf-8", "surrogateescape")
        json.loads(text, object_pairs_hook=note, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return []
    seen: set[str] = set()
    return list(dict.fromkeys(n for n in outermost if n in seen or seen.add(n)))  # type: ignore[func-returns-value]


def split_rows(body: bytes, max_rows: int | None) -> tuple[list[bytes], InputError | None]:
    """Return the text of each row, and what is wrong around them where the rows can be read.

    Stops at `max_rows`, so that memory is bounded.
    """
    trouble = None
    try:
        raw = bytes(_envelope(body).rows)
        if repeats(body):
            refuse("rows", "expected once; the object repeats it", None)
    except msgspec.ValidationError:
        refuse(BODY, 'expected one row, or {"rows": [...]} and nothing beside it', _head(body))
    except BAD_JSON as error:
        trouble = malformed(body, error)
        opening = _OPENS_ROWS.match(body)
        if opening is None:
            raise trouble from None
        raw = body[opening.end() :]
    text = raw.decode("utf-8", "surrogateescape")
    if text.lstrip(_BLANK)[:1] != "[":
        refuse("rows", "expected a list of rows", shown_raw(Raw(raw)))
    found: list[bytes] = []
    for row in _elements(text, trouble):
        found.append(row.encode("utf-8", "surrogateescape"))
        check_row_count(len(found), max_rows)
    return found, trouble


def _elements(text: str, trouble: InputError | None) -> Iterator[str]:
    """Yield the elements of the list that opens `text`; raises `trouble` where it breaks off."""
    at = _skip(text, text.index("[") + 1)
    closed = text.startswith("]", at)
    while not closed:
        try:
            _, end = _scan(text, at)
        except (ValueError, RecursionError):
            yield text[at:]  # what is wrong in it is found when it is read as a row
            return
        following = _skip(text, end)
        closed = text.startswith("]", following)
        if trouble and not closed and not text.startswith(",", following):
            raise trouble
        yield text[at:end]
        at = _skip(text, following + 1)


def _skip(text: str, at: int) -> int:
    """Return the place of the first character from `at` on that is no white space."""
    return cast(re.Match[str], _BLANKS.match(text, at)).end()


def lax_object(body: bytes) -> dict[str, Any] | None:
    """Return the object of a malformed body where a laxer parser can read it (NaN, bad text)."""
    if len(body) > _LONGEST_RETRY:
        return None
    try:
        row = json.loads(body.decode("utf-8", "surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def malformed(body: bytes, error: Exception) -> InputError:
    """Return what to say of a body that is no JSON object."""
    return InputError([field_error(BODY, _what_is_malformed(body, error), _head(body))])


def _what_is_malformed(body: bytes, error: Exception) -> str:
    if not body.strip():
        return "expected a JSON object; the body is empty"
    if body.startswith(b"\xef\xbb\xbf"):
        return "expected JSON without a byte order mark"
    if isinstance(error, RecursionError):
        return "expected a flat JSON object; this one is nested too deeply"
    if isinstance(error, UnicodeError):
        return "expected JSON in UTF-8"
    if isinstance(error, msgspec.ValidationError):
        return "expected a JSON object with one member a field"
    reason = str(error).removeprefix("JSON is malformed: ")[:_LONGEST_HEAD]
    return f"expected valid JSON: {reason}"


def _head(body: bytes) -> Any:
    return shown(body[: 2 * _LONGEST_HEAD].decode("utf-8", "backslashreplace"))
