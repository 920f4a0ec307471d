"""LitServe: a LitAPI a model, each with one worker behind one HTTP process.

    python serve_litserve.py FOLDER PORT

Both are the one of its documentation, with its faster queue; no batches are made of what waits.
"""

import sys
from pathlib import Path
from typing import Any

import litserve as ls
from scoring import MODELS


class Churn(ls.LitAPI):
    def __init__(self, folder: Path, kind: str, **options: Any) -> None:
        super().__init__(api_path=f"/{kind}", **options)
        self.folder, self.kind = folder, kind

    def setup(self, device: str) -> None:
        self.model = MODELS[self.kind](self.folder)

    def decode_request(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = request["rows"]
        return rows

    def predict(self, rows: list[dict[str, Any]]) -> Any:
        return self.model(rows)

    def encode_response(self, scores: Any) -> dict[str, Any]:
        return {"probabilities": scores.tolist()}


if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    apis = [Churn(folder, kind) for kind in MODELS]
    server = ls.LitServer(apis, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
