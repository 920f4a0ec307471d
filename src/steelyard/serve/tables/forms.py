"""The forms of a body: what a request holds, and in which form its answer is wanted."""

from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from steelyard.errors import SteelyardError, UsageError

__all__ = ["PLAIN_FORMS", "Form", "Forms", "MediaTypeError", "NotAcceptableError", "forms_of"]


class Form(Enum):
    """A form of a body; its value is its media type."""

    JSON = b"application/json"
    ARROW = b"application/vnd.apache.arrow.stream"
    PARQUET = b"application/vnd.apache.parquet"


class Forms(NamedTuple):
    """What a request's body is, and what its answer is to be."""

    given: Form
    wanted: Form


PLAIN_FORMS: Final = Forms(Form.JSON, Form.JSON)
_ANY: Final = (b"*/*", b"application/*")
_VENDOR: Final = b"vnd.apache"
_KNOWN: Final = {form.value: form for form in Form}


class MediaTypeError(SteelyardError):
    """A request's body is declared to be in a form that is not taken."""


class NotAcceptableError(UsageError):
    """A response is wanted in a form that there is none of."""


def forms_of(headers: Iterable[tuple[bytes, bytes]]) -> Forms:
    """Return the forms that a request's headers name; names are in lower case.

    A body of no declared form is JSON. An answer comes in the form of the body where no other is
    asked for by name. Raises MediaTypeError.
    """
    given, wanted = Form.JSON, None
    for name, value in headers:
        if name == b"content-type" and value != b"application/json":
            given = _given(value)
        elif name == b"content-encoding" and value != b"identity":
            raise MediaTypeError("send the body as it is, without Content-Encoding")
        elif name == b"accept":
            wanted = _wanted(value)
    if given is Form.JSON and wanted in (None, Form.JSON):
        return PLAIN_FORMS
    return Forms(given, wanted or given)


def _given(value: bytes) -> Form:
    kind = value.partition(b";")[0].strip().lower()
    if kind.endswith(b"+json"):
        return Form.JSON
    if kind not in _KNOWN:
        known = ", ".join(form.value.decode() for form in Form)
        raise MediaTypeError(f"send one of these, named by Content-Type: {known}")
    return _KNOWN[kind]


def _wanted(value: bytes) -> Form | None:
    """Return the form that is preferred; None where it is left open."""
    if _VENDOR not in value.lower() and b"json" not in value.lower():
        return None
    found: list[tuple[float, Form | None]] = []
    for part in value.lower().split(b","):
        kind, *parameters = (piece.strip() for piece in part.split(b";"))
        if kind in _KNOWN or kind in _ANY:
            found.append((_quality(parameters), _KNOWN.get(kind)))
    best = max(found, key=lambda one: one[0], default=(0.0, None))
    return best[1]


def _quality(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
