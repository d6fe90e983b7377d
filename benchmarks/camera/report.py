"""The benchmark's tables and its plot."""

from __future__ import annotations

from functools import partial
from operator import mul as multiply
from pathlib import Path

from rich.console import Group

from motet.benchmarks.camera.contenders import MOTET
from motet.benchmarks.camera.measuring import ratio
from motet.benchmarks.camera.results import At, Result
from motet.benchmarks.camera.search import Trial
from motet.console import seconds, table
from motet.errors import EnvironmentLackError
from motet.targets.pictures import save_picture

MOST_SHOWN = 8.0
"""Percent of late frames at which the plot ends."""


def report(result: Result) -> Group:
    """What each engine carries, what it takes at factor 1 and at its own, and batches."""
    asked = ", ".join(f"{name} ({result.models[name]}) {rate:g}"
                      for name, rate in result.rates_hz.items())  # fmt: skip
    parts: list[object] = [f"frames/s at factor 1: {asked}", _factors(result)]
    parts += [_figures(result, "at factor 1", lambda one: one.at_one)]
    parts += [_figures(result, "at the factor that it carries", lambda one: one.at_factor)]
    parts += [_batches(result), _variants(result)]
    found = ratio(result)
    if found is not None:
        parts.append(f"Motet's factor is {found:.2f} times the best peer's")
    return Group(*parts)  # type: ignore[arg-type]


def _factors(result: Result) -> object:
    ours = next((one.factor for one in result.finalists if one.group == MOTET), 0.0)
    total = sum(result.rates_hz.values())
    rows = [
        [one.group, f"{one.factor:.2f}", f"{one.factor * total:.0f}",
         f"{ours / one.factor:.2f}" if one.factor else "", one.settings]
        for one in result.finalists
    ]  # fmt: skip
    title = f"Largest factor on all rates at which no frame is late over {result.seconds:g} s"
    return table(title, ["engine", ">factor", ">frames/s", ">Motet's over it", "best as"], rows)


def _figures(result: Result, where: str, of: object) -> object:
    assert callable(of)
    columns = ["engine", ">factor", ">late", *[f">{name} p99" for name in result.rates_hz],
               ">CPU s/s", ">resident"]  # fmt: skip
    rows = []
    for one in result.finalists:
        at: At = of(one)
        p99 = [at.p99_seconds[name] for name in result.rates_hz]
        rows.append([
            one.group, f"{at.trial.factor:.2f}", f"{at.trial.late} of {at.trial.frames}",
            *["" if value is None else seconds(value) for value in p99],
            f"{at.cpu_seconds_per_second:.2f}", f"{at.resident_bytes / 2**20:.0f} MiB",
        ])  # fmt: skip
    return table(f"Latency, CPU-seconds a second and memory {where}", columns, rows)


def _batches(result: Result) -> object:
    ours = result.batches.get(MOTET)
    rows = [
        [name, seconds(value), "" if ours is None else f"{value / ours:.2f}"]
        for name, value in result.batches.items()
    ]
    return table("The same frames, all there from the start", ["engine", ">time", ">ratio"], rows)


def _variants(result: Result) -> object:
    rows = [[one.group, one.settings, "" if one.factor < 0 else f"{one.factor:.2f}"]
            for one in result.variants]  # fmt: skip
    return table("Ways to run each engine, by a short search", ["engine", "way", ">factor"], rows)


def plot(result: Result, path: Path) -> None:
    """Late frames over the factor, in every trial, into ``path`` (.svg or .png).

    Shares above ``MOST_SHOWN`` are drawn there: such trials were ended early.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("--plot needs matplotlib: pip install 'motet[plot]'") from error
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="factor on all rates", ylabel="late frames, %")
    for number, one in enumerate(result.finalists):
        best = {f: min(share, MOST_SHOWN) for f, share in _least_late(one.trials).items()}
        line = axes.plot(list(best), list(best.values()), "o-", ms=3, label=one.group)
        axes.axvline(one.factor, color=line[0].get_color(), lw=0.8, ls=":")
        axes.annotate(f"{one.factor:.2f}", (one.factor, 0.94 - 0.07 * number),
                      xycoords=("data", "axes fraction"), fontsize=8)  # fmt: skip
    total = sum(result.rates_hz.values())
    scales = (partial(multiply, total), partial(multiply, 1 / total))
    axes.secondary_xaxis("top", functions=scales).set_xlabel("frames/s")
    axes.set_ylim(-0.2, MOST_SHOWN)
    axes.legend(frameon=False, fontsize=8, loc="center right")
    save_picture(figure, path)


def _least_late(trials: list[Trial]) -> dict[float, float]:
    """Of the trials at each factor the least share of late frames, in percent, by factor."""
    shares: dict[float, float] = {}
    for trial in sorted(trials, key=lambda one: one.factor):
        share = 100 * trial.late / max(1, trial.frames)
        shares[trial.factor] = min(share, shares.get(trial.factor, share))
    return shares
