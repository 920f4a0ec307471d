"""The requests of docs/contracts.md are answered, and all with the same two predictions."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

import steelyard as sy
from steelyard.core.config import Config
from steelyard.flow.building import build, read_table

_DOC = Path(__file__).parents[2] / "docs" / "contracts.md"
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
_BLOCK = re.compile(r"^```http\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Customer(sy.Row):
    tenure: int
    charge: float | None
    plan: Literal["basic", "pro"]


def _customers() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "tenure": [i % 40 for i in range(400)],
            "charge": [None if i % 9 == 0 else float(i) for i in range(400)],
            "plan": [("basic", "pro")[i % 2] for i in range(400)],
            "churn": [("yes", "no")[i % 40 > 20] for i in range(400)],
        }
    )


def _requests() -> list[Any]:
    text = _DOC.read_text(encoding="utf-8")
    titles = list(_HEADING.finditer(text))
    return [
        pytest.param(
            title[1], block, id=f"{title[1]}, {i}"
        )
        for title, following in zip(titles, [*titles[1:], None], strict=True)
        for i, block in enumerate(
            _BLOCK.findall(text[title.end() : following.start() if following else None])
        )
    ]  # fmt: skip


@contextmanager
def _serving(*words: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "steelyard", "serve", *words, "--port", "0"],
        env=os.environ | {"STEELYARD_STATE": str(Path(words[0]) / "state")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        yield found[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("contracts")
    definition = sy.Model(
        name="churn",
        row=Customer,
        data=sy.Python(_customers),
        label="churn",
        positive="yes",
        estimator=LogisticRegression(),
    )
    built = build(definition, read_table(definition, Config(folder / "state")), folder)
    with ExitStack() as stack:
        yield {
            "": stack.enter_context(_serving(f"{built.folder}/")),
            "SageMaker": stack.enter_context(
                _serving(f"{built.folder}/", "--contract", "sagemaker")
            ),
        }


@pytest.fixture(scope="module")
def expected(servers: dict[str, str]) -> list[str]:
    rows = [
        {"tenure": 5, "charge": 70.5, "plan": "pro"},
        {"tenure": 2, "charge": None, "plan": "basic"},
    ]
    found = httpx.post(f"{servers['']}/predict/churn", json={"rows": rows}).json()["predictions"]
    return [repr(one["probabilities"]["yes"]) for one in found]


def test_there_is_a_request_for_every_contract() -> None:
    assert len(_requests()) == 8


@pytest.mark.parametrize(("title", "block"), _requests())
def test_a_request_is_answered(
    servers: dict[str, str], expected: list[str], title: str, block: str
) -> None:
    head, _, body = block.partition("\n\n")
    line, *headers = head.splitlines()
    method, path = line.split(" ")
    url = servers.get(title, servers[""])
    response = httpx.request(
        method,
        url + path,
        content=body.encode(),
        headers=dict(header.split(": ", 1) for header in headers),
    )
    assert response.status_code == 200, response.text
    if "text/csv" not in block or title == "SageMaker":
        assert all(number in response.text for number in expected)
    else:
        assert len(response.json()["predictions"]) == len(expected)
