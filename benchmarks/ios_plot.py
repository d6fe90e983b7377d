"""A picture of what schedules take: a group of bars per network, cycles over sequential's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from motet.runtime.errors import EnvironmentLackError
from motet.targets.pictures import save_picture

_COLOURS = {
    "sequential": "#9ca3af", "greedy": "#d1662c", "ios": "#2f6db5", "lean": "#7fb1e0",
    "mixed": "#8a5bb0", "merge": "#3a9a6b",
}  # fmt: skip
_STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "svg.fonttype": "none", "svg.hashsalt": "motet",
}  # fmt: skip


def plot(path: Path, names: Sequence[str], cycles: Sequence[Mapping[str, int]]) -> None:
    """Write the picture; the suffix says the format.

    names: of the groups. cycles: of each, by candidate; relative to ``"sequential"``.
    Without matplotlib: ``EnvironmentLackError``.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("--plot needs matplotlib: pip install 'motet[plot]'") from error
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2.5 + 1.5 * len(names), 3.2), layout="constrained")
        axes = figure.subplots()
        for place, (name, colour) in enumerate(_COLOURS.items()):
            known = [(n, one[name] / one["sequential"]) for n, one in enumerate(cycles)
                     if name in one]  # fmt: skip
            at = [n + (place - 2) * 0.16 for n, _ in known]
            axes.bar(at, [height for _, height in known], 0.15, color=colour, label=name)
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel("cycles / sequential")
        axes.legend(ncols=len(_COLOURS), loc="lower center", bbox_to_anchor=(0.5, 1.0),
                    frameon=False)  # fmt: skip
        save_picture(figure, path)
