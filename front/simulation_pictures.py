"""Traces and plots that ``motet simulate`` and ``motet explore`` write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motet.exploring import OBJECTIVES, Point
from motet.runtime.errors import EnvironmentLackError, SpecError
from motet.simulating import ArraySimulator, SimulatedModel
from motet.targets.systolic.simulation.plots import roofline, timeline
from motet.targets.systolic.simulation.sequence import counts_together, one_after_another
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.simulation.trace import write_trace as write_timing


def write_trace(path: Path, simulator: ArraySimulator) -> None:
    """Every engine, DMA request and link over time, all regions one after another."""
    write_timing(path, *_run(simulator))


def draw(
    kind: str, path: Path, simulator: ArraySimulator, models: Sequence[SimulatedModel]
) -> None:
    """A "timeline" or a "roofline" of all regions of all models, one after another."""
    if kind == "timeline":
        program, description, timing = _run(simulator)
        timeline(path, program, description, timing)
        return
    counts = [region for model in models for region in model.regions]
    if not counts:
        raise SpecError(NOTHING)
    roofline(path, counts_together(counts), simulator.description)


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
        places = [(1e3 * (p.seconds_simulated or 0), scale * getattr(p, key)) for p in shown]
        watts = [point.watts or 0.0 for point in shown]
        across, up = zip(*places, strict=True)
        dots = axes.scatter(across, up, c=watts, cmap="viridis", s=36, zorder=3)
        _mark_front(axes, shown, places, front)
        if any(watts):
            figure.colorbar(dots, ax=axes, label="power, W")
        axes.set(xlabel="latency, ms (simulated)", ylabel=label, xscale="log", yscale="log")
        axes.grid(which="both", alpha=0.18, linewidth=0.6)
        axes.set_title("best in " + ", ".join(_NAMES[name] for name in OBJECTIVES), loc="left")
        is_svg = path.suffix == ".svg"
        figure.savefig(path, dpi=150, metadata={"Date": None} if is_svg else None)


_NAMES = {"seconds_simulated": "latency", "energy_joules": "energy", "watts": "power"}


def _other_axis(points: Sequence[Point]) -> tuple[str, str, float]:
    if all(point.energy_joules is not None for point in points):
        return "energy_joules", "energy, mJ", 1e3
    if all(point.area_mm2 is not None for point in points):
        return "area_mm2", "area, mm2", 1.0
    return "utilisation", "utilisation, %", 100.0


def _mark_front(
    axes: Any,
    points: Sequence[Point],
    places: Sequence[tuple[float, float]],
    front: Sequence[Point],
) -> None:
    best = sorted(place for point, place in zip(points, places, strict=True) if point in front)
    axes.plot(*zip(*best, strict=True), color="#9ca3af", linewidth=1, zorder=2)
    axes.scatter(*zip(*best, strict=True), s=110, facecolors="none", edgecolors="#d1662c", zorder=4)
    for point, place in zip(points, places, strict=True):
        if point in front:
            text = ", ".join(f"{key} {value}" for key, value in point.settings.items())
            axes.annotate(text, place, textcoords="offset points", xytext=(6, 5), fontsize=7)
