"""Ray Serve: a deployment a model, each with one replica behind the node's one proxy.

    python serve_ray.py FOLDER PORT

Without the dashboard and usage reports, which only take processor time from the rest.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import serve
from scoring import MODELS
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.1})
class Churn:
    def __init__(self, folder: Path, kind: str) -> None:
        self.model = MODELS[kind](folder)

    async def __call__(self, request: Request) -> dict[str, Any]:
        rows = (await request.json())["rows"]
        return {"probabilities": self.model(rows).tolist()}


if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    here = str(Path(__file__).parent)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": here}},
        object_store_memory=200 * 1024 * 1024,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    for kind in MODELS:
        serve.run(Churn.bind(folder, kind), name=kind, route_prefix=f"/{kind}")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
