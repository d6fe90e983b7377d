"""``motet schedule``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from motet.commands.common import (
    Format,
    compile_options,
    finite,
    format_options,
    model_option,
    print_as,
    tell_assumed,
    tell_decided,
)
from motet.commands.schedule_tables import print_counts, print_plans
from motet.console import progress, warn, without_tvm_warnings
from motet.extras import naming_extras
from motet.opening import CompileRequest, check_picture
from motet.planning import Plan, Progress, planned, simulated
from motet.runtime.errors import SpecError
from motet.runtime.progress import Show
from motet.scheduling import COUNTABLE_STATES, Counter, ModelCount, Work, work_of

DEFAULT_BUDGET = 120.0
_MORE_TIME = 120


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet schedule model.onnx --target sosa-256x32x32\n"
    "  motet schedule model.onnx --target sosa-256x32x32 --plot stages.svg\n"
    "  motet schedule model.onnx --target sosa-256x32x32 --simulate\n"
    "  motet schedule headset.toml --schedule-budget 10 --json > stages.json\n"
    "  motet compile headset.toml --set passes.schedule.file=stages.json\n"
    "  motet schedule model.onnx --count\n"
    "  motet schedule model.onnx --count -r 3 -s 8 --json\n"
    "  motet schedule headset.motet --model faces --count --csv > blocks.csv\n"
    "\n"
    "An operator is a convolution, matrix product, pooling and so on with the elementwise work "
    "around it; ReLU, depthwise and pointwise convolution are one. A block lies between operators "
    "that every path passes through. A stage runs groups of operators side by side, the operators "
    "of a group one after another: the last stage of what is left to schedule (a state) may be "
    "any set that nothing left reads. A transition is a state with such a set; schedules are "
    "the ways through. --count takes operators as often as the model has them, also equal ones "
    "that compiling computes once.\n"
    "\n"
    "Without --count, the stages with the least estimated time: operators by the closed forms of "
    "the array's mappings, or by multiply-accumulates and bytes on the host; pods and threads are "
    "shared out among the groups of a stage; a + b are "
    "convolutions of one value as one. Stages of at most 3 operators in a group and 8 groups "
    "are looked for, unless passes.schedule of a specification, or -r and -s, say otherwise; all "
    "that is ready at once, and one operator "
    "after another, are candidates whatever the bounds. --simulate makes the array's programs of "
    "the stages, and of one operator after another, and prints what each takes beside its "
    "estimates; what passes.schedule compiles is the best of several simulated candidates.\n"
)  # fmt: skip
@compile_options
@click.argument("file", metavar="BUNDLE.motet | MODEL.onnx | SPEC.toml")
@model_option
@click.option(
    "--count", is_flag=True, help="Count states, transitions and schedules of every block."
)
@click.option(
    "-r", type=click.IntRange(0), metavar="N", help="Operators in a group at most; 0: no bound."
)
@click.option(
    "-s", type=click.IntRange(0), metavar="N", help="Groups in a stage at most; 0: no bound."
)
@click.option(
    "--schedule-budget",
    "budget",
    type=click.FloatRange(0, min_open=True),
    callback=finite,
    metavar="SECONDS",
    help="Time for all blocks, small ones first: then the best stages so far are taken, and what "
    "is not counted stays open. Default: a count of steps, some 20 seconds' worth, which does "
    f"not depend on the machine; {DEFAULT_BUDGET:g} seconds for --count.",
)
@click.option(
    "--plot", metavar="FILE.svg", help="Draw the stages over time, their groups above each other."
)
@click.option(
    "--simulate", "simulate", is_flag=True, help="Of an array: programs, and simulated cycles."
)
@format_options
def schedule(
    compiling: CompileRequest,
    file: str,
    model: str | None,
    count: bool,
    r: int | None,
    s: int | None,
    budget: float | None,
    plot: str | None,
    simulate: bool,
    form: Format,
) -> None:
    """Find the operators of a model that may run side by side."""
    if count and simulate:
        raise click.UsageError("--simulate runs stages, which --count does not look for")
    if plot is not None:
        if count:
            raise click.UsageError("--plot draws stages, which --count does not look for")
        check_picture(Path(plot))
    with naming_extras(), ExitStack() as kept:
        # The ways through a large network have thousands of digits.
        kept.callback(sys.set_int_max_str_digits, sys.get_int_max_str_digits())
        sys.set_int_max_str_digits(0)
        folder = Path(kept.enter_context(TemporaryDirectory()))
        with without_tvm_warnings(), progress("import") as show:
            work = work_of(file, compiling, model, show, folder, as_written=count)
        for one in work.models:
            tell_assumed(one.model, one.assumed)
            tell_decided(one.model, one.decided)
        if count:
            seconds = budget or DEFAULT_BUDGET
            _print_counts(_counted(work, r, s, seconds), seconds, form)
        else:
            if simulate and work.array is None:
                raise SpecError("--simulate is for arrays: give one, as --target sosa-256x32x32")
            plans = _planned(work, r, s, budget)
            if simulate:
                with without_tvm_warnings(), progress("simulate") as show:
                    plans = simulated(work, plans, show)
            _print_plans(plans, form)
            _tell_idle([plan for plan in plans if simulate and plan.trial is None])
            if plot is not None:
                from motet.stage_pictures import draw_stages

                draw_stages(Path(plot), plans)


def _planned(work: Work, r: int | None, s: int | None, budget: float | None) -> list[Plan]:
    """The stages of every model; bounds as in the specification where none are given.

    Raises ``SpecError`` where bounds are given, and its algorithm has none.
    """
    from motet.passes.scheduling.endings import Pruning
    from motet.passes.scheduling.search import Search

    asked = work.spec.passes.schedule
    if asked.algorithm != "ios" and (r, s) != (None, None):
        raise SpecError(
            f"-r and -s bound the stages that algorithm ios tries, and passes.schedule.algorithm "
            f"is {asked.algorithm}: leave them out, or give --set passes.schedule.algorithm=ios"
        )
    if asked.file:
        warn(f"stages are looked for anew: passes.schedule.file ({asked.file}) is not read here")
    pruning = Pruning(asked.r if r is None else r or None, asked.s if s is None else s or None)
    search = Search(pruning, asked.budget_seconds if budget is None else budget)
    plans = []
    for one in work.models:
        with ExitStack() as bars:
            plans.append(planned(work, one, search, _bars(f"schedule {one.model}", bars)))
    return plans


def _bars(title: str, bars: ExitStack) -> Progress:
    """A bar for each thing that is counted, one after another."""
    shown: dict[str, tuple[Show, int]] = {}

    def told(what: str, done: int, total: int) -> None:
        if what not in shown:
            bars.close()
            shown[what] = bars.enter_context(progress(title, total)), 0
        show, before = shown[what]
        for number in range(before, done):
            show(f"{number + 1} of {total} {what}")
        shown[what] = show, max(before, done)

    return told


def _print_plans(plans: list[Plan], form: Format) -> None:
    rows: list[dict[str, Any]] = [
        {
            "model": plan.model,
            "stage": number,
            "block": stage.block,
            "seconds": stage.seconds,
            "groups": stage.text,
            plan.resource: stage.shares_text,
        }
        for plan in plans
        for number, stage in enumerate(plan.stages)
    ]
    print_as(form, [plan.to_dict() for plan in plans], lambda: print_plans(plans), rows)
    from motet.passes.scheduling.search import cut_short

    for plan in plans:
        cut = cut_short(plan.schedule)
        if cut:
            warn(
                f"model {plan.model!r}: the search ended early in {cut}, which got the best stages "
                f"so far: --schedule-budget {_MORE_TIME} gives it {_MORE_TIME} seconds, "
                "a smaller -r or -s less to do"
            )


def _tell_idle(plans: list[Plan]) -> None:
    for plan in plans:
        warn(
            f"model {plan.model!r}: nothing of it runs on array {plan.target!r}, so there are no "
            "cycles to simulate"
        )


def _counted(work: Work, r: int | None, s: int | None, budget: float) -> list[ModelCount]:
    """All blocks counted; without bounds where none are given."""
    from motet.passes.scheduling.endings import Pruning

    with progress("count") as show:
        counter = Counter(Pruning(r or None, s or None), budget, show)
        return [counter.model(one) for one in work.models]


def _print_counts(found: list[ModelCount], budget: float, form: Format) -> None:
    rows: list[dict[str, Any]] = [
        {"model": one.model, **block} for one in found for block in one.to_dict()["blocks"]
    ]
    print_as(form, [one.to_dict() for one in found], lambda: print_counts(found), rows)
    for one in found:
        wide = [n for n, block in enumerate(one.blocks) if block.is_too_wide]
        late = [n for n, block in enumerate(one.blocks) if block.states is None and n not in wide]
        if wide:
            warn(
                f"model {one.model!r}: blocks not counted for having more than "
                f"{COUNTABLE_STATES} states, however stages are bounded: {_listed(wide)}"
            )
        if late:
            warn(
                f"model {one.model!r}: blocks not counted, as the {budget:g} seconds are over: "
                f"{_listed(late)}; --schedule-budget gives more"
            )


def _listed(blocks: list[int]) -> str:
    return ", ".join(map(str, blocks))
