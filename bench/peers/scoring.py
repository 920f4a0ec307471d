"""The two forms in which the peers hold the model: the fitted pipeline, and its graph.

Both answer rows (dicts of all 19 columns) with [N, 2] probabilities of "No" and "Yes". Imported by
the peers in their own environments, so each library is imported where it is needed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class Pipeline:
    """scikit-learn's fitted pipeline, asked by a data frame as its documentation does."""

    def __init__(self, folder: Path) -> None:
        import joblib

        self._pipeline = joblib.load(folder / "pipeline.joblib")

    def __call__(self, rows: list[dict[str, Any]]) -> npt.NDArray[Any]:
        import pandas as pd

        scores: npt.NDArray[Any] = self._pipeline.predict_proba(pd.DataFrame(rows))
        return scores


class Graph:
    """The pipeline as skl2onnx converts it, an input a column, in onnxruntime with one thread."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            folder / "pipeline.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.kinds = {
            i.name: object if "string" in i.type else np.float32 for i in self._session.get_inputs()
        }

    def __call__(self, rows: list[dict[str, Any]]) -> npt.NDArray[Any]:
        return self.run(
            {
                name: np.array([[row[name]] for row in rows], dtype=kind)
                for name, kind in self.kinds.items()
            }
        )

    def run(self, feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Answer columns [N, 1] by name."""
        scores: npt.NDArray[Any] = self._session.run(["probabilities"], feeds)[0]
        return scores


MODELS = {"pipeline": Pipeline, "graph": Graph}
