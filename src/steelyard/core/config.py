"""Where state lives and which engines are used: the environment, else the working folder."""

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Config"]


@dataclass(frozen=True, slots=True)
class Config:
    """Places of one working folder. `STEELYARD_STATE` moves them all.

    `STEELYARD_STORE` names an object store (`s3://bucket/prefix`, `gs://`, `az://`) for bundles and
    the ledger instead.

    >>> Config(Path("s")).snapshots.as_posix()
    's/snapshots'
    """

    state: Path

    @classmethod
    def load(cls) -> "Config":
        """Read the configuration that the environment and the working folder give."""
        return cls(Path(os.environ.get("STEELYARD_STATE", ".steelyard")).absolute())

    @property
    def store(self) -> str:
        """Bundles and the ledger: a folder, or the URL of an object store."""
        return os.environ.get("STEELYARD_STORE") or str(self.state / "store")

    @property
    def cache(self) -> Path:
        """Local copies of bundles that an object store keeps."""
        return self.state / "cache"

    @property
    def snapshots(self) -> Path:
        """Training data, content-addressed."""
        return self.state / "snapshots"

    @property
    def predictions(self) -> Path:
        """The prediction log, a folder a model."""
        return self.state / "predictions"

    @property
    def keys(self) -> Path:
        """The hashes of API keys: `STEELYARD_KEYS`, else beside the store."""
        return Path(os.environ.get("STEELYARD_KEYS") or self.state / "keys.json")

    @property
    def audit(self) -> Path:
        """The audit log."""
        return self.state / "audit"

    @property
    def verify_key(self) -> Path | None:
        """Public keys of those whose signatures count: `STEELYARD_VERIFY_KEY`, a PEM file."""
        return _path("STEELYARD_VERIFY_KEY")

    @property
    def sign_key(self) -> Path | None:
        """The private key that a run signs its version with: `STEELYARD_SIGN_KEY`, a PEM file."""
        return _path("STEELYARD_SIGN_KEY")

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking server: `MLFLOW_TRACKING_URI`, else SQLite beside the store."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.state}/mlflow/mlflow.db"

    @property
    def embedded_tracking(self) -> bool:
        """Whether tracking is Steelyard's own file rather than a server."""
        return not os.environ.get("MLFLOW_TRACKING_URI")


def _path(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None
