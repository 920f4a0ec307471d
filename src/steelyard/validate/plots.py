"""Pictures of how a candidate does on its held-out rows, for tracking and the model card."""

import io
import warnings
from collections.abc import Mapping
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from steelyard.features.parts import Scores
from steelyard.validate.candidate import Candidate
from steelyard.validate.importance import importances
from steelyard.validate.metrics import class_codes

__all__ = ["plots"]

_INK: Final = "#22303c"
_MAIN: Final = "#1f6f8b"
_OTHER: Final = "#d1603d"
_PALE: Final = "#9aa7b1"
_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": _INK,
    "text.parse_math": False,  # a column may be called $x
    "axes.edgecolor": _PALE,
    "axes.labelcolor": _INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6ebef",
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_SIZE: Final = (5.4, 4.0)
_DPI: Final = 100
_BINS: Final = 10
_CURVE: Final = 500
_SHOWN_COLUMNS: Final = 20
_SHOWN_CLASSES: Final = 20
_LONGEST: Final = 24

Floats = npt.NDArray[np.float64]


def plots(candidate: Candidate) -> Mapping[str, bytes]:
    """Return PNG pictures by file name: what suits the task, and the importance of columns.

    Binary: roc.png, precision_recall.png, calibration.png, scores.png. Multi-class: confusion.png,
    calibration.png. Regression: predicted.png, residuals.png. All: importance.png.
    """
    draw = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The font lacks letters that a class or a column may have; a box stands for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        return {**draw[candidate.task](candidate), "importance.png": _importance(candidate)}


def _axes(title: str, x: str, y: str, size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without the library's version the same picture is the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _thin(*curves: Floats) -> list[Floats]:
    """Return curves with at most some hundred points; a picture shows no more."""
    kept = np.unique(np.linspace(0, len(curves[0]) - 1, _CURVE).astype(np.int64))
    return [curve[kept] for curve in curves]


def _binary(candidate: Candidate) -> dict[str, bytes]:
    scores, test = candidate.scores, candidate.test
    table, classes = _answered(scores)
    truth, given = class_codes(test.label, classes), table[:, 1]
    weight, positive = test.weight, _short(classes[1])
    return {
        "roc.png": _roc(truth, given, weight),
        "precision_recall.png": _precision_recall(truth, given, weight),
        "calibration.png": _calibration(
            truth, given, f"predicted probability of {positive}", f"observed share of {positive}"
        ),
        "scores.png": _distribution(truth, given, classes, candidate.definition.threshold),
    }


def _answered(scores: Scores) -> tuple[Floats, tuple[Any, ...]]:
    if scores.probabilities is None or scores.classes is None:
        raise ValueError("answers of a classifier have probabilities")
    return scores.probabilities, scores.classes


def _roc(truth: npt.NDArray[np.int64], given: Floats, weight: Floats | None) -> bytes:
    area = roc_auc_score(truth, given, sample_weight=weight)
    false, true, _ = roc_curve(truth, given, sample_weight=weight)
    false, true = _thin(false, true)
    figure, axes = _axes(f"ROC, area {area:.3f}", "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1, linestyle="--")
    axes.plot(false, true, color=_MAIN)
    axes.fill_between(false, true, color=_MAIN, alpha=0.08)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return _png(figure)


def _precision_recall(truth: npt.NDArray[np.int64], given: Floats, weight: Floats | None) -> bytes:
    area = average_precision_score(truth, given, sample_weight=weight)
    precision, recall, _ = precision_recall_curve(truth, given, sample_weight=weight)
    precision, recall = _thin(precision, recall)
    base = float(np.average(truth, weights=weight))
    title = f"Precision and recall, average precision {area:.3f}"
    figure, axes = _axes(title, "recall", "precision")
    axes.axhline(base, color=_PALE, linewidth=1, linestyle="--")
    axes.annotate("share of positives", (0.01, base), color=_PALE, va="bottom", fontsize=8.5)
    axes.plot(recall, precision, color=_MAIN, drawstyle="steps-post")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
    return _png(figure)


def _calibration(truth: npt.NDArray[Any], given: Floats, x: str, y: str) -> bytes:
    """Draw observed shares in ten groups of equal size, with what chance allows each."""
    edges = np.unique(np.quantile(given, np.linspace(0, 1, _BINS + 1)))
    place = np.clip(np.searchsorted(edges, given, side="right") - 1, 0, max(len(edges) - 2, 0))
    counts = np.maximum(np.bincount(place), 1)
    told, seen = (np.bincount(place, values) / counts for values in (given, truth))
    figure, axes = _axes("Calibration", x, y)
    axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1, linestyle="--")
    error = 1.96 * np.sqrt(np.maximum(seen * (1 - seen), 0) / counts)
    axes.errorbar(
        told, seen, yerr=error, color=_MAIN, marker="o", markersize=4.5, capsize=2.5, elinewidth=1
    )
    top = min(1.0, 1.15 * float(max(told.max(), (seen + error).max())))
    axes.set(xlim=(-0.01, top + 0.01), ylim=(-0.01, top + 0.01))
    return _png(figure)


def _distribution(
    truth: npt.NDArray[np.int64], given: Floats, classes: tuple[Any, ...], threshold: float
) -> bytes:
    figure, axes = _axes(
        "Scores", f"predicted probability of {_short(classes[1])}", "share of rows"
    )
    bins = np.linspace(0, 1, 41)
    for code, color in ((0, _PALE), (1, _OTHER)):
        values = given[truth == code]
        weights = np.full(len(values), 1 / max(len(values), 1))
        axes.hist(
            values,
            bins=bins.tolist(),
            weights=weights,
            color=color,
            alpha=0.6,
            label=f"{_short(classes[code])} ({len(values):,})",
        )
    axes.axvline(
        threshold, color=_INK, linewidth=1, linestyle=":", label=f"threshold {threshold:g}"
    )
    axes.set_ylim(top=1.15 * axes.get_ylim()[1])
    axes.legend(loc="upper center", ncols=3, columnspacing=1.2, handlelength=1.4)
    return _png(figure)


def _multiclass(candidate: Candidate) -> dict[str, bytes]:
    table, classes = _answered(candidate.scores)
    truth = class_codes(candidate.test.label, classes)
    answered = class_codes(candidate.scores.prediction, classes)
    right = (truth == answered).astype(np.float64)
    return {
        "confusion.png": _confusion(truth, answered, classes),
        "calibration.png": _calibration(
            right, table.max(axis=1), "probability of the answered class", "share of right answers"
        ),
    }


def _confusion(
    truth: npt.NDArray[np.int64], answered: npt.NDArray[np.int64], classes: tuple[Any, ...]
) -> bytes:
    size = len(classes)
    counts = np.bincount(truth * size + answered, minlength=size * size).reshape(size, size)
    shown = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:_SHOWN_CLASSES])
    counts = counts[np.ix_(shown, shown)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 0.36 * len(shown) + 1.6)
    hidden = f", the {len(shown)} most frequent of {size} classes" if size > len(shown) else ""
    figure, axes = _axes(f"Confusion{hidden}", "answered", "true", (side + 0.9, side))
    axes.grid(visible=False)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_short(classes[i]) for i in shown]
    places = list(range(len(shown)))
    axes.set_xticks(places, names, rotation=45 if len(shown) > 4 else 0, ha="center")
    axes.set_yticks(places, names)
    if len(shown) <= _SHOWN_CLASSES // 2:
        for row, line in enumerate(counts):
            for column, count in enumerate(line):
                color = "white" if shares[row, column] > 0.5 else _INK
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    return _png(figure)


def _regression(candidate: Candidate) -> dict[str, bytes]:
    truth = candidate.test.label.astype(np.float64)
    told = candidate.scores.prediction.astype(np.float64)
    return {"predicted.png": _predicted(truth, told), "residuals.png": _residuals(truth, told)}


def _predicted(truth: Floats, told: Floats) -> bytes:
    figure, axes = _axes("Predicted and true", "true", "predicted")
    # The farthest thousandths would leave the rest a dot.
    low, high = np.quantile(np.concatenate([truth, told]), (0.001, 0.999))
    room = 0.03 * float(high - low) or 1.0
    span = (float(low) - room, float(high) + room)
    hexes = axes.hexbin(
        truth,
        told,
        gridsize=32,
        antialiased=False,
        extent=(*span, *span),
        mincnt=1,
        bins="log",
        cmap="Blues",
    )
    axes.plot(span, span, color=_OTHER, linewidth=1, linestyle="--")
    axes.set(xlim=span, ylim=span)
    axes.grid(visible=False)
    figure.colorbar(hexes, ax=axes, label="rows", format=StrMethodFormatter("{x:,.0f}"))
    return _png(figure)


def _residuals(truth: Floats, told: Floats) -> bytes:
    rest = truth - told
    figure, axes = _axes("Residuals", "true less predicted", "rows")
    low, high = np.quantile(rest, (0.001, 0.999))
    room = float(high - low) or 1.0
    bins = np.linspace(low - 0.02 * room, high + 0.02 * room, 51)
    axes.hist(rest, bins=bins.tolist(), color=_MAIN, alpha=0.75)
    axes.axvline(0, color=_PALE, linewidth=1, linestyle="--")
    mean = float(rest.mean())
    axes.axvline(mean, color=_OTHER, linewidth=1.4, label=f"mean {mean:.3g}")
    axes.legend()
    return _png(figure)


def _importance(candidate: Candidate) -> bytes:
    found = importances(candidate)[:_SHOWN_COLUMNS][::-1]
    measure = "RMSE" if candidate.task == "regression" else "log-loss"
    height = max(2.2, 0.26 * len(found) + 1.1)
    figure, axes = _axes(
        "Importance of columns", f"{measure} grows by, the column shuffled", "", (_SIZE[0], height)
    )
    axes.grid(visible=False, axis="y")
    axes.barh(
        [_short(one.column) for one in found],
        [one.increase for one in found],
        xerr=[one.spread for one in found],
        color=_MAIN,
        alpha=0.85,
        height=0.62,
        error_kw={"ecolor": _INK, "elinewidth": 1},
    )
    axes.axvline(0, color=_PALE, linewidth=1)
    return _png(figure)


def _short(name: Any) -> str:
    text = str(name)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
