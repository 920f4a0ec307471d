"""pytriton: Triton Inference Server around a function on the graph; v2 with binary tensors.

    python serve_pytriton.py FOLDER PORT

Two tensors a request instead of nineteen, numbers and strings, since each costs on its way through
Triton; Triton makes batches of what waits, as pytriton's documentation has it by default.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from scoring import Graph

if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    graph = Graph(folder)
    names = {
        kind: [name for name, found in graph.kinds.items() if found is kind]
        for kind in (np.float32, object)
    }

    @batch
    def infer(numbers: Any, strings: Any) -> list[Any]:
        strings = np.char.decode(strings.astype("bytes"), "utf-8").astype(object)
        columns = {
            name: values[:, i : i + 1]
            for values, found in ((numbers, names[np.float32]), (strings, names[object]))
            for i, name in enumerate(found)
        }
        return [graph.run(columns)]

    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="churn",
            infer_func=infer,
            inputs=[
                Tensor(name="numbers", dtype=np.float32, shape=(len(names[np.float32]),)),
                Tensor(name="strings", dtype=np.bytes_, shape=(len(names[object]),)),
            ],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(2,))],
            config=ModelConfig(max_batch_size=128),
            strict=False,
        )
        triton.serve()
