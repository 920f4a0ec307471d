"""MLServer: `mlserver start` of a folder of settings, v2 over REST.

    python serve_mlserver.py FOLDER PORT

The pipeline is served by its own scikit-learn runtime, whose codec makes the data frame; the graph
by a custom runtime (mlserver_graph.py). No parallel workers: they would put a second process
between the request and the model, and cost more than they bring for one.
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent


def write(folder: Path, port: int) -> Path:
    home = folder / "mlserver"
    models = {
        "pipeline": {
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(folder / "pipeline.joblib"), "content_type": "pd"},
        },
        "graph": {
            "implementation": "mlserver_graph.GraphModel",
            "parameters": {"uri": str(folder / "pipeline.onnx")},
        },
    }
    for name, settings in models.items():
        (home / name).mkdir(parents=True)
        (home / name / "model-settings.json").write_text(json.dumps({"name": name, **settings}))
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "debug": False,
    }
    (home / "settings.json").write_text(json.dumps(settings))
    return home


if __name__ == "__main__":
    home = write(Path(sys.argv[1]), int(sys.argv[2]))
    command = [str(Path(sys.executable).with_name("mlserver")), "start", str(home)]
    os.execve(command[0], command, {**os.environ, "PYTHONPATH": str(HERE)})
