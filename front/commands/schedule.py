"""``motet schedule``."""

from __future__ import annotations

import sys
from typing import Any

import click

from motet.commands.common import Format, compile_options, format_options, model_option, print_as
from motet.commands.schedule_tables import print_counts
from motet.console import progress, warn, without_tvm_warnings
from motet.extras import naming_extras
from motet.opening import CompileRequest
from motet.scheduling import Counter, ModelCount, Work, work_of

DEFAULT_BUDGET = 120.0


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet schedule model.onnx --count\n"
    "  motet schedule model.onnx --count -r 3 -s 8 --json\n"
    "  motet schedule headset.motet --model faces --count --csv > blocks.csv\n"
    "\n"
    "An operator is a convolution, matrix product, pooling and so on with the elementwise work "
    "around it; ReLU, depthwise and pointwise convolution are one. A block lies between operators "
    "that every path passes through. A stage runs groups of operators side by side, the operators "
    "of a group one after another: the last stage of what is left to schedule (a state) may be "
    "any set that nothing left reads. A transition is a state with such a set; schedules are "
    "the ways through. Operators count as often as the model has them, also equal ones that "
    "compiling computes once.\n"
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
    default=DEFAULT_BUDGET,
    show_default=True,
    metavar="SECONDS",
    help="Time for all blocks, small ones first; what is not counted by then stays open.",
)
@format_options
def schedule(
    compiling: CompileRequest,
    file: str,
    model: str | None,
    count: bool,
    r: int | None,
    s: int | None,
    budget: float,
    form: Format,
) -> None:
    """How the operators of a model may run side by side, block by block."""
    sys.set_int_max_str_digits(0)  # the ways through a large network have thousands of digits
    with naming_extras():
        if count:
            with without_tvm_warnings(), progress("import") as show:
                work = work_of(file, compiling, model, show, as_written=True)
            _print_counts(_counted(work, r, s, budget), budget, form)


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
    open_blocks = [block for one in found for block in one.blocks if block.states is None]
    if open_blocks:
        warn(
            f"{len(open_blocks)} blocks are not counted: they are too wide, or the "
            f"{budget:g} seconds are over. -r 3 -s 8 bounds the stages; --schedule-budget gives "
            "more time"
        )
