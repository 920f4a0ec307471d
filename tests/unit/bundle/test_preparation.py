"""What the preparation learns, and that odd columns do not break it."""

import numpy as np
import onnxruntime
import spox

from steelyard.bundle.preparation import Preparation, fit_preparation, prepare
from steelyard.core.fields import NULL_STRING


def run(learned: Preparation, matrix: np.ndarray) -> np.ndarray:
    given = spox.argument(spox.Tensor(np.float64, ("N", matrix.shape[1])))
    model = spox.build({"m": given}, {"x": prepare(given, learned, np.float64)})
    found: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run(
        None, {"m": matrix}
    )[0]
    return found


def test_nulls_are_filled_scaled_and_shown() -> None:
    numbers = np.array([1.0, 3.0, np.nan, 8.0])
    learned = fit_preparation({"n": numbers}, ["n"], "one_hot", 255)
    assert learned.fill == (3.0,)
    assert learned.names == ("n", "n is null")
    filled = np.array([1.0, 3.0, 3.0, 8.0])
    expected = (filled - filled.mean()) / filled.std()
    found = run(learned, numbers[:, None])
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-15)
    assert found[:, 1].tolist() == [0, 0, 1, 0]


def test_categories_beyond_the_cap_share_a_bucket_and_null_keeps_its_own() -> None:
    words = [f"w{i}" for i in range(8) for _ in range(10 - i)] + [NULL_STRING]
    learned = fit_preparation({"c": np.array(words, dtype=object)}, ["c"], "ordinal", 5)
    encoding = learned.encodings["c"]
    assert encoding.kept == ("w0", "w1", "w2", NULL_STRING)
    assert encoding.rare == ("w3", "w4", "w5", "w6", "w7")
    assert encoding.size == 5
    assert learned.unseen("c") == 5
    native = fit_preparation({"c": np.array(words, dtype=object)}, ["c"], "native", 5)
    assert np.isnan(native.unseen("c"))


def test_an_unseen_category_is_no_column_of_a_one_hot_code() -> None:
    learned = fit_preparation({"c": np.array(["a", "b"], dtype=object)}, ["c"], "one_hot", 255)
    found = run(learned, np.array([[0.0], [1.0], [learned.unseen("c")]]))
    assert found.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_columns_without_any_value_and_extremes_stay_finite() -> None:
    table = {
        "empty": np.full(4, np.nan),
        "same": np.full(4, 7.0),
        "wild": np.array([1e308, -1e308, 1e308, 0.0]),
    }
    learned = fit_preparation(table, list(table), "one_hot", 255)
    found = run(learned, np.column_stack(list(table.values())))
    assert np.isfinite(found).all()
    assert found[:, 1].tolist() == [0, 0, 0, 0]
