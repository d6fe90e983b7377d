"""Timetables and policies on XRBench's seven scenarios: time multiplexing, co-location, both.

    python -m motet.benchmarks.timetables [--array 8x64x64] [--format int8] [--scenario ar_gaming]
        [--load 0.9] [--seeds 5] [--plot FILE.svg] [--json]

Of each way of sharing, the largest factor on all rates of a scenario at which no frame is late:
static timetables over the hyperperiod (time, space, both; deadlines at the ends of periods), the
bound that no timetable is above, and policies in simulation (first-come, earliest deadline first,
and that with pods shared out), frames on time to the tick. Then policies with jitter at rates that
ask for ``--load`` of the whole array: frames that miss, dropped ones included.

Networks are those of ``xrbench``; an array N x R x C is SOSA's with N pods, its DRAM and its
memories by the size of a pod (``ios_networks``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from motet.benchmarks.command_help import help_of
from motet.benchmarks.ios_networks import scaled
from motet.benchmarks.xrbench import SCENARIOS, write
from motet.benchmarks.xrbench_networks import GIGA_MACS
from motet.console import messages, output, print_json, table
from motet.opening import CompileRequest
from motet.runtime.policies import policy_named
from motet.runtime.progress import Show
from motet.simulating import ArraySimulator, SimulatedModel
from motet.simulation_input import Schedule, Work, work_of
from motet.targets.pictures import save_picture
from motet.targets.sharing.arrivals import Arrivals
from motet.targets.sharing.engine import Setting, simulate
from motet.targets.sharing.loads import Load
from motet.targets.sharing.side_by_side import SideBySide
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.workload.work import ModelWork
from motet.targets.timetables.bounds import bounds
from motet.targets.timetables.jobs import Problem, problem
from motet.targets.timetables.kinds import timetables
from motet.timetabling import problem_of
from motet.together import on_array

BASE = "single-32x32"
"""What networks are compiled for: what is placed on the array is the same on all of them."""
PLACEMENTS = 8000
"""Of a search, of which there are many; ``motet timetable`` takes more."""
HALVINGS = 8
STATIC = ("time", "space", "both")
DYNAMIC: Mapping[str, tuple[str, bool]] = {
    "fcfs": ("fcfs", False), "edf": ("edf", False), "edf, shares": ("edf", True),
}  # fmt: skip
"""Name -> policy, and whether pods are shared out."""
PLAYED = 40
"""Hyperperiods of a simulation with frames on time; with jitter ten times the shortest second."""
JITTER_OF_PERIOD = Fraction(1, 20)
"""Of the shortest period: frames come up to so much late."""


@dataclass(frozen=True)
class Row:
    """A scenario on an array: factors on all rates with no late frame, and shares of misses.

    load: of the whole array at factor 1. factors: by way; bound: none is above. missed: by policy
    at ``asked`` of the whole array.
    """

    scenario: str
    array: str
    load: float
    frames: int
    factors: dict[str, float]
    bound: float
    asked: float
    missed: dict[str, float]


@dataclass(frozen=True)
class Machine:
    """An array and all networks on it."""

    description: ArrayDescription
    number_format: str
    works: Mapping[str, ModelWork]
    models: Mapping[str, SimulatedModel]

    def scenario(self, name: str, show: Show) -> Problem:
        """The scenario's frames at XRBench's rates, with times on shares, and joints."""
        schedules = {
            model: Schedule(
                frames.rate_hz,
                after=() if frames.after is None else (frames.after,),
                probability=frames.probability,
            )
            for model, frames in SCENARIOS[name].items()
        }
        works = tuple(self.works[model] for model in schedules)
        work = Work(works, self.description, self.number_format, schedules)
        models = [self.models[model] for model in schedules]
        together = on_array(work, models, _no_bundle, None)
        return problem_of(together, work, models, show=show)


def _no_bundle() -> Any:
    raise AssertionError("the host's times are by formula")


def machine(folder: Path, array: str, number_format: str, show: Show) -> Machine:
    """Compiles and times every network of ``folder`` once."""
    description = scaled(array)
    simulator = ArraySimulator(description, number_format)
    works, models = {}, {}
    for name in GIGA_MACS:
        show(name)
        made = work_of(str(folder / f"{name}.onnx"), CompileRequest(BASE), None, number_format)
        works[name] = made.models[0]
        models[name] = simulator.model(made.models[0])
    return Machine(description, number_format, works, models)


def faster(made: Problem, factor: Fraction) -> Problem:
    """The problem with all rates times ``factor``."""
    loads = [_faster(load, factor) for load in made.loads]
    again = problem(loads, made.clock_hz, made.pods, made.rest_watts)
    return replace(again, joints=made.joints)


def _faster(load: Load, factor: Fraction) -> Load:
    assert load.rate_hz is not None
    return replace(load, rate_hz=load.rate_hz * factor)


def largest(fits: Callable[[Fraction], bool], low: Fraction, high: Fraction) -> Fraction:
    """By bisection the largest factor that ``fits``, 0 where none above ``low`` does."""
    if fits(high):
        return high
    found = Fraction(0)
    for _ in range(HALVINGS):
        middle = ((low + high) / 2).limit_denominator(1000)
        if fits(middle):
            low = found = middle
        else:
            high = middle
    return found


def load_of(made: Problem) -> float:
    """Share of the whole array's time that the frames ask for, chances counted."""
    total = 0.0
    for load in made.loads:
        ticks = sum(stage.ticks for stage in load.stages if stage.resource == "array")
        total += float((load.rate_hz or 0) * ticks / made.clock_hz) * load.probability
    return total


def measured(name: str, made: Problem, asked: float, seeds: int, show: Show) -> Row:
    """All ways of sharing on one scenario."""
    base = load_of(made)
    most = largest(
        lambda f: bounds(faster(made, f)).used <= 1, Fraction(0), Fraction(str(round(4 / base, 3)))
    )
    factors: dict[str, float] = {}
    for kind in STATIC:
        show(f"{name}: {kind}")
        factors[kind] = float(largest(_static(made, kind), Fraction(0), most))
    if factors["both"] < max(factors.values()):
        factors["both"] = max(factors.values())  # it has the others among its candidates
    for way, (policy, shares) in DYNAMIC.items():
        show(f"{name}: {way}")
        factors[way] = float(largest(_dynamic(made, policy, shares), Fraction(0), most))
    factor = Fraction(str(round(asked / base, 3)))
    missed = {
        way: _missed(faster(made, factor), policy, shares, seeds)
        for way, (policy, shares) in DYNAMIC.items()
    }
    return Row(name, "", base, len(made.jobs), factors, float(most), asked, missed)


def _static(made: Problem, kind: str) -> Callable[[Fraction], bool]:
    def fits(factor: Fraction) -> bool:
        [found] = timetables(faster(made, factor), [kind], PLACEMENTS)
        return found.table is not None and not found.table.missed

    return fits


def _dynamic(made: Problem, policy: str, shares: bool) -> Callable[[Fraction], bool]:
    def fits(factor: Fraction) -> bool:
        sooner = faster(made, factor)
        loads = [replace(load, probability=1.0) for load in sooner.loads]
        kind = SideBySide if shares else None
        seconds = sooner.hyperperiod * max(1, min(PLAYED, 2000 // len(sooner.jobs)))
        setting = Setting(policy_named(policy), seconds, made.clock_hz, pods=made.pods)
        outcome = simulate(loads, setting, kind=kind)
        return not any(model.missed for model in outcome.models)

    return fits


def _missed(made: Problem, policy: str, shares: bool, seeds: int) -> float:
    """Share of the frames asked for that miss their deadline, with jitter, over seeds."""
    shortest = 1 / max(load.rate_hz or Fraction(1) for load in made.loads)
    arrivals = Arrivals(jitter_seconds=shortest * JITTER_OF_PERIOD)
    seconds = max(made.hyperperiod, 100 * shortest)
    missed = released = 0
    for seed in range(seeds):
        setting = Setting(policy_named(policy), seconds, made.clock_hz, arrivals, pods=made.pods)
        kind = SideBySide if shares else None
        outcome = simulate(made.loads, setting, seed, kind=kind)
        missed += sum(model.missed for model in outcome.models)
        released += sum(model.released for model in outcome.models)
    return missed / released


def print_rows(found: list[Row], title: str) -> None:
    """Two tables: factors, and misses."""
    ways = [*STATIC, *DYNAMIC]
    columns = [
        "scenario",
        ">load",
        ">frames",
        *(f">{way}" for way in ways),
        ">bound",
        ">both/bound",
    ]
    cells = [
        [
            row.scenario,
            f"{100 * row.load:.1f} %",
            str(row.frames),
            *(f"{row.factors[way]:.3g}" if row.factors[way] else "-" for way in ways),
            f"{row.bound:.3g}",
            f"{row.factors['both'] / row.bound:.2f}",
        ]
        for row in found
    ]
    output().print(
        table(f"{title}: largest factor on all rates without a late frame", columns, cells)
    )
    late = [[row.scenario, *(f"{100 * row.missed[way]:.1f} %" for way in DYNAMIC)] for row in found]
    asked = f"frames that miss at {100 * found[0].asked:g} % of the whole array"
    output().print(table(asked, ["scenario", *(f">{way}" for way in DYNAMIC)], late))


def draw(path: Path, found: list[Row], title: str) -> None:
    """Factors as shares of the bound: a group of bars per scenario."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    ways = [*DYNAMIC, *STATIC]
    colours = ("#c3c8d0", "#8d96a5", "#4b5563", "#b8923a", "#3a9a6b", "#2f6db5")
    with mpl.rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "motet"}):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        axes = figure.subplots()
        for number, (way, colour) in enumerate(zip(ways, colours, strict=True)):
            places = [at + (number - 2.5) * 0.14 for at in range(len(found))]
            heights = [100 * row.factors[way] / row.bound for row in found]
            axes.bar(places, heights, 0.13, color=colour, label=way)
        axes.axhline(100, color="#c1121f", linewidth=0.8)
        axes.set_xticks(range(len(found)), [row.scenario for row in found])
        axes.set_ylabel("largest factor on all rates\nwithout a late frame, % of the bound")
        axes.set_title(title, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(ncols=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1))
        save_picture(figure, path)


@click.command(help=help_of(__doc__))
@click.option("--array", default="8x64x64", show_default=True)
@click.option("--format", "number_format", default="int8", show_default=True)
@click.option("--scenario", "scenarios", multiple=True, type=click.Choice(list(SCENARIOS)))
@click.option("--load", "asked", default=0.9, show_default=True, help="Of the whole array.")
@click.option("--seeds", default=5, show_default=True)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def main(
    array: str,
    number_format: str,
    scenarios: tuple[str, ...],
    asked: float,
    seeds: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Time the networks, then all ways of sharing on every scenario."""
    show = messages().print
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), BASE)
        made = machine(Path(folder), array, number_format, show)
    found = []
    for name in scenarios or SCENARIOS:
        row = measured(name, made.scenario(name, show), asked, seeds, show)
        found.append(replace(row, array=made.description.name))
    title = f"{made.description.name} in {number_format}"
    if plot is not None:
        draw(plot, found, title)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_rows(found, title)


if __name__ == "__main__":
    main()
