"""A user's own scikit-learn Pipeline as a graph: built part by part, or refused by the part's name.

Every part computes in float64, as scikit-learn does on the float64 table that the pipeline was
fitted on. The last estimator gets what its library would see: forests get one cast to float32, which
they make themselves; HistGradientBoosting and LightGBM compare float64 with float64 thresholds.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import spox

from steelyard.bundle.estimators import family_of, score_graph
from steelyard.bundle.sklearn_frame import Frame, frame_of, side_by_side
from steelyard.bundle.sklearn_transformers import TRANSFORMERS, refusal
from steelyard.errors import CompileError

__all__ = ["check_pipeline", "pipeline_graph"]


def _name(part: Any) -> str:
    return part if isinstance(part, str) else type(part).__name__


def _is(part: Any, name: str) -> bool:
    return type(part).__module__.startswith("sklearn.") and type(part).__name__ == name


def _at(path: str, part: Any) -> str:
    return f"{path} > {_name(part)}" if path else _name(part)


def _under(path: str, name: str) -> str:
    return f"{path} > {name}" if path else name


def _refuse(path: str, part: Any, reason: str, fix: str) -> CompileError:
    return CompileError(
        f"pipeline part `{_at(path, part)}` has no faithful compiled form: {reason}", fix=fix
    )


def _parts(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every transformer inside a part with the path of step names to it."""
    if part is None or part in ("passthrough", "drop"):
        return
    if _is(part, "Pipeline"):
        for name, step in part.steps:
            yield from _parts(step, _under(path, name))
    elif _is(part, "ColumnTransformer"):
        if part.transformer_weights:
            raise _refuse(
                path, part, "transformer_weights is not built", "Leave transformer_weights out."
            )
        for name, inner, _ in part.transformers:
            yield from _parts(inner, _under(path, name))
        yield from _parts(part.remainder, _under(path, "remainder"))
    else:
        yield path, part


def check_pipeline(pipeline: Any) -> None:
    """Check, before fitting, that every part of a pipeline has a faithful compiled form.

    Raises CompileError that names the path of the part, why, and what to use instead.
    """
    if not _is(pipeline, "Pipeline"):
        raise CompileError(
            f"{_name(pipeline)} is no scikit-learn Pipeline", fix="Use sklearn.pipeline.Pipeline."
        )
    *before, (last, estimator) = pipeline.steps
    for name, step in before:
        for path, part in _parts(step, name):
            found = refusal(part)
            if found is not None:
                raise _refuse(path, part, *found)
    try:
        family_of(estimator)
    except CompileError as error:
        raise CompileError(
            f"pipeline part `{_at(last, estimator)}`: {error.message}", fix=error.fix
        ) from error


def _apply(part: Any, frame: Frame, path: str) -> Frame:
    """Return what a fitted part makes of a frame."""
    if part is None or part == "passthrough":
        return frame
    if _is(part, "Pipeline"):
        for name, step in part.steps:
            frame = _apply(step, frame, _under(path, name))
        return frame
    if _is(part, "ColumnTransformer"):
        made = []
        for name, inner, _ in part.transformers_:
            chosen = part._transformer_to_input_indices[name]
            if inner != "drop" and len(chosen):
                made.append(_apply(inner, frame.select(chosen), _under(path, name)))
        return side_by_side(made)
    return TRANSFORMERS[type(part).__name__](part, frame, _at(path, part))


def pipeline_graph(pipeline: Any, columns: Mapping[str, spox.Var]) -> spox.Var:
    """Return the scores of a fitted pipeline: probabilities [N, K], or [N, 1], float64.

    `columns` are vars [N] by name in the column representation, of the same names as the columns
    of the table that the pipeline was fitted on: there numbers were float64 (NaN for null) and
    strings objects (U+FDD0 for null). Raises CompileError where a part has no faithful form, or a
    column is missing.
    """
    check_pipeline(pipeline)
    names = [str(name) for name in getattr(pipeline, "feature_names_in_", columns)]
    missing = [name for name in names if name not in columns]
    if missing:
        raise CompileError(
            f"the pipeline was fitted on columns that are not there: {', '.join(missing[:12])}",
            fix="Fit it on the definition's own columns.",
        )
    frame = frame_of({name: columns[name] for name in names})
    *before, (last, estimator) = pipeline.steps
    for name, step in before:
        frame = _apply(step, frame, name)
    return score_graph(estimator, frame.matrix(_at(last, estimator)), whole_codes=False)
