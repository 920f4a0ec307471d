"""MLServer's custom runtime around the graph: the arrays of a v2 request go to it as they are."""

from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from scoring import Graph


class GraphModel(MLModel):
    async def load(self) -> bool:
        self.graph = Graph(Path(self.settings.parameters.uri).parent)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        columns = {
            tensor.name: np.array(tensor.data, dtype=self.graph.kinds[tensor.name]).reshape(-1, 1)
            for tensor in payload.inputs
        }
        output = NumpyCodec.encode_output("predict_proba", self.graph.run(columns))
        return InferenceResponse(model_name=self.name, outputs=[output])
