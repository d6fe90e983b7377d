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
from motet.targets.pictures import save_picture
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.isa import Opcode
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.counts import work_starts
from motet.targets.systolic.simulation.labels import place_labels
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
    path: Path,
    program: SystolicProgram,
    description: ArrayDescription,
    timing: Timing,
    title: str = "",
) -> None:
    """Write what every engine, DRAM channel and link did over time; the suffix says the format.

    title: what ran (the array's name where empty). Above, the span of each step as
    ``StepCounts`` has it, lighter where only its loads ran ahead; below, a row per track,
    darker where it was busy. Tracks beyond ``MAX_ROWS`` are left out, those of the last pods
    first. Without matplotlib: ``EnvironmentLackError``.
    """
    figure_of = _figure_class()
    rows = _rows(tracks(program, description, timing), timing.cycles)
    height = 0.16 * len(rows) + 3.4
    with _style():
        figure = figure_of(figsize=(11, height), layout="constrained")
        ratios = (1.6, 0.16 * len(rows) + 0.6)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
        _draw_steps(above, program, timing, description)
        busy = timing.stalls[:, Cause.BUSY].sum() / max(timing.cycles * len(timing.stalls), 1)
        facts = f"{timing.cycles:,} cycles, arrays busy {busy:.1%}"
        above.set_title(f"{title or description.name}: {facts}")
        _draw_rows(figure, below, rows, timing, description)
        save_picture(figure, path)


def roofline(
    path: Path, counts: ProgramCounts, description: ArrayDescription, title: str = ""
) -> None:
    """Write multiply-accumulates per second over those per byte of DRAM, a point per step.

    title: what ran (the array's name where empty). The roof is the array's peak and the DRAM's
    bandwidth. A step's time is the span of its ``StepCounts``: weights loaded ahead of it can put
    it above the slope of the DRAM. Without matplotlib: ``EnvironmentLackError``.
    """
    figure_of = _figure_class()
    steps = [step for step in counts.steps if step.macs]
    with _style():
        figure = figure_of(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        _draw_roof(axes, steps, description)
        _draw_points(axes, steps, description)
        axes.set_title(f"Roofline: {title or description.name}")
        axes.set_xlabel("multiply-accumulates per byte of DRAM")
        axes.set_ylabel("10$^9$ multiply-accumulates per second")
        axes.grid(which="both", alpha=0.18, linewidth=0.6)
        legend = axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
        for handle in legend.legend_handles:
            handle.set_sizes([36])
        _name_largest(figure, axes, steps, description)
        save_picture(figure, path)


def _figure_class() -> Any:
    try:
        import matplotlib.figure
    except ImportError as error:
        raise EnvironmentLackError("plots need matplotlib: pip install 'motet[plot]'") from error
    return matplotlib.figure.Figure


def _style() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)


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
    """A bar for each step, over eight lines in turn; names where they have room."""
    micro = description.seconds(1) * 1e6
    total = max(timing.cycles, 1)
    colours = _colours([step.kind for step in program.steps])
    spans = _step_spans(program, timing)
    for number, (step, (loads, begin, end)) in enumerate(zip(program.steps, spans, strict=True)):
        if end < 0:
            continue
        line, colour = -(number % 8), colours[step.kind]
        axes.barh(line, (begin - loads) * micro, 0.3, loads * micro, color=colour, alpha=0.3)
        width = max(end - begin, total // 2000) * micro
        axes.barh(line, width, 0.8, begin * micro, color=colour, linewidth=0)
        if (end - begin) * 150 > total * len(step.name):
            middle = begin * micro + width / 2
            axes.text(middle, line, step.name, ha="center", va="center", fontsize=6.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelbottom=False)
    _kinds_legend(axes, colours)


def _step_spans(program: SystolicProgram, timing: Timing) -> list[tuple[int, int, int]]:
    """First load, start of work and end of each step; end -1 for a step without instructions."""
    step, opcode = program.instructions["step"].astype(np.int64), program.instructions["opcode"]
    moves, steps = opcode < Opcode.SIGNAL, len(program.steps)
    first = np.full(steps, np.iinfo(np.int64).max)
    last = np.full(steps, -1)
    np.minimum.at(first, step[moves], timing.start[moves])
    np.maximum.at(last, step[moves], timing.end[moves])
    work = work_starts(step, opcode, timing, steps)
    return list(zip(first.tolist(), work.tolist(), last.tolist(), strict=True))


def _kinds_legend(axes: Any, colours: dict[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=kind) for kind, colour in colours.items()]
    handles.append(Patch(color=_GREY, alpha=0.3, label="its loads ahead"))
    axes.legend(
        handles=handles, frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.05)
    )


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
    """Area by the step's share of all cycles."""
    colours = _colours([step.kind for step in steps])
    spans = {step: max(step.end_cycle - step.start_cycle, 1) for step in steps}
    longest = max(spans.values(), default=1)
    for kind, colour in colours.items():
        mine = [step for step in steps if step.kind == kind]
        axes.scatter(
            [_intensity(step) for step in mine],
            [_rate(step, description) for step in mine],
            [12 + 160 * spans[step] / longest for step in mine],
            color=colour, alpha=0.75, edgecolor="white", label=kind, zorder=3,
        )  # fmt: skip


def _rate(step: StepCounts, description: ArrayDescription) -> float:
    """10^9 multiply-accumulates per second over the step's span."""
    return step.macs / description.seconds(max(step.end_cycle - step.start_cycle, 1)) / 1e9


def _name_largest(
    figure: Any, axes: Any, steps: list[StepCounts], description: ArrayDescription
) -> None:
    """Names of up to ``NAMED`` steps, those of the longest spans that have room."""
    ordered = sorted(steps, key=lambda step: step.end_cycle - step.start_cycle, reverse=True)
    labels = [(_short(step.name), (_intensity(step), _rate(step, description))) for step in ordered]
    place_labels(figure, axes, labels, NAMED, radius=6.0)


NAMED = 5


def _short(name: str) -> str:
    return name if len(name) <= 28 else name.split("+")[0][:27] + "\N{HORIZONTAL ELLIPSIS}"
