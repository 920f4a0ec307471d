"""Settings: defaults, the last of a kind counts, and the definition's own metric."""

from collections.abc import Callable

import steelyard as sy
from steelyard.validate.candidate import Candidate
from steelyard.validate.settings import Settings


def test_defaults(good: Candidate) -> None:
    found = Settings.of(good.definition)
    assert found.schema.max_bad == 0.001
    assert (found.leakage.auc, found.leakage.r2) == (0.98, 0.98)
    assert Settings().latency.p99_ms == 10.0
    assert found.baseline_metric is None
    assert (found.champion.metric, found.champion.tolerance) == (None, 0.0)
    assert (found.quality, found.slices) == ((), ())
    assert found.waiver("leakage") is None


def test_the_last_of_a_kind_counts_and_limits_add_up(make: Callable[..., Candidate]) -> None:
    gates = (
        sy.AtLeast("roc_auc", 0.8), sy.AtMost("log_loss", 0.5), sy.Latency(5), sy.Latency(7),
        sy.Champion(tolerance=0.01), sy.waive("parity", reason="first one"),
        sy.waive("parity", reason="second one"),
    )  # fmt: skip
    found = Settings.of(make(gates=gates, definition={"metric": "accuracy"}).definition)
    assert found.latency.p99_ms == 7
    assert [limit.metric for limit in found.quality] == ["roc_auc", "log_loss"]
    assert (found.champion.metric, found.champion.tolerance) == ("accuracy", 0.01)
    assert found.baseline_metric == "accuracy"
    waiver = found.waiver("parity")
    assert waiver is not None
    assert waiver.reason == "second one"
