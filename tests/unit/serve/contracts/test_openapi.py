import pytest

from steelyard.serve.contracts.openapi import openapi_document

NAMES = ["churn", "price", "offer"]


@pytest.fixture(params=NAMES)
def document(request, versions):
    loaded = versions[request.param]
    return openapi_document(loaded.predictor, loaded.served.version, 10_000)


def references(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere(document):
    found = set(references(document))
    assert found
    for reference in found:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_every_status_of_the_prediction_route_is_described(document):
    route = next(path for path in document["paths"] if path.startswith("/predict/"))
    described = document["paths"][route]["post"]["responses"]
    assert set(described) == {"200", "404", "405", "413", "415", "422", "429", "503"}


def test_it_is_openapi_by_the_letter(document):
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document)


def check(document, name, instance):
    jsonschema = pytest.importorskip("jsonschema")
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(instance)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_answered_is_what_is_described(stand, versions, name, customer, house):
    made = stand(name)
    row = customer if name == "churn" else house
    loaded = versions[name]
    document = openapi_document(loaded.predictor, loaded.served.version, 10_000)
    path = f"/predict/{name}"
    check(document, "Row", row)
    check(document, "Prediction", made.client.call("POST", path, row).document)
    check(document, "Rows", {"rows": [row]})
    check(document, "Predictions", made.client.call("POST", path, {"rows": [row]}).document)
    check(document, "FieldErrors", made.client.call("POST", path, {}).document)
    check(document, "Error", made.client.call("GET", path).document)
    check(document, "Ready", made.client.call("GET", "/health/ready").document)
