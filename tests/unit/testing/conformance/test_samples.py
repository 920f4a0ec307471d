import json
import re
from datetime import date

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import DataError, UsageError
from steelyard.testing.conformance.samples import made_rows, read_rows, schema_at, served_model


def entry_of(kind):
    """Return JSON Schemas of one field, with limits that leave room."""
    low, width = st.integers(-1000, 1000), st.integers(4, 100)
    return st.builds(
        lambda low, width, ends: (
            {"type": kind}
            | ({"minimum": low} if ends & 1 else {"exclusiveMinimum": low} if ends & 2 else {})
            | ({"maximum": low + width} if ends & 4 else {})
            | ({"exclusiveMaximum": low + width} if ends & 8 and not ends & 4 else {})
        ),
        low,
        width,
        st.integers(0, 15),
    )


TEXTS = st.builds(
    lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
    st.integers(0, 50),
    st.integers(1, 50),
)
ENTRIES = st.one_of(
    entry_of("integer"),
    entry_of("number"),
    TEXTS,
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": ["integer", "null"], "minimum": 3},
            {"enum": ["a", None]},
            {"const": 5},
            {"anyOf": [{"type": "null"}, {"type": "number", "maximum": 0}]},
            {"type": "integer", "multipleOf": 7, "minimum": 1},
            {"type": "string", "pattern": "^[A-Z]"},
        ]
    ),
)


@given(st.dictionaries(st.text(max_size=5), ENTRIES, min_size=1, max_size=5))
def test_made_rows_are_allowed_by_their_schema(properties):
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    rows = made_rows(schema)
    assert len(rows) == 4
    for row in rows:
        jsonschema.validate(row, schema)
        assert list(row) == list(properties)


def test_times_are_real_and_with_a_zone_only_where_it_is_wanted():
    time = {"type": "string", "format": "date-time"}
    fields = {
        "day": {"type": "string", "format": "date"},
        "at": time,
        "utc": time | {"x-aware": True},
    }
    first = made_rows({"properties": fields})[0]
    assert date.fromisoformat(first["day"])
    assert first["at"].endswith("Z")
    ours = made_rows({"properties": fields, "x-order": ["utc", "at", "day"]})[0]
    assert list(ours) == ["utc", "at", "day"]
    assert ours["utc"].endswith("Z") and not ours["at"].endswith("Z")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"code": {"type": "string", "pattern": r"^\d{3}-\d{3}$"}}}, "code"),
        ({"properties": {"inner": {"type": "object"}}}, "inner is of the kind object"),
        ({}, "not described"),
    ],
)
def test_a_row_that_cannot_be_made_is_asked_for(schema, said):
    with pytest.raises(UsageError, match=re.escape(said)) as told:
        made_rows(schema)
    assert "--rows" in str(told.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.json", '[{"a": 1, "b": "x"}, {"a": null, "b": "y"}]'),
        ("rows.json", '{"rows": [{"a": 1, "b": "x"}, {"a": null, "b": "y"}]}'),
        ("rows.jsonl", '{"a": 1, "b": "x"}\n\n{"a": null, "b": "y"}\n'),
        ("rows.csv", "a,b\n1,x\n,y\n"),
    ],
)
def test_rows_are_read_from_every_form(name, text, tmp_path):
    file = tmp_path / name
    file.write_text("\ufeff" + text if name == "rows.csv" else text, encoding="utf-8")
    assert read_rows(str(file)) == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]


def test_one_object_is_a_row(tmp_path):
    file = tmp_path / "row.json"
    file.write_text(json.dumps({"a": 1}))
    assert read_rows(str(file)) == [{"a": 1}]


@pytest.mark.parametrize("text", ["", "[]", "5", "[1, 2]", "no rows"])
def test_a_file_without_rows_is_told(text, tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"rows\.json"):
        read_rows(str(file))


def test_an_openapi_document_names_the_model_and_its_row():
    row = {"type": "object", "properties": {"a": {"type": "integer"}}}
    rows = {"type": "object", "properties": {"rows": {"type": "array"}}}
    body = {"anyOf": [{"$ref": "#/components/schemas/Rows"}, {"$ref": "#/components/schemas/Row"}]}
    content = {"application/json": {"schema": body}}
    document = {
        "paths": {"/predict/churn": {"post": {"requestBody": {"content": content}}}, "/docs": {}},
        "components": {"schemas": {"Row": row, "Rows": rows}},
    }
    assert served_model(document) == "churn"
    assert schema_at(document, "/predict/churn") == row
    assert schema_at(document, "/predict/other") is None
    del document["components"]["schemas"]["Row"]
    assert schema_at(document, "/predict/churn") is None
    assert served_model({"paths": {"/predict/a": {}, "/v2/models/b/infer": {}}}) is None
