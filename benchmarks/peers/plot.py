"""The rows of the table -> a picture: images/s of every peer by what it reads, a panel a condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

COLOURS = {
    "16-bit, compressed": "#2a7fd4",
    "16-bit, raw": "#1f9e6e",
    "16-bit, in memory": "#a455cf",
    "8-bit, JPEG": "#d0731a",
}


def draw(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw medians as bars on a logarithmic axis, with lines from the slowest to the fastest repetition."""
    conditions = list(dict.fromkeys((row["cache"], row["cores"]) for row in rows))
    peers = len({row["peer"] for row in rows})
    figure = Figure(figsize=(6.5 * len(conditions[:2]), (0.8 + 0.28 * peers) * -(-len(conditions) // 2)))
    panels = figure.subplots(-(-len(conditions) // 2), len(conditions[:2]), squeeze=False).flat
    for axes, (cache, cores) in zip(panels, conditions, strict=False):
        some = [row for row in rows if (row["cache"], row["cores"]) == (cache, cores)]
        some.sort(key=lambda row: row["images/s"].median)
        rates = [row["images/s"] for row in some]
        axes.barh(
            [row["peer"] for row in some],
            [rate.median for rate in rates],
            color=[COLOURS[row["starts from"]] for row in some],
            xerr=[
                [rate.median - rate.slowest for rate in rates],
                [rate.fastest - rate.median for rate in rates],
            ],
        )
        axes.bar_label(axes.containers[-1], [f" {rate.median:,.0f}" for rate in rates], fontsize=8)
        axes.set_xscale("log")
        axes.set_xlim(right=2.5 * max(rate.fastest for rate in rates))
        axes.set_xlabel("images/s")
        axes.set_title(f"page cache {cache}, {cores} {'core' if cores == 1 else 'cores'}", fontsize=10)
    used = {row["starts from"] for row in rows}
    names = [name for name in COLOURS if name in used]
    figure.legend(
        handles=[Patch(color=COLOURS[name], label=name) for name in names],
        loc="outside lower center",
        ncols=4,
    )
    figure.suptitle(title, fontsize=10)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)
