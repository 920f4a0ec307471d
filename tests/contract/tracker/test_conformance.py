"""The Tracker port's suite over MLflow, embedded and as a server."""

from pathlib import Path

import pytest

from steelyard.adapters.mlflow.tracker import MlflowTracker
from steelyard.core.ports import Tracker
from steelyard.testing.tracker import TrackerConformance


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "mlflow"


class TestEmbedded(TrackerConformance):
    @pytest.fixture
    def tracker(self, place: Path) -> Tracker:
        return MlflowTracker(f"sqlite:///{place}/mlflow.db", artifacts=place / "artifacts")


class TestServer(TrackerConformance):
    @pytest.fixture
    def tracker(self, server: str) -> Tracker:
        return MlflowTracker(server, artifacts=None)
