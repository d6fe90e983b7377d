"""``motet tune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from motet.commands.common import (
    compile_options,
    file_argument,
    json_option,
    onnx_option,
    threads_option,
)
from motet.console import output, print_json, seconds, table, warn
from motet.opening import CompileRequest
from motet.tuning import Tuned, TuneRequest
from motet.tuning import tune as measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motet.targets.host.meta_schedule.kernel_store import Searched
    from motet.targets.host.meta_schedule.tuning import HostUnit
    from motet.targets.host.tuning import Outcome


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet tune headset.motet\n"
    "  motet tune model.onnx --shape image:1x3x224x224 --minutes 30 --threads 1\n"
    "  motet tune headset.toml --json > tuned.json\n"
    "\n"
    "Every operator's kernel settings are compiled and run here, the promising ones first. "
    "Times are kept in tuned.sqlite in the cache folder (MOTET_CACHE_DIR), as they come: after "
    "Ctrl-C, or when the minutes are over, the same command goes on. motet compile uses what it "
    "finds there for as many threads (compile --no-tuned does not). A gain is told where it is "
    "more than the times of two equal kernels differ by.\n"
)  # fmt: skip
@compile_options
@file_argument
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True,
    help="How long all may take, preparation and training included.",
)  # fmt: skip
@threads_option
@click.option(
    "--meta-schedule", "trials", type=click.IntRange(1, 100_000), metavar="TRIALS",
    help="After that, try so many schedules of TVM's MetaSchedule for every kernel that takes "
    "at least 2% of a run; one that is at least 5% faster takes our kernel's place.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 1024), metavar="N",
    help="Processes that compile kernels. Default: one per CPU.",
)  # fmt: skip
@onnx_option
@json_option
def tune(
    request: CompileRequest,
    file: str,
    minutes: float,
    threads: int | None,
    trials: int | None,
    jobs: int | None,
    onnx: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure settings of kernels on this CPU; keep the fastest."""
    found = measure(TuneRequest(file, request, minutes, threads, jobs, trials or 0, onnx))
    if as_json:
        print_json(_facts(found))
    else:
        _print(found)
    if found.interrupted:
        warn(_stopped(found))
        raise KeyboardInterrupt


def _stopped(found: Tuned) -> str:
    if not any(outcome.measured for outcome in found.outcomes):
        return "stopped before anything was measured"
    return "stopped; what was measured is kept, and the same command goes on from there"


def _facts(found: Tuned) -> dict[str, Any]:
    return {
        "database": str(found.database),
        "threads": found.threads,
        "complete": found.complete,
        "model": found.model,
        "operators": [_operator(outcome) for outcome in found.outcomes],
        "meta_schedule": [_unit(unit, result) for unit, result in found.units],
    }


def _unit(unit: HostUnit, result: Searched) -> dict[str, Any]:
    return {
        "onnx_nodes": list(unit.nodes),
        "uses": unit.uses,
        "own_seconds": result.own,
        "found_seconds": result.found,
        "used": result.kernel is not None,
    }


def _operator(outcome: Outcome) -> dict[str, Any]:
    return {
        "onnx_nodes": list(outcome.operator.nodes),
        "problem": outcome.operator.problem.key,
        "uses": outcome.operator.uses,
        "points": outcome.points,
        "measured_points": outcome.measured,
        "before_seconds": outcome.before,
        "after_seconds": outcome.after,
        "noise": outcome.noise,
        "gain": outcome.gain,
        "setting": dict(outcome.point.knobs),
    }


def _print(found: Tuned) -> None:
    console = output()
    if not found.outcomes and not found.units:
        console.print("no operator that the host runs here has a choice of kernel settings")
        return
    if found.outcomes:
        _print_outcomes(found)
    if found.units:
        console.print(_units(found))
    if not found.complete:
        console.print("not every setting was measured: the same command goes on")
    if found.model:
        console.print(found.model)


def _print_outcomes(found: Tuned) -> None:
    console = output()
    threads = f"{found.threads} thread{'' if found.threads == 1 else 's'}"
    title = f"Host kernels with {threads}; kept in {found.database}"
    columns = ["operator", ">uses", ">points", ">before", ">after", ">faster", "setting"]
    console.print(table(title, columns, [_row(outcome) for outcome in found.outcomes]))
    known = [o for o in found.outcomes if o.before is not None and o.after is not None]
    if known:
        measured = f"{len(known)} of {len(found.outcomes)} operators measured"
        console.print(f"{measured}: {_gained(known)}")
        console.print(f"motet compile takes them where host.threads is {found.threads}")


def _gained(known: Sequence[Outcome]) -> str:
    """What all came to; times that chance explains count as they were."""
    if not any(outcome.gain for outcome in known):
        most = max(outcome.noise for outcome in known)
        return f"no change beyond noise (times of equal kernels differ by up to {100 * most:.1f} %)"
    before = sum(o.operator.uses * (o.before or 0.0) for o in known)
    after = sum(o.operator.uses * ((o.after if o.gain else o.before) or 0.0) for o in known)
    times = f"{seconds(before)}, and now {seconds(after)}, {before / after:.2f}x"
    return f"of a run they took {times}"


def _units(found: Tuned) -> Any:
    rows = [
        [
            unit.nodes[0],
            f"{unit.uses}",
            seconds(result.own),
            "-" if result.found is None else seconds(result.found),
            "MetaSchedule" if result.kernel is not None else "ours",
        ]
        for unit, result in found.units
    ]
    columns = ["kernel", ">uses", ">ours", ">MetaSchedule", "used"]
    return table("Kernels that MetaSchedule was tried on", columns, rows)


def _row(outcome: Outcome) -> list[str]:
    nodes, before, after = outcome.operator.nodes, outcome.before, outcome.after
    name = nodes[0] + (f" and {len(nodes) - 1} more" if len(nodes) > 1 else "")
    return [
        name,
        f"{outcome.operator.uses}",
        f"{outcome.measured}/{outcome.points}",
        "-" if before is None else seconds(before),
        "-" if after is None else seconds(after),
        "-" if after is None else f"{outcome.gain:.2f}x" if outcome.gain else "within noise",
        outcome.point.key.replace(",", ", ") if after is not None else "-",
    ]
