"""MLflow: `mlflow models serve` of a logged model, in this environment, with one worker.

    python serve_mlflow.py FOLDER PORT pipeline|graph

The pipeline is saved by mlflow.sklearn with a signature, as its documentation asks. The graph is a
PythonModel of few lines and has none, which spares the check of every column. Both answer
probabilities: the server knows no other way to return them than instead of the label.
"""

import os
import sys
from pathlib import Path
from typing import Any

import mlflow
from scoring import Graph

SCORING = Path(__file__).parent / "scoring.py"


class GraphModel(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self.graph = Graph(Path(context.artifacts["graph"]).parent)

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        columns = {
            name: model_input[[name]].to_numpy(dtype=kind)
            for name, kind in self.graph.kinds.items()
        }
        return self.graph.run(columns)


def save(folder: Path, kind: str) -> Path:
    model = folder / f"mlflow-{kind}"
    if kind == "pipeline":
        import joblib
        import pandas as pd
        from mlflow.models import infer_signature

        pipeline = joblib.load(folder / "pipeline.joblib")
        example = pd.read_json(folder / "example.json")
        mlflow.sklearn.save_model(
            pipeline,
            model,
            signature=infer_signature(example, pipeline.predict_proba(example)),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=[],
            serialization_format="cloudpickle",
        )
    else:
        mlflow.pyfunc.save_model(
            model,
            python_model=GraphModel(),
            artifacts={"graph": str(folder / "pipeline.onnx")},
            code_paths=[str(SCORING)],
            pip_requirements=[],
        )
    return model


if __name__ == "__main__":
    folder, port, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(save(folder, kind)),
        "--env-manager", "local", "--host", "127.0.0.1", "--port", port, "--workers", "1",
    ]  # fmt: skip
    os.execv(sys.executable, command)
