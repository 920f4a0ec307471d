"""The mirror in experiment tracking. It follows the ledger and may fail without losing a version."""

import contextlib
import logging
import threading
from pathlib import Path

from steelyard.adapters.mlflow.tracker import MlflowTracker
from steelyard.core.config import Config
from steelyard.core.ports import RunRecord, Tracker
from steelyard.core.records import Version
from steelyard.errors import StoreError

__all__ = ["mirror_alias", "mirror_version", "open_tracker", "record_run", "warm_up"]

_log = logging.getLogger("steelyard")
_BEHIND = "MLflow did not take it (%s). The ledger did; `steelyard doctor` shows what is behind."


def open_tracker(config: Config) -> Tracker:
    """Return the configured tracker: MLflow, embedded unless a server is named."""
    return MlflowTracker(config.tracking_uri, artifacts=_artifacts(config))


def _artifacts(config: Config) -> Path | None:
    return config.state / "mlflow" / "artifacts" if config.embedded_tracking else None


def warm_up(config: Config) -> threading.Thread:
    """Import the tracker's client and open its store while the data is read; it takes seconds."""

    def warm() -> None:
        with contextlib.suppress(StoreError):  # told when a run is to be recorded
            MlflowTracker(config.tracking_uri, artifacts=_artifacts(config)).warm()

    thread = threading.Thread(target=warm, name="warm-tracker", daemon=True)
    thread.start()
    return thread


def record_run(run: RunRecord, config: Config) -> str | None:
    """Record a run; None, with a warning, where the tracker does not take it."""
    try:
        return open_tracker(config).record_run(run)
    except StoreError as error:
        _log.warning(_BEHIND, error.message)
        return None


def mirror_version(run: str | None, version: Version, config: Config) -> None:
    """Mirror a registered version of the model that a run produced."""
    if run is None:
        return
    try:
        open_tracker(config).record_version(run, version)
    except StoreError as error:
        _log.warning(_BEHIND, error.message)


def mirror_alias(version: Version, alias: str, config: Config) -> None:
    """Mirror an alias move."""
    try:
        open_tracker(config).set_alias(version, alias)
    except StoreError as error:
        _log.warning(_BEHIND, error.message)
