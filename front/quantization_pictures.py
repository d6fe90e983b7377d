"""A picture of settings: how near the outputs stay against the size of the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motet.quantized_model import Evaluated
from motet.runtime.errors import EnvironmentLackError
from motet.targets.pictures import save_picture

_BITS = {"8/8": "o", "4/8": "s", "4/4": "^"}
"""Markers, by bits of weights/activations."""
_SCALES = {
    "tensor": ("a scale per tensor", "#b3b3b3"),
    "channel": ("per channel", "#e08214"),
    "V=64": ("vectors of 64", "#9ecae1"),
    "V=32": ("vectors of 32", "#4292c6"),
    "V=16": ("vectors of 16", "#084594"),
}
"""Names and colours of what shares a scale, by the last word of a setting."""


def draw_comparison(path: Path, floats: Evaluated, rows: Sequence[Evaluated], model: str) -> None:
    """The outputs' signal to noise over bytes, and the metric where there is one."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("plots need matplotlib: pip install 'motet[plot]'") from error
    measured = floats.metric is not None
    style: Any = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "motet"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9 if measured else 5.5, 4.2), layout="constrained")
        panels = figure.subplots(1, 1 + measured, squeeze=False)[0]
        _panel(panels[0], [(row, row.sqnr_db) for row in rows], "signal to noise of outputs, dB")
        if measured and floats.metric is not None:
            _panel(panels[1], [(row, row.metric) for row in rows], "metric")
            panels[1].axhline(floats.metric, color="0.4", linewidth=0.8, linestyle="--")
        figure.suptitle(f"{model}: bits of weights/activations, and what shares a scale")
        panels[0].legend(handles=_markers(), loc="best", frameon=False)
        figure.legend(
            handles=_colours(rows, floats), loc="outside lower center", ncols=6 if measured else 3,
            frameon=False, columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip
        save_picture(figure, path)


def _panel(axes: Any, points: Sequence[tuple[Evaluated, float | None]], label: str) -> None:
    """A marker for each setting; those of equal bits are joined, from coarse to fine scales."""
    for bits, marker in _BITS.items():
        found = [
            (row.size_bytes / 1e3, value, _scale(row))
            for row, value in points
            if value is not None and math.isfinite(value) and row.setting.startswith(bits)
        ]
        found.sort(key=lambda point: list(_SCALES).index(point[2]))
        axes.plot(*zip(*[point[:2] for point in found], strict=True) if found else ((), ()),
                  color="0.8", linewidth=0.8, zorder=2)  # fmt: skip
        for size, value, scale in found:
            axes.plot(
                size, value, marker, color=_SCALES[scale][1], markersize=7,
                markeredgecolor="white", markeredgewidth=0.6, zorder=3,
            )  # fmt: skip
    axes.set(xlabel="size of the file, kB", ylabel=label)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.margins(0.07)
    axes.spines[["top", "right"]].set_visible(False)


def _scale(row: Evaluated) -> str:
    """What shares a scale: the last word of a setting."""
    return row.setting.rpartition(" ")[2]


def _markers() -> list[Any]:
    """Entries of a legend: bits."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], marker=marker, color="0.3", linestyle="", label=bits)
        for bits, marker in _BITS.items()
    ]


def _colours(rows: Sequence[Evaluated], floats: Evaluated) -> list[Any]:
    """Entries of a legend: what shares a scale, and the float model."""
    from matplotlib.lines import Line2D

    seen = {_scale(row) for row in rows}
    made = [
        Line2D([], [], marker="D", color=colour, linestyle="", label=name)
        for scale, (name, colour) in _SCALES.items()
        if scale in seen
    ]
    if floats.metric is None:
        return made
    label = f"float32, {floats.size_bytes / 1e3:.0f} kB"
    return [*made, Line2D([], [], color="0.4", linewidth=0.8, linestyle="--", label=label)]
