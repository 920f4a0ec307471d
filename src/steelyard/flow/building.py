"""From a definition and its data to a sealed bundle: what a run and a reproduction share."""

from dataclasses import dataclass, replace
from pathlib import Path

from steelyard.bundle.baseline import baseline
from steelyard.bundle.compile import compile_bundle, seal_bundle
from steelyard.bundle.fallback_graph import compile_fallback
from steelyard.bundle.guard_limits import guard_limits
from steelyard.bundle.predictor import Predictor
from steelyard.core.config import Config
from steelyard.core.definition import Model
from steelyard.core.hashing import canonical_json
from steelyard.data.dataset import Dataset, load
from steelyard.features.parts import Part, Scores
from steelyard.features.trace import FeatureGraph, trace
from steelyard.flow.golden import golden_rows
from steelyard.train import Fitted, class_order, fit

__all__ = ["Built", "Table", "build", "read_table"]


@dataclass(frozen=True, eq=False)
class Table:
    """A dataset whose parts have their row features computed."""

    dataset: Dataset
    graph: FeatureGraph | None
    train: Part
    test: Part


@dataclass(frozen=True, eq=False)
class Built:
    """A sealed bundle, the fitted reference, and what the bundle answers on both parts."""

    bundle: str
    folder: Path
    fitted: Fitted
    predictor: Predictor
    train_scores: Scores
    scores: Scores


def read_table(definition: Model, config: Config, *, snapshot: str | None = None) -> Table:
    """Load, check and split the data; compute the row features through the graph that serves."""
    graph = trace(definition.features, definition.fields) if definition.features else None
    dataset = load(definition, config.snapshots, snapshot=snapshot)
    raw = [field.name for field in definition.fields if not field.temporal]

    def featured(part: Part) -> Part:
        made = graph.run(part.columns) if graph else {}
        return replace(part, features={name: part.columns[name] for name in raw} | made)

    return Table(dataset, graph, featured(dataset.train), featured(dataset.test))


def build(definition: Model, table: Table, parent: Path) -> Built:
    """Fit, compile and seal below `parent`; answer both parts with the loaded bundle."""
    dataset = table.dataset
    classes = class_order(table.train.label, dataset.positive, dataset.task)
    # A fallback that cannot answer is told before minutes of training.
    compile_fallback(definition, dataset.task, classes).check(table.train.columns)
    fitted = fit(definition, table.train, table.graph, dataset.task, dataset.positive)
    files = compile_bundle(definition, fitted.recipe, golden_rows(definition, table.test))
    unsealed = Predictor(files, bundle="")
    train_scores = unsealed.predict_columns(table.train.columns)
    held_out = unsealed.predict_columns(table.test.columns)
    profile = baseline(table.train.features, unsealed.features, train_scores, held_out)
    train = table.train
    outputs = (train.label, train_scores)
    limits = guard_limits(
        definition.guards, definition.fields, train.columns, unsealed.coded, outputs
    )
    files["guards.json"] = canonical_json(limits)
    digest, folder = seal_bundle(files, profile, parent)
    predictor = Predictor.load(folder, expected=digest)
    scores = predictor.predict_columns(table.test.columns)
    return Built(digest, folder, fitted, predictor, train_scores, scores)
