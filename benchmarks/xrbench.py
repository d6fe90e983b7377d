"""XRBench's seven scenarios (Kwon et al., MLSys 2023) on a simulated array, under each policy.

    python -m motet.benchmarks.xrbench [--folder DIR] [--array single-32x32] [--format int8]
        [--seconds 1] [--seeds 5] [--jitter 0.5] [--policy edf] [--json] [--plot FILE.svg]

Networks are convolutional ones of the published multiply-accumulates, with random weights: only
time and energy are asked here. ``--folder`` keeps the ONNX files and a specification per scenario,
for ``motet simulate SCENARIO.toml --duration 1s``. Rates, order and chances are XRBench's; a
frame's deadline is the end of its period, and late queued frames are dropped with what follows
them. What the array does not take, the host does, by formula.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from motet.benchmarks.command_help import help_of
from motet.benchmarks.xrbench_networks import GIGA_MACS, network
from motet.bundle_seconds import BundleSeconds, Question, bundle_seconds
from motet.console import messages, output, print_json, table
from motet.errors import EnvironmentLackError
from motet.opening import CompileRequest
from motet.runtime.policies import POLICIES
from motet.runtime.progress import Show
from motet.simulating import ArraySimulator, SimulatedModel
from motet.simulation_input import Schedule, Work, work_of
from motet.targets.pictures import save_picture
from motet.targets.sharing.intervals import interval
from motet.together import Together, on_array


@dataclass(frozen=True)
class Frames:
    """A model of a scenario; after: the model that it follows, with a probability."""

    rate_hz: int
    after: str | None = None
    probability: float = 1.0


def _cascade(first: str, second: str, rate_hz: int, chance: float = 1.0) -> dict[str, Frames]:
    return {first: Frames(rate_hz), second: Frames(rate_hz, first, chance)}


_EYES = _cascade("es", "ge", 60)

SCENARIOS: Mapping[str, Mapping[str, Frames]] = {
    "social_a": {**_EYES, "dr": Frames(30), "ht": Frames(30)},
    "social_b": {**_EYES, "as": Frames(30)},
    "outdoor_a": {**_cascade("kd", "asr", 3, 0.2), "ss": Frames(10), "od": Frames(30)},
    "outdoor_b": {**_cascade("kd", "asr", 3, 0.2), "od": Frames(30)},
    "ar_assistant": {
        **_cascade("kd", "asr", 3, 0.5), "ss": Frames(10), "de": Frames(30), "pd": Frames(15),
        "od": Frames(10),
    },
    "ar_gaming": {"ht": Frames(45), "de": Frames(30), "pd": Frames(15)},
    "vr_gaming": {**_EYES, "ht": Frames(45)},
}  # fmt: skip
"""Model -> frames; the names are those of ``xrbench_networks.GIGA_MACS``."""


def specification(scenario: str, array: str) -> str:
    """The scenario as a bundle specification; model files lie beside it."""
    lines = [f'name = "{scenario}"', f'target = "{array}"']
    for model, frames in SCENARIOS[scenario].items():
        lines += ["", f"[models.{model}]", f'path = "{model}.onnx"', f"rate_hz = {frames.rate_hz}"]
        if frames.after is not None:
            lines.append(f'after = ["{frames.after}"]')
        if frames.probability < 1:
            lines.append(f"probability = {frames.probability}")
    return "\n".join(lines) + "\n"


def write(folder: Path, array: str) -> None:
    """All networks, and a specification of each scenario."""
    for name in GIGA_MACS:
        (folder / f"{name}.onnx").write_bytes(network(name).SerializeToString())
    for scenario in SCENARIOS:
        (folder / f"{scenario}.toml").write_text(specification(scenario, array), encoding="utf-8")


@dataclass(frozen=True)
class Machine:
    """An array and every network's run on it."""

    work: Work
    models: Mapping[str, SimulatedModel]

    def scenario(self, name: str) -> Together:
        """The scenario's models with their frames."""
        schedules = {
            model: Schedule(
                frames.rate_hz,
                after=() if frames.after is None else (frames.after,),
                probability=frames.probability,
            )
            for model, frames in SCENARIOS[name].items()
        }
        work = Work((), self.work.description, self.work.number_format, schedules)
        models = [self.models[model] for model in SCENARIOS[name]]
        return on_array(work, models, _no_bundle, None)


def _no_bundle() -> Any:
    raise AssertionError("the host's times are by formula")


def machine(folder: Path, array: str, number_format: str, show: Show) -> Machine:
    """Times every network of ``folder`` once."""
    models, work = {}, None
    simulator = None
    for name in GIGA_MACS:
        show(name)
        work = work_of(str(folder / f"{name}.onnx"), CompileRequest(array), None, number_format)
        simulator = simulator or ArraySimulator(work.description, work.number_format)
        models[name] = simulator.model(work.models[0])
    assert work is not None
    return Machine(work, models)


@dataclass(frozen=True)
class Row:
    """One scenario under one policy: means over seeds, and half their 95 % intervals.

    score: XRBench's, of 100. late, dropped: shares of the frames asked for. p99_seconds: latency
    of each model, None where no frame ended. p99_over_deadline: the largest of them over that
    model's deadline.
    """

    scenario: str
    policy: str
    score: float | None
    score_half: float | None
    late: float
    dropped: float
    p99_seconds: dict[str, float | None]
    p99_over_deadline: float | None
    antt: float | None
    stp: float | None
    fairness: float | None
    array_busy: float
    energy_joules: float | None


def row(scenario: str, policy: str, found: Sequence[BundleSeconds]) -> Row:
    """The figures of a scenario's seeds."""
    judged = [one.scores for one in found]
    assert all(one is not None for one in judged)
    score = interval([one.xrbench for one in judged if one is not None])
    asked = sum(model.released for one in found for model in one.models)
    late = sum(model.deadline_misses for one in found for model in one.models)
    dropped = sum(model.dropped for one in found for model in one.models)
    p99 = _p99(found)
    ends = [(p99[model.model], model.deadline_seconds) for model in found[0].models]
    over = [end / due for end, due in ends if end is not None and due]
    return Row(
        scenario,
        policy,
        None if score is None else score.mean,
        None if score is None else score.half,
        late / asked,
        dropped / asked,
        p99,
        max(over, default=None),
        _mean([one.antt for one in judged if one is not None]),
        _mean([one.stp for one in judged if one is not None]),
        _mean([one.fairness for one in judged if one is not None]),
        sum(one.array_busy for one in found) / len(found),
        _mean([one.energy_joules for one in found]),
    )


def _p99(found: Sequence[BundleSeconds]) -> dict[str, float | None]:
    """By model, the mean over the seeds in which a frame ended."""
    by_model: dict[str, list[float | None]] = {}
    for one in found:
        for model in one.models:
            by_model.setdefault(model.model, []).append(model.p99_latency_seconds)
    spread = {name: interval(values) for name, values in by_model.items()}
    return {name: None if one is None else one.mean for name, one in spread.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    found = interval(values)
    return None if found is None or found.seeds < len(values) else found.mean


def rows(
    made: Machine, policies: Sequence[str], seconds: Fraction, seeds: int, jitter_ms: Fraction
) -> list[Row]:
    """Every scenario under every policy, on the same frames."""
    found = []
    for scenario in SCENARIOS:
        together = made.scenario(scenario)
        for policy in policies:
            question = Question(seconds, policy, seeds=seeds, jitter_ms=jitter_ms, all_metrics=True)
            found.append(row(scenario, policy, bundle_seconds(together, question)))
    return found


COLUMNS = (
    "scenario", "policy", ">score", ">late", ">dropped", ">p99 of deadline", ">ANTT", ">STP",
    ">fairness", ">array busy", ">energy",
)  # fmt: skip


def print_rows(found: Sequence[Row], title: str) -> None:
    """A row per scenario and policy."""
    cells = [
        [
            one.scenario,
            one.policy,
            "" if one.score is None else f"{one.score:.1f} ± {one.score_half or 0:.1f}",
            f"{100 * one.late:.1f} %",
            f"{100 * one.dropped:.1f} %",
            _cell(one.p99_over_deadline),
            _cell(one.antt),
            _cell(one.stp),
            _cell(one.fairness),
            f"{100 * one.array_busy:.1f} %",
            "" if one.energy_joules is None else f"{one.energy_joules:.2f} J",
        ]
        for one in found
    ]
    output().print(table(title, COLUMNS, cells))


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def plot(found: Sequence[Row], path: Path) -> None:
    """Scores and missed frames of each policy, by scenario, into ``path`` (.svg or .png)."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("--plot needs matplotlib: pip install 'motet[plot]'") from error
    scenarios = list(dict.fromkeys(one.scenario for one in found))
    policies = list(dict.fromkeys(one.policy for one in found))
    figure = Figure(figsize=(8, 5), layout="constrained")
    scores, missed = figure.subplots(2, 1, sharex=True)
    width = 0.8 / len(policies)
    for number, policy in enumerate(policies):
        mine = {one.scenario: one for one in found if one.policy == policy}
        places = [k + (number - (len(policies) - 1) / 2) * width for k in range(len(scenarios))]
        rows_ = [mine[name] for name in scenarios]
        scores.bar(places, [one.score or 0 for one in rows_], width, label=policy,
                   yerr=[one.score_half or 0 for one in rows_], error_kw={"lw": 0.8})  # fmt: skip
        bars = missed.bar(places, [100 * one.late for one in rows_], width, alpha=0.5)
        colour = bars.patches[0].get_facecolor() if bars.patches else None
        missed.bar(places, [100 * one.dropped for one in rows_], width, color=colour)
    scores.set_ylabel("XRBench score")
    scores.set_ylim(bottom=min(80.0, *(one.score or 0 for one in found)) - 2)
    scores.legend(frameon=False, ncols=len(policies), fontsize=8)
    missed.set_ylabel("missed, of them dropped\n(darker), % of frames")
    missed.set_xticks(range(len(scenarios)), scenarios)
    save_picture(figure, path)


@click.command(help=help_of(__doc__))
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Kept if given.")
@click.option("--array", default="single-32x32", show_default=True)
@click.option("--format", "number_format", default="int8", show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="Of simulated time.")
@click.option("--seeds", default=5, show_default=True)
@click.option("--jitter", default=0.5, show_default=True, help="Milliseconds.")
@click.option("--policy", "policies", multiple=True, type=click.Choice(list(POLICIES)))
@click.option("--json", "as_json", is_flag=True)
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), metavar="FILE.svg")
def main(
    folder: Path | None,
    array: str,
    number_format: str,
    seconds: float,
    seeds: int,
    jitter: float,
    policies: tuple[str, ...],
    as_json: bool,
    plot_path: Path | None,
) -> None:
    """Write the scenarios, time the networks, simulate."""
    with tempfile.TemporaryDirectory() as scratch:
        place = folder or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        write(place, array)
        made = machine(place, array, number_format, messages().print)
    long, jitter_ms = Fraction(str(seconds)), Fraction(str(jitter))
    found = rows(made, policies or tuple(POLICIES), long, seeds, jitter_ms)
    if plot_path is not None:
        plot(found, plot_path)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_rows(found, f"{seconds:g} s on {array} in {number_format} (simulated), {seeds} seeds")


if __name__ == "__main__":
    main()
