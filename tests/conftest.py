"""What holds for every test: no outside configuration, and no clock on generated examples."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# A shared machine stalls now and then; what is too slow is caught by the timeout of the whole test.
hypothesis.settings.register_profile("steelyard", deadline=None)
hypothesis.settings.load_profile("steelyard")


@pytest.fixture(autouse=True, scope="session")
def no_outside_configuration() -> None:
    """A developer's own tracking server or store must neither decide a test nor be written to."""
    for name in [n for n in os.environ if n.startswith(("STEELYARD_", "MLFLOW_", "AWS_", "OTEL_"))]:
        del os.environ[name]


@pytest.fixture(scope="session")
def make_project() -> Callable[[Path], Path]:
    """Write the project of `steelyard init`; a busy machine may be slow, which proves nothing."""

    def make(folder: Path) -> Path:
        command = [sys.executable, "-m", "steelyard", "init", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        definition = folder / "churn.py"
        patient = "gates=[\n        sy.Latency(p99_ms=2000),"
        definition.write_text(definition.read_text().replace("gates=[", patient))
        return folder

    return make
