"""BentoML: one @bentoml.service with one worker.

    FOLDER=... bentoml serve bentoml_service:Churn --port PORT

The pipeline is behind a plain method, as in its documentation's first example: it runs in a thread.
The graph is behind `async def`, though its work is not asynchronous, which spares the hop.
"""

import os
from pathlib import Path
from typing import Any

import bentoml
from scoring import Graph, Pipeline


@bentoml.service(workers=1)
class Churn:
    def __init__(self) -> None:
        folder = Path(os.environ["FOLDER"])
        self.by_pipeline = Pipeline(folder)
        self.by_graph = Graph(folder)

    @bentoml.api
    def pipeline(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"probabilities": self.by_pipeline(rows).tolist()}

    @bentoml.api
    async def graph(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"probabilities": self.by_graph(rows).tolist()}
