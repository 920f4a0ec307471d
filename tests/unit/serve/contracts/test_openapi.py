import pytest

from steelyard.serve.contracts.openapi import openapi_document
from steelyard.serve.contracts.table import contracts_of
from steelyard.serve.http.pages import make_pages

NAMES = ["churn", "price", "offer"]


@pytest.fixture(params=NAMES)
def document(request, versions):
    loaded = versions[request.param]
    contracts = contracts_of(["sagemaker"] if request.param == "price" else [], {})
    return openapi_document(loaded.predictor, loaded.served.version, 10_000, contracts)


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


def validate(schema, instance):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(schema).validate(instance)


def check(document, name, instance):
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    validate(schema, instance)


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


@pytest.mark.parametrize("chosen", [[], ["sagemaker"]])
def test_every_path_that_is_described_is_answered(stand, versions, chosen):
    made = stand("price")
    contracts = contracts_of(chosen, {})
    made.front._make_pages = lambda front: make_pages(front, lambda: "", contracts)
    loaded = versions["price"]
    document = openapi_document(loaded.predictor, 2, 10_000, contracts)
    for path, operations in document["paths"].items():
        for method in operations:
            url = path.replace("{endpoint}", "1").replace("{deployed}", "2")
            answer = made.client.call(method.upper(), url, b"{}")
            assert str(answer.status) in operations[method]["responses"], (method, path)


def test_a_platforms_path_hides_that_of_another_contract(versions):
    contracts = contracts_of([], {"AIP_PREDICT_ROUTE": "/invocations"})
    document = openapi_document(versions["price"].predictor, 2, 10_000, contracts)
    assert document["paths"]["/invocations"]["post"]["tags"] == ["vertex"]


@pytest.mark.parametrize("path", ["/v1/models/price:predict", "/v2/models/price/infer",
                                  "/invocations", "/v1/models", "/v1/models/price"])  # fmt: skip
def test_the_answers_of_contracts_are_as_described(stand, versions, house, path):
    made = stand("price")
    loaded = versions["price"]
    document = openapi_document(loaded.predictor, 2, 10_000, contracts_of([], {}))
    (operations,) = [document["paths"][path]]
    ((method, operation),) = operations.items()
    inputs = [
        {"name": name, "shape": [1], "datatype": datatype, "data": [house[name]]}
        for name, datatype in (("rooms", "INT64"), ("area", "FP64"), ("district", "BYTES"))
    ]
    good = {"inputs": inputs} if "v2" in path else {"instances": [house]}
    asked = [(good, "200")] if method == "get" else [(good, "200"), ({}, "400")]
    for body, status in asked:
        answer = made.client.call(method.upper(), path, body)
        assert str(answer.status) == status
        schema = operation["responses"][status]["content"]["application/json"]["schema"]
        validate(schema | {"components": document["components"]}, answer.document)
