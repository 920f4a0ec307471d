"""Where keys are asked for, the document says so of every path that asks, and of no other."""

import pytest

from steelyard.serve.secure.access import Access
from steelyard.serve.secure.keys import KeyFile


@pytest.fixture
def guarded(stand, tmp_path):
    made = stand("price")
    file = KeyFile(tmp_path / "keys.json")
    _, text = file.create("all", scopes=["predict", "metrics"])
    made.front.access = Access(file)
    made.front.access.load()
    return made, {"authorization": f"Bearer {text}"}


def test_the_document_is_right_about_every_path(guarded):
    made, key = guarded
    document = made.client.call("GET", "/openapi.json", **key).document
    validator = pytest.importorskip("openapi_spec_validator")
    plain = {p: o for p, o in document["paths"].items() if ":int" not in p}
    validator.validate({**document, "paths": plain})
    asked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            url = path.replace("{endpoint}", "1").replace("{deployed}", "2")
            status = made.client.call(method.upper(), url, b"{}").status
            assert ("401" in operation["responses"]) == (status == 401), (method, path)
            assert ("security" in operation) == (status == 401)
            asked += status == 401
            assert made.client.call(method.upper(), url, b"{}", **key).status != 401
    assert asked > 3


def test_a_server_that_asks_for_none_says_nothing_of_keys(stand):
    document = stand("price").client.call("GET", "/openapi.json").document
    assert "securitySchemes" not in document["components"]
    assert not [o for ops in document["paths"].values() for o in ops.values() if "security" in o]
