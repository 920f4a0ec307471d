"""What answers, written as the files of a bundle and sealed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from steelyard.bundle.fallback_graph import compile_fallback
from steelyard.bundle.format import seal
from steelyard.bundle.graph import Recipe, canonical_graph, feature_names, packed_graph
from steelyard.bundle.normal_form import normal_form
from steelyard.bundle.predictor import Predictor
from steelyard.core.definition import Model
from steelyard.core.hashing import canonical_json

__all__ = ["compile_bundle", "seal_bundle"]


def _onnx_bytes(model: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(model)
    data: bytes = normal_form(model).SerializeToString(deterministic=True)
    return data


def compile_bundle(
    definition: Model, recipe: Recipe, golden: Sequence[Mapping[str, Any]]
) -> dict[str, bytes]:
    """Build both graphs and answer the golden rows; return the bundle's files, not yet sealed.

    `golden` are rows as JSON objects; their answers are recorded by the packed graph and checked at
    every load. What is missing is the baseline, which describes what these files answer.
    """
    packed, packing = packed_graph(recipe)
    raw, made = feature_names(recipe.fields, recipe.features)
    document = {
        "model": definition.name,
        "task": recipe.task,
        "label": definition.label,
        "classes": None if recipe.classes is None else list(recipe.classes),
        "threshold": recipe.threshold,
        "outputs": [{"name": "prediction", "type": _output_type(recipe)}],
        "features": [*raw, *made],
        "packing": packing.document(),
    }
    fallback = compile_fallback(definition, recipe.task, recipe.classes)
    files = {
        "model.onnx": _onnx_bytes(canonical_graph(recipe)),
        "packed.onnx": _onnx_bytes(packed),
        "model.json": canonical_json(document),
        "schema.json": canonical_json(definition.row_schema()),
        "fallback.json": canonical_json(fallback.document),
    }
    if (graph := fallback.graph(definition.fields)) is not None:
        files["fallback.onnx"] = _onnx_bytes(graph)
    files["golden.jsonl"] = _answered(files, golden)
    return files


def seal_bundle(
    files: Mapping[str, bytes], profile: Mapping[str, Any], parent: Path
) -> tuple[str, Path]:
    """Seal a bundle's files with the baseline below `parent`; return its hash and folder."""
    return seal({**files, "baseline.json": canonical_json(profile)}, parent)


def _output_type(recipe: Recipe) -> str:
    if recipe.classes is None:
        return "number"
    return {bool: "boolean", int: "integer", str: "string"}[type(recipe.classes[0])]


def _answered(files: Mapping[str, bytes], golden: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the golden rows with the answers that the packed graph gives, a JSON line each."""
    predictor = Predictor(files, "")
    rows = [predictor.decoder.check_one(row) for row in golden]
    records: list[dict[str, Any]] = [
        {"row": row, "prediction": prediction, "probabilities": scores}
        for row, (prediction, scores) in zip(golden, predictor.predict_many(rows), strict=True)
    ]
    if predictor.fallback.by_rule:
        for record, answer in zip(records, predictor.fallback.answer_many(rows), strict=True):
            record["fallback"] = answer
    return b"\n".join(map(canonical_json, records)) + b"\n"
