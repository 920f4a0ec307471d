from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
import spox
from threadpoolctl import threadpool_limits

from steelyard.bundle.estimators import score_graph

Run = Callable[[np.ndarray], np.ndarray]


def session(inputs: dict[str, spox.Var], output: spox.Var) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = spox.build(inputs, {"scores": output}).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Fitting small tables on several threads is slower, and much slower on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def open_session() -> Callable[[dict[str, spox.Var], spox.Var], onnxruntime.InferenceSession]:
    return session


@pytest.fixture
def compiled() -> Callable[..., Run]:
    """Return a function that compiles a graph over x [N, D] and runs it on one thread."""

    def compile_graph(graph: Callable[[spox.Var], spox.Var], columns: int, dtype: Any) -> Run:
        x = spox.argument(spox.Tensor(dtype, ("N", columns)))
        opened = session({"x": x}, graph(x))
        return lambda rows: opened.run(None, {"x": np.ascontiguousarray(rows, dtype=dtype)})[0]

    return compile_graph


@pytest.fixture
def check_parity(compiled: Callable[..., Run]) -> Callable[..., np.ndarray]:
    """Return a function that holds a compiled estimator against the fitted one and itself."""

    def check(
        estimator: Any,
        rows: np.ndarray,
        *,
        bound: float = 1e-12,
        exact: bool = False,
        whole_codes: bool = True,
    ) -> np.ndarray:
        run = compiled(
            lambda x: score_graph(estimator, x, whole_codes=whole_codes),
            rows.shape[1],
            rows.dtype,
        )
        found = run(rows)
        if hasattr(estimator, "predict_proba"):
            wanted = estimator.predict_proba(rows)
        else:
            wanted = np.asarray(estimator.predict(rows), dtype=np.float64).reshape(-1, 1)
        assert found.dtype == np.float64
        assert found.shape == wanted.shape
        difference = np.abs(found - wanted) / np.maximum(1, np.abs(wanted))
        assert difference.max() <= bound
        assert not exact or np.array_equal(found, wanted)
        if wanted.shape[1] > 1:
            ranked = np.sort(wanted, axis=1)
            clear = ranked[:, -1] - ranked[:, -2] > 1e-6
            assert np.array_equal(found.argmax(axis=1)[clear], wanted.argmax(axis=1)[clear])
        same_bits(run, rows, found)
        return found

    return check


def same_bits(run: Run, rows: np.ndarray, whole: np.ndarray) -> None:
    """Every batch of 1, 2, 3, 8, ... rows answers with the bits of the whole."""
    for size in (1, 2, 3, 8, 13, 1000):
        stop = min(len(rows), 60 if size < 10 else 1000)
        parts = [run(rows[i : i + size]) for i in range(0, stop, size)]
        together = np.concatenate(parts)
        assert together.tobytes() == whole[: len(together)].tobytes(), f"batches of {size} differ"


@pytest.fixture
def check_bits() -> Callable[[Run, np.ndarray, np.ndarray], None]:
    return same_bits
