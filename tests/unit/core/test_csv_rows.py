import pytest

from steelyard.core.csv_rows import csv_rows
from steelyard.core.fields import FieldSpec
from steelyard.errors import DataError, InputError

FIELDS = [
    FieldSpec("age", "int", optional=True),
    FieldSpec("name", "str"),
    FieldSpec("left", "bool"),
    FieldSpec("since", "date"),
]


def test_cells_are_read_as_their_fields_kind():
    text = 'left,name,other,age,since\nTrue,"a,""b""\nc",x,5.0,2024-01-01\n0,5,,,\n'
    assert list(csv_rows(text, FIELDS)) == [
        {"left": True, "name": 'a,"b"\nc', "age": 5.0, "since": "2024-01-01"},
        {"left": False, "name": "5", "age": None, "since": None},
    ]


@pytest.mark.parametrize("cell", ["007", "five", "1 000", "[" * 100_000, "9" * 5_000, "+5"])
def test_what_is_no_number_stays_text_for_the_check_to_refuse(cell):
    (row,) = csv_rows(f"age\n{cell}\n", FIELDS[:1])
    assert row == {"age": cell}


def test_without_a_header_the_cells_are_the_fields():
    assert list(csv_rows("5,Ada,1,2024-01-01\r\n\r\n", FIELDS, header=False)) == [
        {"age": 5, "name": "Ada", "left": True, "since": "2024-01-01"}
    ]


def test_a_line_with_too_few_or_too_many_cells_is_no_row():
    short, good, long = csv_rows("1\n1,Ada,1,x\n1,Ada,1,x,\n", FIELDS, header=False)
    assert isinstance(short, InputError)
    assert isinstance(good, dict)
    assert "expected 4 cells: age, name, left, since, got 5" in str(long)


def test_a_blank_line_is_the_null_of_a_table_of_one_column():
    assert list(csv_rows("age\n\n1\n", FIELDS)) == [{"age": None}, {"age": 1}]
    assert list(csv_rows("\n1\n", FIELDS[:1], header=False)) == [{"age": None}, {"age": 1}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name\n"a\n', "line 2 is no CSV"),
        ('name\n"a"b\n', "line 2 is no CSV"),
        ("name,age,name\n", "names name more than once"),
    ],
)
def test_what_is_no_csv_is_told(text, says):
    with pytest.raises(DataError, match=says):
        list(csv_rows(text, FIELDS))
