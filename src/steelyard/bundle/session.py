"""How a bundle's graphs are run."""

import os
from typing import Final

import onnxruntime

__all__ = ["open_session"]

_EXTERNAL: Final = "session.model_external_initializers_file_folder_path"


def open_session(graph: bytes) -> onnxruntime.InferenceSession:
    """Return a graph ready to run, on one thread."""
    options = onnxruntime.SessionOptions()
    # One thread each: an answer may not depend on how work was parted, and workers scale instead.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A graph may name files to take weights from, relative to the working folder: none is there.
    options.add_session_config_entry(_EXTERNAL, os.devnull)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
