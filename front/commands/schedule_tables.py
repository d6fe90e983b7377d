"""What ``motet schedule`` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from motet.console import output, seconds, table
from motet.planning import Plan, PlannedStage
from motet.scheduling import BlockCount, ModelCount

if TYPE_CHECKING:
    from motet.compiler.schedule_trial import Trial

COLUMNS = (
    ">block", "ends with", ">operators", ">width", ">states", ">transitions", ">schedules",
    ">transition bound",
)  # fmt: skip
EXACT_DIGITS = 15
"""Longer numbers are rounded in tables; --json has every digit."""


def print_counts(models: Sequence[ModelCount]) -> None:
    """A table per model: a row per block, and the totals."""
    for one in models:
        rows = [_row(number, block) for number, block in enumerate(one.blocks)]
        totals = one.totals
        figures = [totals[key] for key in ("operators", "width", "states", "transitions")]
        together = [*map(_number, figures), _number(totals["schedules"])]
        output().print(table(_title(one), COLUMNS, [*rows, ["", "all", *together, ""]]))


def _title(one: ModelCount) -> str:
    bounds = [
        text
        for bound, text in ((one.r, f"at most {one.r} in a group"), (one.s, f"{one.s} groups"))
        if bound is not None
    ]
    return f"{one.model}: stages of {', '.join(bounds) if bounds else 'all endings'}"


def _row(number: int, block: BlockCount) -> list[str]:
    figures = (block.operators, block.width, block.states, block.transitions, block.schedules)
    return [str(number), block.ends_with, *map(_number, figures), f"{block.bound:.3g}"]


def _number(figure: int | None) -> str:
    if figure is None:
        return "-"
    text = str(figure)
    return text if len(text) <= EXACT_DIGITS else f"{text[0]}.{text[1:4]}e{len(text) - 1}"


def print_plans(plans: Sequence[Plan]) -> None:
    """A table per model: a row per group; then what stages and the simple rules take."""
    for plan in plans:
        rows = [
            [*_first(number, stage, place), operators, share, seconds(stage.seconds) * (not place)]
            for number, stage in enumerate(plan.stages)
            for place, (operators, share) in enumerate(stage.rows)
        ]
        columns = (">stage", ">block", "side by side", f">{plan.resource}", ">estimated")
        title = f"{plan.model} on {plan.target}: stages of {plan.operators} operators"
        output().print(table(title, columns, rows))
        output().print(_comparison(plan))
        if plan.trial is not None:
            output().print(_trial(plan, plan.trial))


def _trial(plan: Plan, trial: Trial) -> Any:
    """Cycles: by the plan's estimates, by those of a program's stages, and simulated."""
    rows = [
        [order, *(f"{cycles:,.0f}" for cycles in (seconds * plan.clock_hz, *astuple(taken)))]
        for order, seconds, taken in (
            ("one operator after another", plan.sequential, trial.sequential),
            ("these stages", plan.schedule.seconds, trial.planned),
        )
    ]
    columns = ("cycles", ">estimated", ">estimated, program", ">simulated")
    gain = trial.sequential.simulated / trial.planned.simulated
    return table(f"{plan.model} on {plan.target}: {gain:.2f} times, simulated", columns, rows)


def _first(number: int, stage: PlannedStage, place: int) -> list[str]:
    """The stage's number and block, beside its first group."""
    return ["", ""] if place else [str(number), str(stage.block)]


def _comparison(plan: Plan) -> str:
    """The schedule beside the simple rules."""
    best = plan.schedule.seconds
    return (
        f"{len(plan.stages)} stages: {seconds(best)} by estimate; one operator after another "
        f"{seconds(plan.sequential)} ({_times(plan.sequential, best)}), all that is ready at once "
        f"{seconds(plan.greedy)} ({_times(plan.greedy, best)})"
    )


def _times(other: float, best: float) -> str:
    return f"{other / best:.2f} times" if best else "-"
