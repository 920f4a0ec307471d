"""The definition in the README is one that Steelyard takes, beside the data that it names."""

import re
from pathlib import Path

from steelyard.core.loading import load_definition
from steelyard.features.trace import trace

README = Path(__file__).parents[2] / "README.md"


def test_the_definition_loads_and_its_features_trace(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "churn.py").write_text(block)
    model = load_definition(str(tmp_path / "churn.py"))
    assert model.features is not None
    assert trace(model.features, model.fields).outputs == ("paid_so_far",)


def test_every_linked_file_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
