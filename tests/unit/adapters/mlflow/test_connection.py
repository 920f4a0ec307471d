"""The embedded database: made once, whole or not at all."""

import sqlite3
import subprocess
import sys
from pathlib import Path

from steelyard.adapters.mlflow.connection import Connection

_OPEN = """
import sys
from pathlib import Path
from steelyard.adapters.mlflow.connection import Connection

place = Path(sys.argv[1])
with Connection(f"sqlite:///{place}/mlflow.db", place / "artifacts").doing("open") as client:
    client.create_experiment(sys.argv[2])
"""


def test_two_first_runs_make_one_database(tmp_path: Path) -> None:
    """Processes that start at the same moment; a killed one's rest is swept."""
    place = tmp_path / "mlflow"
    place.mkdir()
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    (place / f".aside-{finished.pid}-mlflow.db").write_bytes(b"half a database")
    command = [sys.executable, "-c", _OPEN, str(place)]
    both = [subprocess.Popen([*command, name], stderr=subprocess.PIPE) for name in ("a", "b")]
    errors = [process.communicate(timeout=110)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sorted(path.name for path in place.iterdir()) == [".lock", "mlflow.db"]
    with sqlite3.connect(place / "mlflow.db") as database:
        names = {name for (name,) in database.execute("SELECT name FROM experiments")}
        (artifacts,) = database.execute(
            "SELECT artifact_location FROM experiments WHERE name = 'Default'"
        ).fetchone()
    database.close()
    assert names == {"Default", "a", "b"}
    # MLflow would keep them in ./mlruns of wherever the first command was run.
    assert artifacts.startswith((place / "artifacts").as_uri())


def test_only_an_embedded_tracker_has_a_database() -> None:
    assert Connection("http://127.0.0.1:1", None).database is None
    embedded = Connection("sqlite:////state/mlflow/mlflow.db", Path("/state/mlflow/artifacts"))
    assert embedded.database == Path("/state/mlflow/mlflow.db")
