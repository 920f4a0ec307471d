"""docs/observing.md names what there is: every family, and every event."""

import re
from pathlib import Path

import pytest

import steelyard
from steelyard.serve.observe.families import FAMILIES

_DOC = (Path(__file__).parents[2] / "docs" / "observing.md").read_text(encoding="utf-8")
_SOURCES = list(Path(next(iter(steelyard.__path__))).rglob("*.py"))


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_is_there_with_its_kind_labels_and_meaning(name):
    family = FAMILIES[name]
    shown = f"steelyard_{name}" + ("_total" if family.kind == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in family.labels)
    assert f"| `{shown}` | {family.kind} | {labels} | {family.help} |" in _DOC


def test_each_event_is_there():
    found = {"start", "ready"}
    for path in _SOURCES:
        found |= set(re.findall(r'"event": "(\w+)"', path.read_text(encoding="utf-8")))
    assert found > {"swap", "drain", "request", "worker_death"}
    missing = {name for name in found if f"`{name}`" not in _DOC}
    assert missing == set()
