"""MLflow's scoring server: `/invocations`, `/ping`, `/health`, `/version`.

A body is CSV with a header, or JSON with exactly one of `dataframe_split`, `dataframe_records`,
`instances`, `inputs`, and perhaps `params`. NaN, which pandas writes for a null, is null where the
field may be null; a date may come as the midnight by which pandas writes it. As in MLflow, the
table forms may have columns that are no fields, while the rows of `instances` and `inputs` may not.

`predictions` holds the prediction of each row, the label or the number, as a scikit-learn model
behind MLflow gives it. With `"params": {"probabilities": true}` it holds objects with `prediction`
and, for classes, `probability_CLASS` each: the table that `mlflow.pyfunc` gives for the same bundle.
Beside it stand `prediction_ids`, `model`, `version`, and, where the fallback answered or a row is
odd, `marks`: `[{row, source, reason?, flags?}]`.

Source: the scoring protocol of MLflow 2 and 3. Statuses: 400 input, 415 another type; errors are
`{"error_code", "message"}`, with every bad field in `errors`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import steelyard
from steelyard.core.answers import class_keys
from steelyard.core.fields import FieldSpec
from steelyard.core.json_text import refuse
from steelyard.core.values import shown
from steelyard.errors import UsageError
from steelyard.serve.answer.answered import Answered
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.contracts.bodies import (
    media_type,
    members,
    read_csv,
    read_json,
    rows_of_columns,
    rows_of_values,
)
from steelyard.serve.contracts.documents import marks_of
from steelyard.serve.contracts.exchange import Ready, errors_member, json_response, route, terms_of
from steelyard.serve.http.asgi import Front, MediaTypeError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["mlflow_routes"]

_FORMS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
_CSV: Final = ("text/csv", "application/csv")
_MIDNIGHT: Final = "T00:00:00"
_CODES: Final = {
    404: "ENDPOINT_NOT_FOUND",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_Row = dict[str, Any]


def mlflow_routes(front: Front, ready: Ready) -> list["Route"]:
    """Return the contract's routes; `ready` returns why the server is not ready, or nothing."""
    from starlette.responses import Response

    async def ping(request: "Request") -> "Response":
        return Response("\n", 503 if ready() else 200, media_type="application/json")

    async def version(request: "Request") -> "Response":
        return Response(steelyard.__version__, media_type="text/plain")

    async def invocations(request: "Request") -> "Response":
        kind = media_type(request.headers, "application/json")
        body = await front.body(request.scope, request.receive)
        loaded = front.endpoint.loaded
        rows, probabilities = _asked(loaded, body, kind, front.limits.rows)
        _clean(rows, loaded.predictor.fields)
        answers = await front.answer(loaded, rows, terms_of(request))
        return json_response(_document(loaded, answers, probabilities))

    return [
        route("/ping", ping, _refusal, "GET"),
        route("/health", ping, _refusal, "GET"),
        route("/version", version, _refusal, "GET"),
        route("/invocations", invocations, _refusal),
    ]


def _asked(loaded: LoadedVersion, body: bytes, kind: str, max_rows: int) -> tuple[list[_Row], bool]:
    """Return the rows of a request, and whether it asks for probabilities."""
    fields = loaded.predictor.fields
    if kind in _CSV:
        return read_csv(body, fields, max_rows, header=True), False
    if kind != "application/json":
        raise MediaTypeError(f"send application/json, or {' or '.join(_CSV)} with a header")
    names = [field.name for field in fields]
    document = members(read_json(body), (*_FORMS, "params"))
    probabilities = _probabilities(document.pop("params", None))
    if len(document) != 1:
        raise UsageError(f"expected exactly one of {', '.join(_FORMS)}.")
    ((form, given),) = document.items()
    if form == "dataframe_split":
        return _split(given, fields, max_rows), probabilities
    if form == "dataframe_records":
        return _known(rows_of_values(names, given, max_rows, form), fields), probabilities
    if isinstance(given, dict):
        return rows_of_columns(given, max_rows), probabilities
    return rows_of_values(names, given, max_rows, form), probabilities


def _probabilities(params: Any) -> bool:
    if params is None:
        return False
    if not isinstance(params, dict):
        refuse("params", "expected an object", shown(params))
    found = params.get("probabilities", False)
    for name in params:
        if name != "probabilities":
            refuse(f"params.{name}", "is no parameter; there is: probabilities", None)
    if not isinstance(found, bool):
        refuse("params.probabilities", "expected true or false", shown(found))
    return found


def _split(given: Any, fields: Sequence[FieldSpec], max_rows: int) -> list[_Row]:
    """Return the rows of `{"columns": [...], "data": [[...]]}`; columns default to the fields."""
    table = members(given, ("columns", "data", "index"))
    columns = table.get("columns", [field.name for field in fields])
    named = isinstance(columns, list) and all(isinstance(name, str) for name in columns)
    if not named or len(set(columns)) != len(columns):
        refuse("dataframe_split.columns", "expected a list of different names", shown(columns))
    data = table.get("data")
    if isinstance(data, list) and any(isinstance(row, dict) for row in data):
        refuse("dataframe_split.data", "expected lists of values", "an object")
    rows = rows_of_values(columns, data, max_rows, "data")
    return _known(rows, fields)


def _known(rows: list[_Row], fields: Sequence[FieldSpec]) -> list[_Row]:
    """Return rows without the columns that are no fields."""
    names = {field.name for field in fields}
    if all(row.keys() <= names for row in rows):
        return rows
    return [{name: value for name, value in row.items() if name in names} for row in rows]


def _clean(rows: Sequence[dict[str, Any]], fields: Sequence[FieldSpec]) -> None:
    """Turn pandas' ways to write null and dates into JSON's, in place."""
    optional = [field.name for field in fields if field.optional]
    times = [field.name for field in fields if field.optional and field.temporal]
    dates = [field.name for field in fields if field.kind == "date"]
    for row in rows:
        for name in optional:
            value = row.get(name)
            if value != value or (value == "NaT" and name in times):
                row[name] = None
        for name in dates:
            value = row.get(name)
            if type(value) is str:
                row[name] = value.removesuffix(_MIDNIGHT)


def _document(
    loaded: LoadedVersion, answers: Sequence[Answered], probabilities: bool
) -> dict[str, Any]:
    predictions: list[Any] = [answer.prediction for answer in answers]
    if probabilities:
        names = [f"probability_{key}" for key in class_keys(loaded.predictor.classes or ())]
        predictions = [
            {"prediction": a.prediction, **dict(zip(names, a.probabilities or (), strict=True))}
            for a in answers
        ]
    document = {
        "predictions": predictions,
        "prediction_ids": [answer.prediction_id for answer in answers],
        "model": loaded.predictor.model,
        "version": loaded.served.version,
    }
    marks = marks_of(answers)
    return document | ({"marks": marks} if marks else {})


def _refusal(error: Exception, status: int, message: str) -> Mapping[str, Any]:
    code = "INTERNAL_ERROR" if status == 500 else _CODES.get(status, "BAD_REQUEST")
    return {"error_code": code, "message": message, **errors_member(error)}
