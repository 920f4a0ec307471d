"""One file a wire contract: its routes and payloads around the same endpoint."""
