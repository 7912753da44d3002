"""Logs, curves and counts -> SVG that stands in the page's own text: no file, no script, both themes.

What is ink (axes, text) is drawn in the page's text colour, so one drawing serves light and dark. Equal input
gives equal bytes: no date, and a fixed salt for the ids.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyrad.eval.predictions import Predictions
from pyrad.eval.table import number
from pyrad.metrics import roc_curve

COLOURS = ("#2a7fd4", "#d0731a", "#1f9e6e", "#a455cf", "#d0405f", "#0f93a5", "#8a8f00", "#7a6cf0")
CURVES = len(COLOURS)  # of more classes, only the lowest are named

_INK = "#010203"  # stands for the page's text colour until the drawing is written
_RC: dict[Any, Any] = {
    "svg.hashsalt": "pyrad",
    "svg.fonttype": "none",  # text stays text: small, searchable, in any script the reader's fonts have
    "text.parse_math": False,  # a label may hold a dollar sign
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.18,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK
    ),
}
_POINTS = 300  # of a learning curve: of more, neighbours are averaged
_TREND = 25  # of the line through the noise of single batches
_NAMED = 40  # classes whose names fit beside a confusion matrix
_COUNTED = 15  # classes whose counts fit into it
_NAME_LETTERS = 24


def learning_curves(log: Sequence[Mapping[str, Any]]) -> str:
    """Draw loss, and accuracy where there is one, of training and validation by step."""
    names = [name for name in ("loss", "accuracy") if any(line.get(name) is not None for line in log)]

    def draw(figure: Figure) -> None:
        for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
            for kind, colour, told in (("train", COLOURS[0], "training"), ("val", COLOURS[1], "validation")):
                points = [
                    (line["step"], line[name])
                    for line in log
                    if line["kind"] == kind and line.get(name) is not None
                ]
                if points:
                    runs = _POINTS if kind == "val" else _TREND
                    if kind == "train":
                        axes.plot(*_averaged(points, _POINTS), color=colour, alpha=0.3, linewidth=0.8)
                    marker = "o" if kind == "val" else ""
                    axes.plot(*_averaged(points, runs), color=colour, marker=marker, markersize=4, label=told)
            axes.set_xlabel("step")
            axes.set_title("loss" if name == "loss" else "top-1 accuracy", fontsize=10, loc="left")
            axes.legend(frameon=False)
            axes.set_ylim(bottom=0, top=None if name == "loss" else 1.02)

    return _svg("curves", "Learning curves", (9.0, 3.1), draw)


def roc_curves(predictions: Predictions, classes: Sequence[Mapping[str, Any]]) -> str:
    """Draw each defined one-against-rest curve; of many classes those of lowest AUROC are named."""
    defined = [k for k, row in enumerate(classes) if row["auroc"]["value"] is not None]
    lowest = sorted(defined, key=lambda k: (classes[k]["auroc"]["value"], k))[:CURVES]
    named = [k for k in defined if k in lowest]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=_INK, alpha=0.4, linewidth=0.8, linestyle=(0, (4, 3)))
        for k in (k for k in defined if k not in named):
            axes.plot(*_roc(predictions, k), color=_INK, alpha=0.15, linewidth=0.8)
        for k, colour in zip(named, COLOURS, strict=False):
            label = f"{short(classes[k]['class'])}  {number(classes[k]['auroc']['value'])}"
            axes.plot(*_roc(predictions, k), color=colour, linewidth=1.6, label=label)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.set_aspect("equal")
        if named:
            axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))

    return _svg("roc", "ROC curves, one class against the rest", (7.0, 4.3), draw)


def confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Draw counts (K, K), row the true class; the shade is the share of its row."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shade = np.empty((*counts.shape, 4))
    shade[..., :3] = np.array([int(COLOURS[0][at : at + 2], 16) for at in (1, 3, 5)]) / 255
    shade[..., 3] = 0.8 * share
    names = [short(name) for name in classes]
    side = float(np.clip(1.6 + 0.5 * len(names), 3.2, 8.0))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.imshow(shade, interpolation="none", aspect="equal")
        axes.set(xlabel="predicted", ylabel="true")
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)
        ticks = range(len(names)) if len(names) <= _NAMED else ()
        axes.set_xticks(ticks, [names[k] for k in ticks], rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(ticks, [names[k] for k in ticks])
        if len(names) <= _COUNTED:
            _write_counts(axes, counts)

    return _svg("confusion", "Confusion matrix", (side + 1.4, side + 0.4), draw)


def short(name: str) -> str:
    """Cut a class's name so that it fits into a drawing."""
    return name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"


def _write_counts(axes: Axes, counts: NDArray[np.int64]) -> None:
    for row, column in np.ndindex(*counts.shape):
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=9)


def _roc(predictions: Predictions, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return roc_curve(predictions.truth[:, k], predictions.scores[:, k])


def _averaged(
    points: Sequence[tuple[int, float]], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Step and value, means over runs of neighbours where there are more than ``most`` points."""
    runs = np.array_split(np.array(points, float), min(len(points), most))
    steps, values = np.array([run.mean(axis=0) for run in runs]).T
    return steps, values


def _svg(name: str, told: str, size_inches: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """Draw, and return one ``<svg>`` element; ids begin with ``name``, so that several fit into one page."""
    sink = io.StringIO()
    with mpl.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)  # see fonttype
        figure = Figure(figsize=size_inches, layout="constrained")
        draw(figure)
        # Without these four there is no metadata at all: neither a date nor the address of a vocabulary.
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(sink, format="svg", transparent=True, metadata=nothing)
    text = sink.getvalue()
    drawing = re.sub(r"<[^>]*>", lambda tag: _for_page(tag[0], name), text[text.index("<svg") :])
    return drawing.replace("<svg", f'<svg role="img" aria-label="{html.escape(told)}"', 1).strip()


def _for_page(tag: str, name: str) -> str:
    """Fit a tag of a stand-alone SVG into a page: ids of its own, the page's ink, no namespaces."""
    tag = re.sub(r' xmlns(:\w+)?="[^"]*"', "", tag)
    tag = re.sub(r'((?<= )id="|url\(#|href="#)', rf"\g<1>{name}-", tag)
    return tag.replace("xlink:href", "href").replace(_INK, "currentColor")
