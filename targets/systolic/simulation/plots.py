"""Plots of the timing view, by matplotlib (an extra): what was busy when, and rooflines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.device import ProgramCounts, StepCounts
from motet.runtime.errors import EnvironmentLackError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.isa import Opcode
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.spans import Track, tracks
from motet.targets.systolic.simulation.stalls import Cause
from motet.targets.systolic.simulation.timing import Timing

BINS = 600
"""Columns of a timeline: each shows the share of its cycles in which a track was busy."""
MAX_ROWS = 72
Rows = dict[str, NDArray[np.float64]]
_KIND_COLOURS = ("#2f6db5", "#d1662c", "#3a9a6b", "#8a5bb0", "#b8923a", "#c0487a", "#5b7f8c")
_GREY = "#6b7280"
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "svg.fonttype": "none",
    "svg.hashsalt": "motet",
}


def timeline(
    path: Path, program: SystolicProgram, description: ArrayDescription, timing: Timing
) -> None:
    """Write what every engine, DRAM channel and link did over time; the suffix says the format.

    Above, when each step ran; below, a row per track, darker where it was busy. Tracks beyond
    ``MAX_ROWS`` are left out, those of the last pods first. Without matplotlib:
    ``EnvironmentLackError``.
    """
    figure_of = _figure_class()
    rows = _rows(tracks(program, description, timing), timing.cycles)
    height = 0.16 * len(rows) + 3.4
    with _style():
        figure = figure_of(figsize=(11, height), layout="constrained")
        ratios = (1.6, 0.16 * len(rows) + 0.6)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
        _draw_steps(above, program, timing, description)
        _draw_rows(figure, below, rows, timing, description)
        _save(figure, path)


def roofline(path: Path, counts: ProgramCounts, description: ArrayDescription) -> None:
    """Write multiply-accumulates per second over those per byte of DRAM, a point per step.

    The roof is the array's peak and the DRAM's bandwidth. A step's time is that from its first
    instruction's start to its last one's end. Without matplotlib: ``EnvironmentLackError``.
    """
    figure_of = _figure_class()
    steps = [step for step in counts.steps if step.macs]
    with _style():
        figure = figure_of(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        _draw_roof(axes, steps, description)
        _draw_points(axes, steps, description)
        axes.set_title(f"Roofline of {description.name}")
        axes.set_xlabel("multiply-accumulates per byte of DRAM")
        axes.set_ylabel("10$^9$ multiply-accumulates per second")
        axes.grid(which="both", alpha=0.18, linewidth=0.6)
        axes.legend(frameon=False, loc="lower right")
        _save(figure, path)


def _figure_class() -> Any:
    try:
        import matplotlib.figure
    except ImportError as error:
        raise EnvironmentLackError("plots need matplotlib: pip install 'motet[plot]'") from error
    return matplotlib.figure.Figure


def _style() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


def _save(figure: Any, path: Path) -> None:
    """Without the date, so that equal runs give equal files."""
    is_svg = path.suffix == ".svg"
    figure.savefig(path, dpi=150, metadata={"Date": None} if is_svg else None)


def _rows(found: Iterable[Track], cycles: int) -> Rows:
    """Shares of time busy [BINS] by label; work at the same time counts as one."""
    rows: Rows = {}
    for track in found:
        label = f"{track.group} · {track.name}"
        if track.name != "capture":
            shares = np.clip(_busy_shares(track, cycles), 0, 1)
            rows[label] = np.maximum(rows.get(label, 0.0), shares)
    if len(rows) <= MAX_ROWS:
        return rows
    arrays = [label for label in rows if label.endswith("· array")]
    shared = [label for label in rows if not label.startswith("pod")][: MAX_ROWS // 3]
    return {label: rows[label] for label in arrays[: MAX_ROWS - len(shared)] + shared}


def _busy_shares(track: Track, cycles: int) -> NDArray[np.float64]:
    """Share of each of ``BINS`` equal times in which the track was busy."""
    edges = np.linspace(0, cycles, BINS + 1)
    done = np.concatenate(([0], np.cumsum(track.end - track.begin)))
    at = np.searchsorted(track.begin, edges, side="right")
    before = np.maximum(at - 1, 0)
    inside = np.clip(edges - track.begin[before], 0, (track.end - track.begin)[before])
    until = done[before] + np.where(at > 0, inside, 0)
    shares: NDArray[np.float64] = np.diff(until) / max(cycles / BINS, 1e-12)
    return shares


def _draw_rows(
    figure: Any, axes: Any, rows: Rows, timing: Timing, description: ArrayDescription
) -> None:
    shares = np.array(list(rows.values())).reshape(-1, BINS)
    extent = (0, description.seconds(timing.cycles) * 1e6, len(rows) - 0.5, -0.5)
    image = axes.imshow(
        shares, aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=extent, interpolation="nearest"
    )
    axes.set_yticks(range(len(rows)), list(rows), fontsize=7)
    axes.tick_params(left=False)
    axes.set_xlabel("microseconds")
    bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01)
    bar.set_label("share of time busy")
    bar.outline.set_visible(False)


def _draw_steps(
    axes: Any, program: SystolicProgram, timing: Timing, description: ArrayDescription
) -> None:
    """One bar for each step, over eight lines in turn; names where they have room."""
    micro = description.seconds(1) * 1e6
    total = max(timing.cycles, 1)
    colours = _colours([step.kind for step in program.steps])
    for number, step in enumerate(program.steps):
        mine = (program.instructions["step"] == number) & (timing.costs["bytes"] >= 0)
        mine &= program.instructions["opcode"] < Opcode.SIGNAL
        if not mine.any():
            continue
        begin, end = int(timing.start[mine].min()), int(timing.end[mine].max())
        place, width = begin * micro, max(end - begin, total // 2000) * micro
        axes.barh(-(number % 8), width, 0.8, place, color=colours[step.kind], linewidth=0)
        if (end - begin) * 150 > total * len(step.name):
            middle = place + width / 2
            axes.text(middle, -(number % 8), step.name, ha="center", va="center", fontsize=6.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelbottom=False)
    busy = timing.stalls[:, Cause.BUSY].sum() / max(total * len(timing.stalls), 1)
    axes.set_title(f"{description.name}: {timing.cycles:,} cycles, arrays busy {busy:.1%}")


def _colours(kinds: list[str]) -> dict[str, str]:
    names = sorted(set(kinds))
    return {name: _KIND_COLOURS[i % len(_KIND_COLOURS)] for i, name in enumerate(names)}


def _intensity(step: StepCounts) -> float:
    return step.macs / max(step.dram_read_bytes + step.dram_write_bytes, 1)


def _draw_roof(axes: Any, steps: list[StepCounts], description: ArrayDescription) -> None:
    peak = description.elements * description.clock_hz / 1e9
    slope = description.dram.bytes_per_second / 1e9
    ridge = peak / slope
    marks = [_intensity(step) for step in steps] + [ridge]
    low, high = min(marks) / 4, max(marks) * 4
    places = [low, ridge, high]
    axes.plot(places, [min(peak, slope * x) for x in places], color="#111827", linewidth=1.6)
    axes.text(high, peak * 1.06, f"peak {peak:,.4g}", ha="right", color=_GREY, fontsize=8)
    middle = math.sqrt(low * ridge)
    label = f"DRAM {slope:,.4g} GB/s"
    axes.text(middle / 1.15, slope * middle, label, ha="right", color=_GREY, fontsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")


def _draw_points(axes: Any, steps: list[StepCounts], description: ArrayDescription) -> None:
    """Area by the step's share of all cycles; names of the four largest."""
    colours = _colours([step.kind for step in steps])
    spans = {step: max(step.end_cycle - step.start_cycle, 1) for step in steps}
    longest = max(spans.values(), default=1)
    for kind, colour in colours.items():
        mine = [step for step in steps if step.kind == kind]
        rates = [step.macs / description.seconds(spans[step]) / 1e9 for step in mine]
        sizes = [12 + 160 * spans[step] / longest for step in mine]
        places = [_intensity(step) for step in mine]
        axes.scatter(
            places, rates, sizes, color=colour, alpha=0.75, edgecolor="white", label=kind, zorder=3
        )
    for step in sorted(steps, key=spans.__getitem__, reverse=True)[:4]:
        rate = step.macs / description.seconds(spans[step]) / 1e9
        axes.annotate(
            step.name, (_intensity(step), rate), xytext=(5, -10), textcoords="offset points",
            fontsize=7, color=_GREY,
        )  # fmt: skip
