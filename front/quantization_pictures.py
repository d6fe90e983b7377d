"""A picture of settings: how near the outputs stay against the bits of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motet.quantizing import Evaluated
from motet.runtime.errors import EnvironmentLackError
from motet.targets.pictures import save_picture


def draw_comparison(path: Path, floats: Evaluated, rows: Sequence[Evaluated], model: str) -> None:
    """The metric (else the outputs' signal to noise) over bytes, a line per kind of scale."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("plots need matplotlib: pip install 'motet[plot]'") from error
    measured = floats.metric is not None
    with mpl.rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "motet"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        for bits, marker in (("8/8", "o"), ("4/8", "s"), ("4/4", "^")):
            group = [row for row in rows if row.setting.startswith(bits)]
            _points(axes, group, bits, marker, measured=measured)
        if measured and floats.metric is not None:
            axes.axhline(floats.metric, color="0.5", linewidth=0.8, linestyle="--")
            axes.annotate("float32", (0.99, floats.metric), xycoords=("axes fraction", "data"),
                          ha="right", va="bottom")  # fmt: skip
        axes.set(
            xlabel="size of the file, kB", ylabel="metric" if measured else "outputs, dB",
            title=f"{model}: bits of weights/activations",
        )  # fmt: skip
        axes.grid(alpha=0.2, linewidth=0.6)
        axes.legend(frameon=False)
        save_picture(figure, path)


def _points(
    axes: Any, rows: Sequence[Evaluated], bits: str, marker: str, *, measured: bool
) -> None:
    found = [(row, row.metric if measured else row.sqnr_db) for row in rows]
    shown = [(row, value) for row, value in found if value is not None and math.isfinite(value)]
    if not shown:
        return
    sizes = [row.size_bytes / 1e3 for row, _ in shown]
    axes.scatter(sizes, [value for _, value in shown], marker=marker, label=bits, zorder=3)
    for size, (row, value) in zip(sizes, shown, strict=True):
        what = row.setting.removeprefix(bits).rpartition(" ")[2]
        axes.annotate(what, (size, value), xytext=(4, 3), textcoords="offset points", fontsize=7)
