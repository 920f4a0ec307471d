"""Reading the prediction log of a model."""

from typing import Any

import msgspec

from steelyard.core.config import Config
from steelyard.core.reference import check_name
from steelyard.errors import NotFoundError, nearest
from steelyard.predictions.compact import compact as compact_log
from steelyard.predictions.query import parse_since, read

__all__ = ["read_log"]


def read_log(
    name: str,
    config: Config,
    *,
    since: str | None = None,
    prediction_id: str | None = None,
    limit: int = 20,
    compact: bool = False,
) -> list[dict[str, Any]]:
    """Return the latest logged predictions of a model, in time order."""
    folder = config.predictions / check_name(name)
    if not folder.is_dir():
        known = [p.name for p in config.predictions.glob("*") if p.is_dir()]
        raise NotFoundError(f"nothing was logged for {name}.", fix=nearest(name, known))
    if compact:
        compact_log(folder)
    start = parse_since(since) if since else None
    latest = read(folder, since=start, prediction_id=prediction_id, limit=limit, newest_first=True)
    return [msgspec.to_builtins(record) for record in reversed(list(latest))]
