"""`Guards` says what it means, and a mistake in it is told where the definition is written."""

from datetime import date
from typing import Any, Literal

import pytest
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.core.guards import rules_of
from steelyard.core.loading import load_definition
from steelyard.errors import DefinitionError


class Customer(sy.Row):
    tenure: int
    total: float | None
    plan: Literal["basic", "pro"] | None
    since: date
    active: bool
    stars: Literal[1, 2, 3]


def model(guards: Any) -> sy.Model:
    return sy.Model(
        name="m", row=Customer, data=sy.Csv("t"), label="y", estimator=Ridge(), guards=guards
    )


def test_the_nearest_setting_counts() -> None:
    guards = sy.Guards(
        default="ignore",
        range="flag",
        empty="refuse",
        fields={"tenure": "refuse", "total": {"null": "refuse"}},
    )
    assert guards.action("range", "tenure") == "refuse"
    assert guards.action("range", "total") == "flag"
    assert guards.action("null", "total") == "refuse"
    assert guards.action("unseen", "plan") == "ignore"
    assert (guards.action("empty"), guards.action("output")) == ("refuse", "ignore")
    assert model(guards).guards is guards


def test_the_default_is_to_flag() -> None:
    plain = sy.Guards()
    assert {plain.action(rule, "x") for rule in ("unseen", "range", "null")} == {"flag"}
    assert plain.action("empty") == plain.action("output") == "flag"


def test_the_collapse_alarm_is_on_unless_it_is_ignored_by_itself_or_with_all_else() -> None:
    assert sy.Guards().collapse_rule == sy.Guards(default="refuse").collapse_rule == {}
    assert sy.Guards(default="ignore", collapse="flag").collapse_rule == {}
    ignored = {"action": "ignore"}
    assert sy.Guards(collapse="ignore").collapse_rule == ignored
    assert sy.Guards(default="ignore").collapse_rule == ignored
    assert sy.Guards(default="ignore", collapse=0.5).collapse_rule == {"share": 0.5}


def test_a_field_has_the_rules_of_its_kind() -> None:
    found = {field.name: rules_of(field) for field in model(sy.Guards()).fields}
    assert found == {
        "tenure": ("range",),
        "total": ("range", "null"),
        "plan": ("unseen", "null"),
        "since": ("range",),
        "active": ("unseen",),
        "stars": ("unseen",),
    }


@pytest.mark.parametrize(
    ("given", "field", "fix"),
    [
        ({"default": "refused"}, "default", "Did you mean refuse"),
        ({"null": "flags"}, "null", "Did you mean flag"),
        ({"fields": {"tenure": "ignored"}}, "fields", "Did you mean ignore"),
        ({"fields": {"tenure": {"rnge": "flag"}}}, "fields", "Did you mean range"),
        ({"fields": {"tenure": {"range": 1}}}, "fields", "There is: flag, ignore, refuse"),
        ({"fields": ["tenure"]}, "fields", "fields="),
        ({"collapse": "refuse"}, "collapse", "ignore"),
        ({"collapse": 99}, "collapse", "0.99"),
        ({"collapse": 1.0}, "collapse", "0.99"),
        ({"collapse": 0.3}, "collapse", "0.99"),
        ({"collapse": float("nan")}, "collapse", "0.99"),
        ({"collapse": True}, "collapse", "0.99"),
    ],
)
def test_a_wrong_word_offers_the_nearest(given: dict[str, Any], field: str, fix: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        sy.Guards(**given)
    assert caught.value.field == field
    assert fix in str(caught.value.fix)


@pytest.mark.parametrize(
    ("guards", "told", "fix"),
    [
        (sy.Guards(fields={"tenur": "flag"}), "no field", "Did you mean tenure"),
        (sy.Guards(fields={"plan": {"range": "flag"}}), "no rule range", "unseen, null"),
        (sy.Guards(fields={"since": {"null": "flag"}}), "no rule null", "range"),
        ("refuse", "expected guards", "sy.Guards"),
    ],
)
def test_a_model_tells_a_guard_that_cannot_be(guards: Any, told: str, fix: str) -> None:
    with pytest.raises(DefinitionError, match=told) as caught:
        model(guards)
    assert caught.value.field == "guards"
    assert fix in str(caught.value.fix)


@pytest.mark.parametrize(
    ("guards", "line", "fix"),
    [
        ('sy.Guards(\n    null="refse")', 9, "Did you mean refuse"),
        ("sy.Guards(\n    nul='flag')", 8, "Did you mean null"),
    ],
)
def test_a_definition_file_tells_the_line(tmp_path: Any, guards: str, line: int, fix: str) -> None:
    text = (
        "import steelyard as sy\nfrom sklearn.linear_model import Ridge\n\n"
        "class R(sy.Row):\n    x: float | None\n\n\n"
        f"guards = {guards}\n"
        "m = sy.Model(name='m', row=R, data=sy.Csv('t'), label='y', estimator=Ridge(),\n"
        "             guards=guards)\n"
    )
    path = tmp_path / "m.py"
    path.write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_definition(str(path))
    assert caught.value.line == line
    assert fix in str(caught.value.fix)
