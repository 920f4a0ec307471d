"""One lazily opened MLflow client: quick to make, quiet, and with errors that say what to do."""

import importlib
import logging
import os
import socket
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from steelyard.core.files import fsync_dir, locked, sweep_aside
from steelyard.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Connection"]

_SQLITE: Final = "sqlite:///"
_PORTS: Final = {"http": 80, "https": 443}
_KNOCK: Final = 5.0
# A command's stdout belongs to the command, and nothing is reported to anybody unasked.
_ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_VENDORS: Final = r"(mlflow|sqlalchemy|alembic)(\.|$)"


def _quiet() -> None:
    """Keep what MLflow says about itself from the user's console.

    The filter names the vendors' modules and stays: `catch_warnings` would race with the thread
    that warms up.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=_VENDORS)


def _knock(uri: str) -> None:
    """Raise OSError at once where no server listens; MLflow itself would retry for minutes."""
    place = urlsplit(uri)
    if place.scheme not in _PORTS or place.hostname is None:
        return
    if place.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(
        place.hostname
    ):
        return
    port = place.port or _PORTS[place.scheme]
    with socket.create_connection((place.hostname, port), timeout=_KNOCK):
        pass


class Connection:
    """A client of the tracking store at `uri`, opened when first used.

    `artifacts` is the folder of the embedded tracker's files; None where a server, or somebody
    else's database, keeps them.
    """

    def __init__(self, uri: str, artifacts: Path | None) -> None:
        self.uri = uri
        self.artifacts = artifacts
        self._client: MlflowClient | None = None
        self._lock = threading.Lock()

    @property
    def database(self) -> Path | None:
        """The embedded tracker's own SQLite file."""
        return None if self.artifacts is None else Path(self.uri.removeprefix(_SQLITE))

    @contextmanager
    def doing(self, what: str) -> Iterator["MlflowClient"]:
        """Give the client; what goes wrong inside becomes a StoreError that says what to do next."""
        try:
            _knock(self.uri)
            _load(embedded=self.artifacts is not None)
        except ImportError as error:
            raise StoreError(
                f"MLflow cannot {what}: it is not installed ({error}).",
                fix="Install what training needs: pip install 'steelyard[train]'",
            ) from error
        except OSError as error:
            raise self._failed(what, error) from error
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield self._open()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise self._failed(what, error) from error

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from the embedded tracker meanwhile; a server orders by itself."""
        if self.artifacts is None:
            yield
            return
        with locked(self.artifacts.parent / ".lock"):
            yield

    def _failed(self, what: str, error: Exception) -> StoreError:
        place = self.uri if self.artifacts is None else str(self.database)
        text = str(error).strip().split("\n", 1)[0]
        fix = (
            "See that the server in MLFLOW_TRACKING_URI runs and may be reached from here."
            if self.artifacts is None
            else f"See that the disk has room and that {self.artifacts.parent} belongs to this user."
        )
        if "out-of-date database schema" in text:
            fix = f"Run: mlflow db upgrade {self.uri}"
        return StoreError(f"MLflow at {place} cannot {what}: {text}", fix=fix)

    def _open(self) -> "MlflowClient":
        from mlflow import MlflowClient

        with self._lock:
            if self._client is None:
                self._create_database()
                registry = os.environ.get("MLFLOW_REGISTRY_URI") if self.artifacts is None else None
                self._client = MlflowClient(self.uri, registry or self.uri)
            return self._client

    def _create_database(self) -> None:
        """Migrate the embedded database aside, once, so that a killed first run leaves none."""
        path = self.database
        if path is None or self.artifacts is None or path.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with self.exclusive():
            if path.exists():
                return
            sweep_aside(path.parent)
            aside = path.with_name(f".aside-{os.getpid()}-{path.name}")
            # The experiment that MLflow always makes would otherwise keep files in ./mlruns.
            make: Any = SqlAlchemyStore
            store = make(f"{_SQLITE}{aside}", self.artifacts.as_uri())
            store.engine.dispose()
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            aside.replace(path)
            fsync_dir(path.parent)


def _load(*, embedded: bool) -> None:
    """Import what recording needs, quietly; the first time it takes seconds."""
    _quiet()
    importlib.import_module("mlflow")
    modules = ["mlflow.store.tracking.rest_store"]
    if embedded:
        modules = [
            "mlflow.store.tracking.sqlalchemy_store",
            "mlflow.store.model_registry.sqlalchemy_store",
        ]
    for name in modules:
        importlib.import_module(name)
    # Migrations and retries are told below this level; failures are raised, and told by us.
    for name in ("mlflow.store", "mlflow.tracking", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
