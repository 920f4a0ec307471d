"""Every contract's own client is told what `steelyard predict` says, to the last bit."""

import csv
import io
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pandas as pd
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton

Answer = tuple[Any, list[float]]
"""A prediction, and the probabilities of the classes."""
Rows = list[dict[str, Any]]
Server = Callable[[str, str], str]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own types when it is imported
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

FEW = 50
SINGLE = 5
MODELS = ("churn", "spent")


def told(documents: list[dict[str, Any]]) -> list[Answer]:
    return [(one["prediction"], [*one.get("probabilities", {}).values()]) for one in documents]


def post(url: str, **request: Any) -> httpx.Response:
    response = httpx.post(url, timeout=60, **request)
    assert response.status_code == 200, response.text
    return response


# The protocols' ways to ask.


def native(url: str, model: str, rows: Rows) -> list[Answer]:
    return told(post(f"{url}/predict/{model}", json={"rows": rows}).json()["predictions"])


def kserve_v1(url: str, model: str, rows: Rows) -> list[Answer]:
    path = f"{url}/v1/models/{model}:predict"
    return told(post(path, json={"instances": rows}).json()["predictions"])


def kserve_v1_values(url: str, model: str, rows: Rows) -> list[Answer]:
    return kserve_v1(url, model, [list(row.values()) for row in rows])  # type: ignore[misc]


def v2(url: str, model: str, rows: Rows, *, binary: bool) -> list[Answer]:
    with triton.InferenceServerClient(urlsplit(url).netloc) as client:
        assert client.is_model_ready(model)
        about = client.get_model_metadata(model)
        inputs = [tensor(entry, rows, binary=binary) for entry in about["inputs"]]
        names = [entry["name"] for entry in about["outputs"]]
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
        return answers_of(client.infer(model, inputs, outputs=outputs), names, len(rows))


def answers_of(result: Any, names: list[str], rows: int) -> list[Answer]:
    predictions = [
        value.decode() if isinstance(value, bytes) else value
        for value in result.as_numpy("prediction").tolist()
    ]
    scores: Any = [[]] * rows
    if "probabilities" in names:
        scores = result.as_numpy("probabilities").tolist()
    return list(zip(predictions, scores, strict=True))


def tensor(entry: Mapping[str, Any], rows: Rows, *, binary: bool) -> triton.InferInput:
    made = triton.InferInput(entry["name"], [len(rows)], entry["datatype"])
    made.set_data_from_numpy(column_of(entry, rows), binary_data=binary)
    return made


def column_of(entry: Mapping[str, Any], rows: Rows) -> Any:
    kinds: dict[str, Any] = {"INT64": np.int64, "FP64": np.float64, "BOOL": np.bool_}
    values = [row[entry["name"]] for row in rows]
    if entry["datatype"] == "BYTES":
        return np.array(["" if value is None else value for value in values], np.object_)
    kind = kinds[entry["datatype"]]
    return np.array([np.nan if value is None else value for value in values], kind)


def v2_grpc(address: str, model: str, rows: Rows) -> list[Answer]:
    with triton_grpc.InferenceServerClient(address) as client:
        assert client.is_model_ready(model)
        about = client.get_model_metadata(model, as_json=True)
        inputs = []
        for entry in about["inputs"]:
            made = triton_grpc.InferInput(entry["name"], [len(rows)], entry["datatype"])
            made.set_data_from_numpy(column_of(entry, rows))
            inputs.append(made)
        result = client.infer(model, inputs, request_id="q7")
        assert result.get_response().id == "q7"
        return answers_of(result, [entry["name"] for entry in about["outputs"]], len(rows))


def table_of(rows: Rows) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    for name in ("since", "seen"):
        table[name] = pd.to_datetime(table[name])
    return table


def mlflow(url: str, model: str, rows: Rows) -> list[Answer]:
    place = urlsplit(url)
    client = ScoringServerClient(place.hostname, place.port)
    client.ping()
    assert client.get_version()
    answer = client.invoke(table_of(rows), params={"probabilities": True})
    table = answer.get_predictions()
    columns = [name for name in table.columns if name != "prediction"]
    scores = table[columns].to_numpy().tolist()
    return list(zip(table["prediction"].tolist(), scores, strict=True))


def mlflow_csv(url: str, model: str, rows: Rows) -> list[Answer]:
    body = table_of(rows).to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S%z")
    response = post(f"{url}/invocations", content=body, headers={"content-type": "text/csv"})
    return [(prediction, []) for prediction in response.json()["predictions"]]


def sagemaker_json(url: str, model: str, rows: Rows) -> list[Answer]:
    instances = [{"features": list(row.values())} for row in rows]
    return told(post(f"{url}/invocations", json={"instances": instances}).json()["predictions"])


def sagemaker_csv(url: str, model: str, rows: Rows) -> list[Answer]:
    text = io.StringIO()
    csv.writer(text).writerows(row.values() for row in rows)
    headers = {"content-type": "text/csv", "accept": "text/csv"}
    response = post(f"{url}/invocations", content=text.getvalue().encode(), headers=headers)
    lines = list(csv.reader(io.StringIO(response.text)))
    kind = str if model == "churn" else float
    return [(kind(line[0]), [float(cell) for cell in line[1:]]) for line in lines]


def sagemaker_lines(url: str, model: str, rows: Rows) -> list[Answer]:
    body = "\n".join(json.dumps(row) for row in rows)
    headers = {"content-type": "application/jsonlines", "accept": "*/*"}
    response = post(f"{url}/invocations", content=body, headers=headers)
    return told([json.loads(line) for line in response.text.splitlines()])


def vertex(url: str, model: str, rows: Rows) -> list[Answer]:
    """As Vertex hands a request on: every number is a double, and there are parameters."""
    numbers = [
        {n: float(v) if type(v) is int else v for n, v in row.items()} for row in rows
    ]  # fmt: skip
    assert httpx.get(f"{url}/is-healthy").status_code == 200
    request = {"instances": numbers, "parameters": None}
    return told(post(f"{url}/predictions", json=request).json()["predictions"])


WAYS: dict[str, tuple[str, Callable[[str, str, Rows], list[Answer]]]] = {
    "native": ("none", native),
    "KServe v1": ("none", kserve_v1),
    "KServe v1, values in order": ("none", kserve_v1_values),
    "tritonclient, JSON": ("none", lambda *asked: v2(*asked, binary=False)),
    "tritonclient, binary": ("none", lambda *asked: v2(*asked, binary=True)),
    "tritonclient, gRPC": ("gRPC", v2_grpc),
    "MLflow's scoring client": ("none", mlflow),
    "MLflow, CSV": ("none", mlflow_csv),
    "SageMaker, JSON": ("platform", sagemaker_json),
    "SageMaker, CSV": ("platform", sagemaker_csv),
    "SageMaker, JSON lines": ("platform", sagemaker_lines),
    "Vertex": ("platform", vertex),
}


@pytest.mark.parametrize("rows", [FEW, pytest.param(1_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("way", WAYS)
def test_the_numbers_are_those_of_steelyard_predict(
    way: str,
    model: str,
    rows: int,
    server: Server,
    held_out: Rows,
    predicted: Mapping[str, list[dict[str, Any]]],
) -> None:
    platform, ask = WAYS[way]
    url = server(model, platform)
    asked, expected = held_out[:rows], told(predicted[model][:rows])
    assert len({str(answer) for answer in expected}) > rows / 2, "the rows say nothing"
    found = ask(url, model, asked)
    for row in range(SINGLE):  # one row takes another way through the server than several
        found += ask(url, model, asked[row : row + 1])
    expected += expected[:SINGLE]
    assert len(found) == len(expected)
    for (prediction, scores), (sure, told_scores) in zip(found, expected, strict=True):
        assert (type(prediction), prediction) == (type(sure), sure)
        assert scores == (told_scores if scores or way != "MLflow, CSV" else [])


def test_a_refusal_names_the_field_in_every_client(server: Server, held_out: Rows) -> None:
    good = held_out[0]
    bad = good | {"tenure": 101}
    url = server("churn", "none")
    place = urlsplit(url)
    with pytest.raises(Exception, match=r"400.*rows\.0\.tenure: expected an integer"):
        ScoringServerClient(place.hostname, place.port).invoke(table_of([bad]))
    with triton.InferenceServerClient(place.netloc) as client:
        about = client.get_model_metadata("churn")["inputs"]
        inputs = [tensor(entry, [good, bad], binary=True) for entry in about]
        with pytest.raises(triton.InferenceServerException, match=r"rows\.1\.tenure") as refusal:
            client.infer("churn", inputs)
    assert refusal.value.status() == "400"
    for path in (f"{url}/v1/models/churn:predict", server("churn", "platform") + "/predictions"):
        answer = httpx.post(path, json={"instances": [bad]})
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"] == "rows.0.tenure"
