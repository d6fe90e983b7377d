"""Traces and plots that ``motet simulate`` and ``motet explore`` write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motet.exploring import OBJECTIVES, Point
from motet.runtime.errors import EnvironmentLackError, SpecError
from motet.simulating import ArraySimulator, SimulatedModel
from motet.targets.pictures import save_picture
from motet.targets.systolic.simulation.labels import place_labels
from motet.targets.systolic.simulation.plots import roofline, timeline
from motet.targets.systolic.simulation.sequence import counts_together, one_after_another
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.simulation.trace import write_trace as write_timing


def write_trace(path: Path, simulator: ArraySimulator, models: Sequence[SimulatedModel]) -> None:
    """Every engine, DMA request and link over time, all regions one after another."""
    program, description, timing = _run(simulator)
    names = ", ".join(model.model for model in models)
    facts = {"model": names, "number_format": simulator.number_format}
    write_timing(path, program, description, timing, facts)


def draw(
    kind: str, path: Path, simulator: ArraySimulator, models: Sequence[SimulatedModel]
) -> None:
    """A "timeline" or a "roofline" of all regions of all models, one after another."""
    if kind == "timeline":
        program, description, timing = _run(simulator)
        timeline(path, program, description, timing, _title(simulator, models))
        return
    counts = [region for model in models for region in model.regions]
    if not counts:
        raise SpecError(NOTHING)
    roofline(path, counts_together(counts), simulator.description, _title(simulator, models))


def _title(simulator: ArraySimulator, models: Sequence[SimulatedModel]) -> str:
    names = ", ".join(model.model for model in models)
    return f"{names} on {simulator.description.name} in {simulator.number_format}"


NOTHING = "nothing runs on the array, so there is nothing to draw: see motet inspect for why"


def _run(simulator: ArraySimulator) -> Any:
    """All programs as one: (program, description, timing)."""
    if not simulator.programs:
        raise SpecError(NOTHING)
    runs = [(made, simulate(made, simulator.description)) for made in simulator.programs.values()]
    program, timing = one_after_another(runs)
    return program, simulator.description, timing


def draw_pareto(path: Path, points: Sequence[Point], front: Sequence[Point]) -> None:
    """Latency against energy of every point, coloured by power; the front is marked and named.

    Without energy figures: latency against area, or against utilisation.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("plots need matplotlib: pip install 'motet[plot]'") from error
    shown = [point for point in points if point.seconds_simulated is not None]
    if not shown:
        raise SpecError("no point of the sweep works, so there is nothing to draw")
    key, label, scale = _other_axis(shown)
    with mpl.rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "motet"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        unit, per_second = _time_unit(shown)
        places = [(per_second * (p.seconds_simulated or 0), scale * getattr(p, key)) for p in shown]
        watts = [point.watts or 0.0 for point in shown]
        across, up = zip(*places, strict=True)
        dots = axes.scatter(across, up, c=watts, cmap="viridis", s=36, zorder=3)
        if any(watts):
            figure.colorbar(dots, ax=axes, label="power, W")
        axes.set(xlabel=f"latency, {unit} (simulated)", ylabel=label, xscale="log", yscale="log")
        _plain_numbers(axes)
        axes.grid(which="both", alpha=0.18, linewidth=0.6)
        axes.set_title("best in " + ", ".join(_NAMES[name] for name in OBJECTIVES), loc="left")
        _mark_front(figure, axes, shown, places, front)
        save_picture(figure, path)


_NAMES = {"seconds_simulated": "latency", "energy_joules": "energy", "watts": "power"}


def _time_unit(points: Sequence[Point]) -> tuple[str, float]:
    """The unit in which the shortest latency is at least one, and how many make a second."""
    shortest = min(point.seconds_simulated or 0.0 for point in points)
    return next(
        (unit for unit in (("s", 1.0), ("ms", 1e3)) if shortest * unit[1] >= 1), ("us", 1e6)
    )


def _other_axis(points: Sequence[Point]) -> tuple[str, str, float]:
    """The attribute above latency, its label with the unit, and the factor to that unit."""
    if all(point.energy_joules is not None for point in points):
        least = min(point.energy_joules or 0.0 for point in points)
        return ("energy_joules", *(("energy, mJ", 1e3) if least >= 1e-3 else ("energy, uJ", 1e6)))
    if all(point.area_mm2 is not None for point in points):
        return "area_mm2", "area, mm2", 1.0
    return "utilisation", "utilisation, %", 100.0


def _plain_numbers(axes: Any) -> None:
    """Ticks of both logarithmic axes as plain numbers, few enough to read."""
    from matplotlib.ticker import (
        FuncFormatter,
        LogLocator,
        MaxNLocator,
        NullFormatter,
        NullLocator,
    )

    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        plain = FuncFormatter(lambda value, _: f"{value:,.6g}")
        decades = high / max(low, 1e-300)
        if decades > 100:
            axis.set_major_locator(LogLocator(subs=(1.0,)))
        elif decades > 4:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        else:
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
        axis.set_minor_locator(NullLocator())


def _mark_front(
    figure: Any,
    axes: Any,
    points: Sequence[Point],
    places: Sequence[tuple[float, float]],
    front: Sequence[Point],
) -> None:
    """Circles around the front; no line, for it is a surface in three objectives."""
    best = [
        (_settings(point), place)
        for point, place in zip(points, places, strict=True)
        if point in front
    ]
    if not best:
        return
    across, up = zip(*(place for _, place in best), strict=True)
    axes.scatter(
        across, up, s=110, facecolors="none", edgecolors="#d1662c", zorder=4, label="Pareto front"
    )
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.0, 1.08))
    place_labels(figure, axes, sorted(best, key=lambda named: named[1]), len(best))


def _settings(point: Point) -> str:
    """Settings by the last parts of their keys."""
    return ", ".join(f"{key.split('.')[-1]} {value}" for key, value in point.settings.items())
