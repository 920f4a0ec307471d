"""A bare grpc.aio handler with the same bundle: no checks, no log, no counters, nothing refused.

    python bench/bare_grpc.py BUNDLE_FOLDER

Prints its port. It parses, reads the raw tensors, predicts and answers: what the library and the
model cost whoever serves by them.
"""

import struct
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

from steelyard.bundle.predictor import Predictor
from steelyard.serve.grpc.messages import SERVICE, message

NUMBERS = {"INT64": struct.Struct("<q").unpack, "FP64": struct.Struct("<d").unpack}


async def serve(folder: Path) -> None:
    predictor = Predictor.load(folder)
    names = [field.name for field in predictor.fields]
    request_type, response_type = message("ModelInferRequest"), message("ModelInferResponse")

    async def infer(request: Any, context: Any) -> Any:
        row = {}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            if tensor.datatype == "BYTES":
                row[tensor.name] = raw[4:].decode()
            else:
                row[tensor.name] = NUMBERS[tensor.datatype](raw)[0]
        prediction, probabilities = predictor.predict_one([row[name] for name in names])
        response = response_type(model_name="churn", model_version="0", id=request.id)
        response.outputs.add(name="prediction", datatype="BYTES", shape=[1])
        response.outputs.add(name="probabilities", datatype="FP64", shape=[1, 2])
        text = str(prediction).encode()
        response.raw_output_contents.append(struct.pack("<I", len(text)) + text)
        response.raw_output_contents.append(struct.pack("<2d", *(probabilities or ())))
        return response

    handler = grpc.unary_unary_rpc_method_handler(
        infer, request_type.FromString, response_type.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler})]
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
