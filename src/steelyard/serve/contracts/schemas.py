"""The small parts of which OpenAPI documents are made."""

from typing import Any, Final

__all__ = ["TEXT", "any_of", "described", "errors", "list_of", "object_of", "ref"]

TEXT: Final = {"type": "string"}

_ERRORS: Final = {
    400: "The request does not fit the model's inputs.",
    404: "No such model, or version, here.",
    405: "Another method is needed.",
    406: "There is no answer of the wanted type.",
    413: "Too many bytes, or rows, at once.",
    415: "The body is of another type.",
    429: "Too many requests of several rows at once; Retry-After says when.",
    503: "Not now; Retry-After says when.",
}


def described(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Return a JSON response."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def errors(*statuses: int, schema: str = "Error") -> dict[str, Any]:
    """Return the responses of refusals."""
    return {str(status): described(ref(schema), _ERRORS[status]) for status in statuses}


def object_of(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object whose properties are all there."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def list_of(items: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def ref(name: str) -> dict[str, Any]:
    """Return a reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def any_of(*names: str) -> dict[str, Any]:
    """Return a schema that any of the named ones fulfils."""
    return {"anyOf": [ref(name) for name in names]}
