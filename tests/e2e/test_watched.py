"""A served model under a real Prometheus: every panel and every rule is evaluated on what it tells."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

import steelyard as sy
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.flow.building import build, read_table
from steelyard.flow.stores import open_ledger

ROW = {"tenure": 5, "charge": 70.5, "plan": "basic"}
ODD = {"tenure": 5, "charge": 1e6, "plan": "basic"}
# What stays empty where there is nothing to tell of.
QUIET = {"Graphics memory", "Graphics load"}


class Customer(sy.Row):
    tenure: int
    charge: float
    plan: Literal["basic", "pro"]


def customers() -> pl.DataFrame:
    draw = np.random.default_rng(0)
    tenure = draw.integers(0, 100, 300)
    return pl.DataFrame(
        {
            "tenure": tenure,
            "charge": draw.uniform(1, 100, 300),
            "plan": np.where(tenure % 2, "basic", "pro"),
            "churn": np.where(tenure + draw.normal(0, 30, 300) > 50, "Yes", "No"),
        }
    )


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched")
    config = Config(folder / "state")
    ledger = open_ledger(config)
    made = sy.Model(
        name="churn",
        row=Customer,
        data=sy.Python(customers),
        label="churn",
        positive="Yes",
        estimator=LogisticRegression(max_iter=500),
    )
    built = build(made, read_table(made, config), folder / "candidates")
    ledger.register(
        "churn",
        bundle=built.folder,
        bundle_hash=built.bundle,
        provenance={},
        verdict=Verdict(built.bundle, hash_json({}), (Check("schema", "rows", True),)),
        documents={},
        by="test",
    )
    version = Reference("churn", version=1)
    ledger.promote(version, alias="champion", reason="", by="test")
    return folder / "state"


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def steelyard(*words: str) -> list[str]:
    return [sys.executable, "-m", "steelyard", *words]


@pytest.fixture(scope="module")
def url(state: Path) -> Iterator[str]:
    command = steelyard("serve", "churn", "--port", "0", "--workers", "2")
    environment = {**os.environ, "STEELYARD_STATE": str(state)}
    with running(command, env=environment, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert found
        yield found[0]
        server.stdout.close()


def ask(url: str, path: str, body: Any) -> None:
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=20).close()
    except urllib.error.HTTPError as error:
        error.close()


@pytest.fixture(scope="module")
def load(url: str) -> Iterator[None]:
    """Light traffic of every kind: single rows, several, another contract, odd ones, wrong ones."""
    ending = threading.Event()

    def go() -> None:
        while not ending.wait(0.05):
            for row in (ROW, ODD, {**ROW, "tenure": 80}, {"tenure": "x"}):
                ask(url, "/predict/churn", row)
            ask(url, "/predict/churn", {"rows": [ROW, ROW]})
            ask(url, "/v1/models/churn:predict", {"instances": [ROW]})

    thread = threading.Thread(target=go)
    thread.start()
    yield
    ending.set()
    thread.join()


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(
            f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=20
        ) as answer:
            return json.load(answer)["data"]

    def ask(self, query: str) -> list[Any]:
        for name, value in (
            ("$__rate_interval", "10s"), ("$model", "churn"), ("$instance", ".*"),
        ):  # fmt: skip
            query = query.replace(name, value)
        return self.get("/api/v1/query", query=query)["result"]  # type: ignore[no-any-return]


def eventually(look: Any, seconds: float = 60) -> Any:
    late = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < late:
        time.sleep(0.3)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch") / "files"
    subprocess.run(steelyard("dashboards", str(folder)), check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="module")
def prometheus(url: str, load: None, folder: Path) -> Iterator[Prometheus]:
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus here")
    shipped = (folder / "prometheus.yml").read_text()
    ours = folder / "ours.yml"
    text = shipped.replace("127.0.0.1:8000", url.removeprefix("http://")).replace("15s", "1s")
    assert text.count("1s") == 1
    ours.write_text("global:\n  evaluation_interval: 1s\n" + text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        "prometheus", f"--config.file={ours}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={listen}", "--log.level=error",
    ]  # fmt: skip
    with running(command):
        server = Prometheus(f"http://{listen}")

        def scraped() -> bool:
            try:
                return len(server.ask("count_over_time(steelyard_workers[1m]) > 4")) > 0
            except OSError:
                return False

        assert eventually(scraped)
        yield server


def test_every_panel_shows_what_a_server_under_load_tells(prometheus, folder):
    dashboard = json.loads((folder / "grafana.json").read_text())
    panels = [panel for panel in dashboard["panels"] if "targets" in panel]
    assert len(panels) > 25

    def empty() -> list[str]:
        return [
            f"{panel['title']}: {target['expr']}"
            for panel in panels
            for target in panel["targets"]
            if panel["title"] not in QUIET and not prometheus.ask(target["expr"])
        ]

    eventually(lambda: not empty())
    assert empty() == []
    for panel in panels:
        for target in panel["targets"]:
            for found in prometheus.ask(target["expr"]):
                missing = set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - set(
                    found["metric"]
                )
                assert not missing, (panel["title"], found)


def test_what_the_panels_say_is_what_was_asked(prometheus):
    def value(query: str) -> float:
        (found,) = prometheus.ask(query)
        return float(found["value"][1])

    refused = 'sum(rate(steelyard_responses_total{status="422"}[10s]))'
    answered = 'sum(rate(steelyard_responses_total{route="/predict",status="200"}[10s]))'
    assert value(f"{refused} / {answered}") == pytest.approx(0.25, abs=0.15)
    rows = "sum(rate(steelyard_predictions_total[10s]))"
    assert value(f"{rows} / {answered}") == pytest.approx(6 / 4, abs=0.4)
    assert value("sum(steelyard_workers)") == 2
    assert value("count(process_resident_memory_bytes)") >= 2
    labels = {found["metric"]["label"] for found in prometheus.ask("steelyard_outputs_total")}
    assert labels == {"Yes", "No"}
    assert value("sum(rate(steelyard_outputs_total[10s]))") > 0
    (field,) = prometheus.ask('steelyard_refusals_total{field="tenure"}')
    assert float(field["value"][1]) > 0


def test_the_variables_of_the_dashboard_find_the_model_and_the_server(prometheus, url):
    found = prometheus.get("/api/v1/label/model/values", **{"match[]": "steelyard_workers"})
    assert found == ["churn"]
    found = prometheus.get(
        "/api/v1/label/instance/values", **{"match[]": 'steelyard_workers{model="churn"}'}
    )
    assert found == [url.removeprefix("http://")]


def test_every_rule_is_evaluated_and_none_fires_without_cause(prometheus):
    def rules() -> Any:
        (group,) = prometheus.get("/api/v1/rules")["groups"]
        return group["rules"]

    def evaluated() -> bool:
        return all(rule["health"] != "unknown" for rule in rules())

    assert eventually(evaluated)
    assert {rule["health"] for rule in rules()} == {"ok"}
    # The load holds nonsense on purpose, and odd rows; it is told of only when it lasts.
    firing = {rule["name"] for rule in rules() if rule["state"] == "firing"}
    assert firing == set()


def test_the_scrape_is_openmetrics(prometheus):
    (target,) = prometheus.get("/api/v1/targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


def test_files_that_were_edited_are_not_overwritten(folder):
    with (folder / "alerts.yml").open("a") as file:
        file.write("# ours\n")
    run = subprocess.run(
        steelyard("dashboards", str(folder)), capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "alerts.yml exists and is another one" in run.stderr
    run = subprocess.run(
        steelyard("dashboards", str(folder), "--force", "--json"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(run.stdout)["files"] == ["grafana.json", "alerts.yml", "prometheus.yml"]
    assert not (folder / "alerts.yml").read_text().endswith("# ours\n")
