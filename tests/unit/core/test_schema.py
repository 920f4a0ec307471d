"""`Row` and `Field` become field specs, or a definition error that names the field."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

import pydantic
import pytest
from annotated_types import Ge

import steelyard as sy
from steelyard.core.fields import FieldSpec, fields_from_json_schema, row_json_schema
from steelyard.core.schema import row_fields
from steelyard.errors import DefinitionError


class Everything(sy.Row):
    count: int = sy.Field(ge=0, le=9, private=True)
    ratio: float | None = None
    plan: Literal["a", "b"] | None = sy.Field(None, description="which")
    grade: Literal[1, 2, 3]
    seen: pydantic.AwareDatetime
    made: datetime | None
    born: date
    code: str = sy.Field(pattern="^x", min_length=1, max_length=5)
    flag: bool = False
    low: Annotated[int, Ge(3)] | None
    late: float = sy.Field(available_after="landing", gt=-1, lt=1, multiple_of=0.5)


def test_every_kind_and_limit_is_read() -> None:
    fields = {field.name: field for field in row_fields(Everything)}
    assert list(fields) == list(Everything.model_fields)
    assert fields["count"] == FieldSpec("count", "int", ge=0, le=9, private=True)
    assert fields["ratio"] == FieldSpec("ratio", "float", optional=True, default=None)
    assert fields["plan"].choices == ("a", "b") and fields["plan"].optional
    assert fields["grade"].kind == "int" and fields["grade"].choices == (1, 2, 3)
    assert fields["seen"].aware and not fields["made"].aware
    assert fields["made"].optional and fields["made"].required
    assert fields["born"].kind == "date"
    assert fields["low"].ge == 3 and fields["low"].optional
    assert fields["late"].available_after == "landing"
    assert not fields["flag"].required


def test_json_schema_reads_back_as_the_same_fields() -> None:
    fields = row_fields(Everything)
    schema = row_json_schema(fields, title="E", allow_unknown=False)
    assert fields_from_json_schema(schema) == fields
    assert schema["additionalProperties"] is False
    assert "flag" not in schema["required"] and "made" in schema["required"]


@pytest.mark.parametrize(
    ("annotation", "default", "words"),
    [
        (list[int], ..., "Nested"),
        (dict[str, int], ..., "Nested"),
        (int | str, ..., "expected one of"),
        (Literal["a", 1], ..., "strings only or integers only"),
        (Literal[True, False], ..., "strings only or integers only"),
        (int, sy.Field(pattern="x"), "no limit of a int"),
        (bool, sy.Field(ge=0), "no limit of a bool"),
        (int, "seven", "no int constant"),
        (int, True, "no int constant"),
        (int, None, "no int constant"),
        (int, pydantic.Field(default_factory=int), "default_factory"),
        (int, pydantic.Field(alias="other"), "alias"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_field(
    annotation: Any, default: Any, words: str
) -> None:
    row = pydantic.create_model("Bad", __base__=sy.Row, culprit=(annotation, default))
    with pytest.raises(DefinitionError, match=words) as caught:
        row_fields(row)
    assert caught.value.field == "culprit"
    assert caught.value.fix


def test_a_field_may_not_be_called_rows() -> None:
    row = pydantic.create_model("Bad", __base__=sy.Row, rows=(int, ...))
    with pytest.raises(DefinitionError, match="several rows"):
        row_fields(row)


def test_a_validator_is_refused_by_name() -> None:
    class Validated(sy.Row):
        age: int

        @pydantic.field_validator("age")
        @classmethod
        def older(cls, value: int) -> int:
            return value + 1

    with pytest.raises(DefinitionError, match="older of Validated is Python code"):
        row_fields(Validated)


def test_a_row_without_fields_is_refused() -> None:
    with pytest.raises(DefinitionError, match="has no fields"):
        row_fields(type("Empty", (sy.Row,), {}))
