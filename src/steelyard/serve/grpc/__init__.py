"""The Open Inference Protocol v2 over gRPC, beside HTTP in the same event loop."""
