"""Parity: four estimators x three tasks on rows with nulls and categories never seen in training.

    python -m bench.parity [--rows 100000]

For each: the largest relative difference between what the bundle serves and the fitted pipeline in
memory, label flips and exact ties, the difference between both graphs, and whether the bits of an
answer are the same in batches of n = 1, 2, 3, 8 and N.
"""

import argparse
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge

import steelyard as sy
from steelyard.bundle.compile import compile_bundle, seal_bundle
from steelyard.bundle.predictor import Canonical, Predictor
from steelyard.core.fields import NULL_STRING
from steelyard.features.columns import NULL_TIME
from steelyard.features.parts import Part
from steelyard.features.trace import trace
from steelyard.train import fit

MARGIN = 1e-6


class Order(sy.Row):
    amount: float | None
    items: int
    weight: float | None
    city: str | None
    channel: str
    plan: Literal["basic", "plus", "pro"]
    member: bool
    opted: bool | None
    at: datetime | None


@sy.row_features(Order)
def features(xp, c):
    return {
        "per_item": c.amount / xp.maximum(c.items, 1),
        "log_weight": xp.log1p(xp.abs(c.weight)),
        "hour": xp.hour(c.at),
        "from_abroad": xp.isin(c.city, ["k1", "k2", "k3"]),
    }


def columns(rows: int, seed: int, unseen: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def some(share: float) -> Any:
        return rng.random(rows) < share

    amount, weight = rng.lognormal(3, 2, rows), rng.normal(0, 30, rows)
    amount[some(0.08)] = np.nan
    weight[some(0.15)] = np.nan
    city = np.array([f"k{i}" for i in rng.zipf(1.3, rows) % 500], dtype=object)
    city[some(0.05)] = NULL_STRING
    channel = rng.choice(np.array(["web", "shop", "phone", ""], dtype=object), rows)
    for column in (city, channel):
        column[some(unseen)] = "never seen"
    opted = rng.integers(0, 2, rows).astype(float)
    opted[some(0.2)] = np.nan
    at = rng.integers(0, 2 * 10**15, rows)
    at[some(0.05)] = NULL_TIME
    plan = rng.choice(np.array(["basic", "plus", "pro"], dtype=object), rows)
    return {
        "amount": amount, "items": rng.integers(0, 40, rows), "weight": weight, "city": city,
        "channel": channel, "plan": plan, "member": some(0.4), "opted": opted, "at": at,
    }  # fmt: skip


def labels(table: dict[str, Any]) -> dict[str, Any]:
    rows = len(table["items"])
    signal = (
        np.nan_to_num(np.log(table["amount"]), nan=2.0)
        + 1.5 * table["member"]
        + (table["plan"] == "pro")
        + 0.02 * np.nan_to_num(table["weight"])
        + np.random.default_rng(9).normal(0, 1, rows)
    )
    return {
        "binary": np.array(["no", "yes"], dtype=object)[(signal > 4).astype(int)],
        "multiclass": np.array(["low", "mid", "high"], dtype=object)[np.digitize(signal, [3, 5])],
        "regression": signal,
    }


ESTIMATORS = {
    "binary": [
        LogisticRegression(max_iter=300),
        RandomForestClassifier(100, max_depth=16, n_jobs=2),
        HistGradientBoostingClassifier(),
        LGBMClassifier(),
    ],
    "multiclass": [
        LogisticRegression(max_iter=300),
        RandomForestClassifier(50, max_depth=12, n_jobs=2),
        HistGradientBoostingClassifier(),
        LGBMClassifier(),
    ],
    "regression": [
        Ridge(),
        RandomForestRegressor(50, max_depth=14, n_jobs=2),
        HistGradientBoostingRegressor(),
        LGBMRegressor(),
    ],
}


def measure(task: str, estimator: Any, rows: int, folder: Path) -> list[str]:
    train, test = columns(rows, 0), columns(rows, 1, unseen=0.05)
    definition = sy.Model(
        name="parity", row=Order, data=sy.Csv("none"), label="y", estimator=estimator,
        features=features,
    )  # fmt: skip
    graph = trace(features, definition.fields)

    def featured(raw: dict[str, Any]) -> dict[str, Any]:
        return {name: v for name, v in raw.items() if name != "at"} | graph.run(raw)

    part = Part(np.arange(rows), train, labels(train)[task], featured(train))
    fitted = fit(definition, part, graph, task, "yes")  # type: ignore[arg-type]
    _, sealed = seal_bundle(compile_bundle(definition, fitted.recipe, []), {}, folder)
    predictor, canonical = Predictor.load(sealed), Canonical(sealed)
    reference, served = fitted.reference(featured(test)), predictor.predict_columns(test)
    other = canonical.predict_columns(test)
    flips = ties = 0
    if task == "regression":
        expected, got, twin = reference.prediction, served.prediction, other.prediction
    else:
        expected, got, twin = (s.probabilities for s in (reference, served, other))
        margin = np.ptp(np.sort(expected, axis=1)[:, -2:], axis=1)
        differ = reference.prediction != served.prediction
        flips, ties = int((differ & (margin > MARGIN)).sum()), int((margin <= MARGIN).sum())
    relative = np.abs(got - expected) / np.maximum(1, np.abs(expected))
    same = []
    for n in (1, 2, 3, 8):
        starts = range(400) if n < 8 else range(0, 4000, 8)
        batches = (
            (start, predictor.predict_columns({k: v[start : start + n] for k, v in test.items()}))
            for start in starts
        )
        same.append(
            all(
                (b.prediction if task == "regression" else b.probabilities).tobytes()
                == got[start : start + n].tobytes()
                for start, b in batches
            )
        )
    bits = (
        "equal"
        if all(same)
        else f"differ at n = {[n for n, s in zip((1, 2, 3, 8), same, strict=True) if not s]}"
    )
    return [
        task,
        type(estimator).__name__,
        f"{relative.max():.1e}",
        str(int((relative > 1e-5).sum())),
        str(flips),
        str(ties),
        f"{np.abs(got - twin).max():.1e}",
        bits,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    table = Table(title=f"{rows:,} rows", box=None)
    for name in ("task", "estimator", "largest difference", "rows > 1e-5", "flips", "ties",
                 "model.onnx - packed.onnx", "bits for n = 1, 2, 3, 8, N"):  # fmt: skip
        table.add_column(name, overflow="fold")
    console = Console(width=150)
    with tempfile.TemporaryDirectory() as folder, console.status("fitting") as status:
        for task, estimators in ESTIMATORS.items():
            for estimator in estimators:
                status.update(f"{task}: {type(estimator).__name__}")
                table.add_row(*measure(task, estimator, rows, Path(folder)))
    console.print(table)


if __name__ == "__main__":
    main()
