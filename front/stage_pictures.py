"""The stages of models over time, as a picture: a box for each group, as high as its share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motet.planning import Plan, PlannedStage
from motet.runtime.errors import EnvironmentLackError
from motet.targets.pictures import save_picture

COLOURS = ("#2f6db5", "#d1662c", "#3a9a6b", "#8a5bb0", "#b8923a", "#c0487a", "#5b7f8c", "#7a8f2b")
"""Of the groups of a stage, from the bottom up."""
MERGED = "#6b7280"
ON_HOST = "#a8a29e"
"""Of what the host computes beside an array."""
WIDE = 0.03
"""Part of the whole time from which on a stage has the names of its operators in it."""
MOST_LETTERS = 26


def draw_stages(path: Path, plans: Sequence[Plan]) -> None:
    """Write one chart per model; the file's suffix says the format.

    Raises ``EnvironmentLackError`` without matplotlib.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("plots need matplotlib: pip install 'motet[plot]'") from error
    style: Any = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "motet"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(12, 3.2 * len(plans)), layout="constrained")
        charts = figure.subplots(len(plans), 1, squeeze=False)
        for plan, (chart,) in zip(plans, charts, strict=True):
            _draw(chart, plan)
        save_picture(figure, path)


def _draw(chart: Any, plan: Plan) -> None:
    whole, start, block = plan.schedule.seconds, 0.0, 0
    for stage in plan.stages:
        if stage.block != block:
            chart.axvline(start * 1e6, color="0.6", linewidth=0.6, linestyle=":")
            block = stage.block
        _boxes(chart, stage, start, is_named=stage.seconds > WIDE * whole)
        start += stage.seconds
    most = max((sum(_heights(stage)) for stage in plan.stages), default=1)
    chart.set_xlim(0, max(whole, 1e-12) * 1e6)
    chart.set_ylim(0, most)
    is_mixed = any(None in stage.shares for stage in plan.stages)
    chart.set_xlabel("estimated us; dotted: blocks" + "; light grey: on the host" * is_mixed)
    chart.set_ylabel(plan.resource)
    title = f"{plan.model} on {plan.target}: {len(plan.stages)} stages"
    chart.set_title(title, loc="left", fontweight="bold", fontsize=10)


def _heights(stage: PlannedStage) -> list[int]:
    """Of the boxes of a stage; what the host computes beside an array has some height too."""
    shares = stage.shares[: 1 if stage.is_merged else len(stage.groups)]
    on_host = max(1, sum(share or 0 for share in shares) // len(shares))
    return [share or on_host for share in shares]


def _boxes(chart: Any, stage: PlannedStage, start: float, *, is_named: bool) -> None:
    """The groups of a stage from the bottom up."""
    bottom, heights = 0, _heights(stage)
    for number, (operators, _) in enumerate(stage.rows):
        colour = MERGED if stage.is_merged else COLOURS[number % len(COLOURS)]
        share = heights[number]
        if stage.shares[number] is None:
            colour = ON_HOST
        box = {"color": colour, "edgecolor": "white", "linewidth": 0.5}
        chart.bar(start * 1e6, share, stage.seconds * 1e6, bottom, align="edge", **box)
        if is_named:
            middle = (start + stage.seconds / 2) * 1e6, bottom + share / 2
            text = {"rotation": 90, "color": "white", "fontsize": 6, "clip_on": True}
            chart.text(*middle, _short(operators), ha="center", va="center", **text)
        bottom += share


def _short(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else f"…{name[1 - MOST_LETTERS :]}"
