"""A definition file loads, or its mistake is named with file, line, field and fix."""

from pathlib import Path

import pytest

from steelyard.core.loading import load_definition
from steelyard.errors import DefinitionError, NotFoundError, UsageError

GOOD = """\
import datetime; import steelyard as sy
from sklearn.linear_model import Ridge
class A(sy.Row):
    x: int
    y: str = sy.Field(max_length=3)
m = sy.Model(
    name="a",
    row=A,
    data=sy.Csv("t.csv"),
    label="z",
    estimator=Ridge(alpha=sy.param("alpha", 1.0)),
)
"""


def write(folder: Path, text: str, name: str = "definition.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_good_file_gives_its_model_source_and_parameters(tmp_path: Path) -> None:
    model = load_definition(write(tmp_path, GOOD), {"alpha": "2.5"})
    assert model.estimator.alpha == 2.5
    assert model.params == {"alpha": 2.5}
    assert model.source_text == GOOD
    assert (model.file_name, model.variable) == ("definition.py", "m")
    assert model.folder == tmp_path.resolve()


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("x: int", "x: list[int]", 4, "x", "flatten"),
        ("x: int", "x: Ridge", 4, "x", "expected one of"),
        ("x: int", "x int", 4, None, "Python cannot read this line"),
        ("x: int", 'x: int = sy.Field(pattern="a")', 4, "x", "no limit of a int"),
        ("y: str", "y: datetime.date", 5, "y", "no limit of a date"),
        ('label="z"', 'label="y"', 10, "label", "Remove y from A"),
        ("sy.Csv", "sy.Cvs", 9, None, "Did you mean Csv"),
        ("label=", "labl=", 6, None, "Did you mean label"),
        ('Ridge(alpha=sy.param("alpha", 1.0))', "Ridge", 11, "estimator", "Call it"),
        ('name="a"', 'name="a b"', 7, "name", "must be 1 to 63"),
        ('sy.Csv("t.csv")', '"t.csv"', 9, "data", "expected a source"),
    ],
)
def test_a_mistake_names_file_line_field_and_fix(
    tmp_path: Path, old: str, new: str, line: int, field: str | None, words: str
) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(DefinitionError, match=words) as caught:
        load_definition(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert caught.value.field == field


def test_a_missing_file_and_an_unknown_parameter_offer_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    with pytest.raises(NotFoundError, match=r"Did you mean definition\.py"):
        load_definition(str(tmp_path / "definitoin.py"))
    with pytest.raises(UsageError, match="Did you mean alpha"):
        load_definition(path, {"alpa": "1"})
    with pytest.raises(UsageError, match=r"expected a value like 1\.0"):
        load_definition(path, {"alpha": "much"})


def test_several_models_need_a_name(tmp_path: Path) -> None:
    other = GOOD.splitlines()[5:]
    path = write(tmp_path, GOOD + "\n".join(other).replace("m = ", "n = ").replace('"a"', '"b"'))
    with pytest.raises(UsageError, match="several models: m, n"):
        load_definition(path)
    assert load_definition(f"{path}:n").name == "b"
    assert load_definition(f"{path}:b").name == "b"
    with pytest.raises(NotFoundError, match="has no model q"):
        load_definition(f"{path}:q")


def test_modules_beside_the_file_belong_to_the_definition(tmp_path: Path) -> None:
    write(tmp_path, "LABEL = 'z'\n", "shared.py")
    text = GOOD.replace('label="z"', "label=shared.LABEL").replace(
        "import steel", "import shared\nimport steel", 1
    )
    model = load_definition(write(tmp_path, text))
    assert model.modules == {"shared.py": "LABEL = 'z'\n"}
