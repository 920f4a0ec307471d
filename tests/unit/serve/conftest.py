"""Real bundles, made once: one a task, with every kind of field and with labels that need care."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl
import pydantic
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge

import steelyard as sy
from steelyard import Field
from steelyard.core.config import Config
from steelyard.core.ids import uuid7
from steelyard.errors import LogFullError
from steelyard.flow.building import build, read_table
from steelyard.serve.answer.endpoint import Endpoint
from steelyard.serve.answer.limits import Limits
from steelyard.serve.answer.version import LoadedVersion, Served, load
from steelyard.serve.http.asgi import Application, Front
from steelyard.serve.http.pages import make_pages
from steelyard.serve.observe.metrics import Metrics

ROWS = 300
OFFERS = ["50% off", 'say "yes"', "Übung"]
CUSTOMER = {
    "tenure": 5,
    "charge": 70.5,
    "total": None,
    "plan": "basic",
    "city": "Ürümqi",
    "since": "2021-03-01",
    "at": "2024-01-01T02:00:00+02:00",
    "active": True,
}
HOUSE = {"rooms": 4, "area": 81.5, "district": "north"}


class Customer(sy.Row):
    """Somebody who may leave."""

    tenure: int = Field(ge=0, le=100)
    charge: float = Field(gt=0)
    total: float | None = None
    plan: Literal["basic", "pro"]
    city: str = Field(max_length=20, private=True)
    since: date
    at: pydantic.AwareDatetime | None
    active: bool


class House(sy.Row):
    rooms: int = Field(ge=1)
    area: float
    district: Literal["north", "south"]


def customers() -> pl.DataFrame:
    random = np.random.default_rng(0)
    tenure = random.integers(0, 100, ROWS)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "tenure": tenure,
            "charge": random.uniform(1, 100, ROWS),
            "total": [None if i % 7 == 0 else float(i) for i in range(ROWS)],
            "plan": np.where(tenure % 2, "basic", "pro"),
            "city": [["Rome", "Oslo", "Ürümqi"][i % 3] for i in range(ROWS)],
            "since": [date(2020, 1, 1) + timedelta(days=i) for i in range(ROWS)],
            "at": [None if i % 5 == 0 else start + timedelta(hours=i) for i in range(ROWS)],
            "active": tenure > 30,
            "churn": tenure + random.normal(0, 30, ROWS) > 50,
        }
    )


def houses() -> pl.DataFrame:
    random = np.random.default_rng(1)
    rooms, area = random.integers(1, 8, ROWS), random.uniform(20, 200, ROWS)
    return pl.DataFrame(
        {
            "rooms": rooms,
            "area": area,
            "district": np.where(area > 100, "north", "south"),
            "price": rooms * 10 + area + random.normal(0, 5, ROWS),
            "offer": [OFFERS[i] for i in np.clip(rooms // 3, 0, 2)],
        }
    )


DEFINITIONS = [
    sy.Model(
        name="churn",
        row=Customer,
        data=sy.Python(customers),
        label="churn",
        positive=True,
        estimator=RandomForestClassifier(10, random_state=0),
    ),
    sy.Model(name="price", row=House, data=sy.Python(houses), label="price", estimator=Ridge()),
    sy.Model(
        name="offer",
        row=House,
        data=sy.Python(houses),
        label="offer",
        estimator=LogisticRegression(max_iter=200),
        allow_unknown_fields=True,
    ),
]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    """A bundle a task: churn is binary, price a regression, offer has three classes."""
    folder = tmp_path_factory.mktemp("bundles")
    found = {}
    for i, definition in enumerate(DEFINITIONS):
        table = read_table(definition, Config(folder / "state"))
        built = build(definition, table, folder)
        found[definition.name] = Served(i + 1, built.bundle, built.folder)
    return found


@pytest.fixture(scope="session")
def versions(bundles: dict[str, Served]) -> dict[str, LoadedVersion]:
    return {name: load(served) for name, served in bundles.items()}


@dataclass
class MemoryLog:
    """A log that can be told to be full; what it took can be looked at."""

    full: bool = False
    lines: list[bytes] = field(default_factory=list)
    dropped: int = 0
    sync_errors: int = 0

    def append(self, payload: bytes) -> None:
        self.append_many([payload])

    def append_many(self, payloads: Sequence[bytes]) -> None:
        if self.full:
            raise LogFullError("the log is full")
        assert not any(b"\n" in payload for payload in payloads)
        self.lines += payloads

    def close(self) -> None:
        pass

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls an ASGI application as a server does; a body may come in parts."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def request(
        self,
        method: str,
        path: str,
        parts: Sequence[bytes] = (b"",),
        headers: dict[str, str] | None = None,
    ) -> Answer:
        given = {"content-type": "application/json"} | (headers or {})
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        }
        messages = [
            {"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
            for i, part in enumerate(parts)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        start = sent[0]
        headers_back = {k.decode(): v.decode() for k, v in start["headers"]}
        return Answer(start["status"], headers_back, b"".join(m["body"] for m in sent[1:]))

    def call(self, method: str, path: str, body: Any = b"", **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.run(self.request(method, path, [data], named))


@dataclass
class Stand:
    """An endpoint with all that stands around it, short of a socket."""

    endpoint: Endpoint
    log: MemoryLog
    metrics: Metrics
    front: Front
    client: Client
    log_problem: list[str]

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the series of a metric that are not 0, by the values of their labels."""
        found = self.metrics.counted()
        series = [*found.counters.get(name, ()), *found.gauges.get(name, ())]
        series += [(x, sum(h.counts)) for x, h in found.histograms.get(name, ())]
        return {labels: value for labels, value in series if value}


@pytest.fixture
def customer() -> dict[str, Any]:
    return dict(CUSTOMER)


@pytest.fixture
def house() -> dict[str, Any]:
    return dict(HOUSE)


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait get their turn after every step, however short it was."""
    monkeypatch.setattr("steelyard.serve.answer.several._TURN_NS", 0)


@pytest.fixture
def stand(versions: dict[str, LoadedVersion]) -> Callable[..., Stand]:
    """Return a function that makes an endpoint of a bundle, with all that stands around it."""

    def make(name: str = "churn", limits: Limits | None = None) -> Stand:
        loaded = versions[name]
        limits = limits or Limits()
        log = MemoryLog()
        metrics = Metrics(name, log)
        metrics.serving(loaded.served.version, loaded.served.bundle, loaded.outputs)
        endpoint = Endpoint(loaded, log, metrics, uuid7, limits)
        problems: list[str] = []
        connections = [1]

        def pages(front: Front) -> Application:
            return make_pages(front, lambda: problems[0] if problems else "")

        front = Front(endpoint, metrics, pages, lambda: connections[0])
        return Stand(endpoint, log, metrics, front, Client(front), problems)

    return make
