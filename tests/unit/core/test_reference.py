"""References to versions."""

import pytest

from steelyard.core.reference import Reference
from steelyard.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("churn", Reference("churn", alias="champion")),
        ("churn@champion", Reference("churn", alias="champion")),
        ("churn@12", Reference("churn", version=12)),
        ("churn@sha256:ab12", Reference("churn", bundle="ab12")),
    ],
)
def test_each_form_is_read_and_written_back(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected
    assert Reference.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "@3", "../etc", "a/b", "churn@", "churn@a b", "churn@sha256:zz", "churn@sha256:", "-x"],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Reference.parse(text)
