import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import spox
from threadpoolctl import threadpool_limits

from steelyard.bundle.estimators import score_graph
from steelyard.bundle.sklearn_pipeline import pipeline_graph
from steelyard.core.fields import NULL_STRING

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


NUMBERS = ["age", "income", "balance", "level", "active"]
STRINGS = ["city", "plan"]
INTEGERS = {"age": np.int64, "active": np.bool_}  # required fields: they come without nulls
CITIES = [f"city {i}" for i in range(30)] + ["", "Zürich", NULL_STRING]


def table(rng, n, unseen=False):
    income = rng.lognormal(8, 2, size=n)
    frame = {
        "age": rng.integers(-5, 90, size=n),
        "income": np.where(rng.random(n) < 0.1, np.nan, income),
        "balance": np.where(rng.random(n) < 0.05, np.nan, rng.normal(size=n)),
        "level": rng.choice([0.5, 1.0, -0.0, 7.0, np.nan], size=n),
        "active": rng.random(n) < 0.4,
        "empty": np.full(n, np.nan),
        "city": rng.choice(np.array(CITIES, dtype=object), size=n),
        "plan": rng.choice(np.array(["basic", "plus", NULL_STRING], dtype=object), size=n),
    }
    if unseen:
        frame["income"][:8] = [1e30, -1e30, 1e-310, -1e-310, 0.0, -0.0, 3.4e38, 1e300]
        frame["level"][::7] = 3.25
        frame["city"][::5] = rng.choice(np.array(["nowhere", "city", "ci"], dtype=object))
        frame["plan"][::11] = "gone"
    return frame


def as_frame(columns):
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype=object)
            if values.dtype == object
            else values.astype(np.float64)
            for name, values in columns.items()
        }
    )


@pytest.fixture(scope="session")
def pipeline_data():
    rng = np.random.default_rng(17)
    columns = table(rng, 1500)
    value = (
        np.nan_to_num(columns["balance"])
        + columns["age"] / 40
        + (columns["plan"] == "plus")
        + (columns["city"] == NULL_STRING)
        + rng.normal(size=1500) / 2
    )
    return columns, value, table(rng, 10_000, unseen=True)


@pytest.fixture
def check_pipeline_parity(pipeline_data):
    """Return a function that fits a pipeline and compares it on 10,000 rows, unseen ones too."""
    columns, value, test = pipeline_data

    def check(pipeline, names=None, *, classes=2, bound=1e-11, clean=False):
        names = names or [*NUMBERS, *STRINGS]
        target = np.digitize(value, np.quantile(value, np.linspace(0, 1, classes + 1)[1:-1]))
        final = pipeline.steps[-1][1]
        classifier = hasattr(final, "predict_proba")
        train = as_frame({name: columns[name] for name in names})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rank-deficient least squares, unknown categories
            pipeline.fit(train, target if classifier else value)
            rows = {name: test[name].copy() for name in names}
            if clean and "income" in rows:
                rows["income"][:8] = 1.0
            frame = as_frame(rows)
            if classifier:
                wanted = pipeline.predict_proba(frame)
            else:
                wanted = pipeline.predict(frame).reshape(-1, 1)
        inputs = {
            name: spox.argument(
                spox.Tensor(np.str_ if name in STRINGS else INTEGERS.get(name, np.float64), ("N",))
            )
            for name in names
        }
        opened = session(inputs, pipeline_graph(pipeline, inputs))
        found = opened.run(None, rows)[0]
        assert found.dtype == np.float64
        assert found.shape == wanted.shape
        difference = np.abs(found - wanted) / np.maximum(1, np.abs(wanted))
        assert difference.max() <= bound
        for size in (1, 2, 3, 8):
            for start in range(0, 40, size):
                part = {name: column[start : start + size] for name, column in rows.items()}
                alone = opened.run(None, part)[0]
                assert alone.tobytes() == found[start : start + size].tobytes()
        return found

    return check
