"""How a bundle's graphs are run."""

import onnxruntime

__all__ = ["open_session"]


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """Return a graph ready to run, on one thread."""
    options = onnxruntime.SessionOptions()
    # One thread each: an answer may not depend on how work was parted, and workers scale instead.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
