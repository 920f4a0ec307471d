"""What holds for every test: no outside configuration, and no clock on generated examples."""

import os

import hypothesis
import pytest

# A shared machine stalls now and then; what is too slow is caught by the timeout of the whole test.
hypothesis.settings.register_profile("steelyard", deadline=None)
hypothesis.settings.load_profile("steelyard")


@pytest.fixture(autouse=True, scope="session")
def no_outside_configuration() -> None:
    """A developer's own tracking server or store must neither decide a test nor be written to."""
    for name in [n for n in os.environ if n.startswith(("STEELYARD_", "MLFLOW_", "AWS_"))]:
        del os.environ[name]
