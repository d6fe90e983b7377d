"""A timetable as a picture: pods and the host over a hyperperiod, a colour for each model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from motet.runtime.errors import EnvironmentLackError
from motet.targets.pictures import save_picture
from motet.targets.timetables.placing import Slot, Table

COLOURS = (
    "#2f6db5", "#d1662c", "#3a9a6b", "#8a5bb0", "#b8923a", "#c0487a", "#5b7f8c", "#7a8f2b",
    "#4b4fa8", "#a0522d", "#2a8c8c", "#94577e",
)  # fmt: skip
GREY = "#6b7280"
MOST_NAMED = 400
"""Slots up to which each has its model's name in it."""


def draw_timetable(path: Path, table: Table, title: str) -> None:
    """Write slots as boxes; the file's suffix says the format. A slot across the end is drawn in
    two pieces; late frames have a red edge; triangles are releases, lines deadlines.

    Raises ``EnvironmentLackError`` without matplotlib.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("plots need matplotlib: pip install 'motet[plot]'") from error
    style: Any = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "motet"}
    with mpl.rc_context(style):
        models = len(table.problem.loads)
        figure = Figure(figsize=(11, 2.6 + 0.22 * models), layout="constrained")
        chart, frames = figure.subplots(
            2, 1, sharex=True, height_ratios=(1.6, 0.12 * models + 0.25)
        )
        _Drawing(table, chart, frames).draw()
        chart.set_title(title, loc="left", fontweight="bold", fontsize=10)
        save_picture(figure, path)


class _Drawing:
    def __init__(self, table: Table, chart: Any, frames: Any) -> None:
        self.table, self.problem = table, table.problem
        self.chart, self.frames = chart, frames
        self.per_tick = 1e3 / float(self.problem.clock_hz)
        self.late = {
            job.number
            for job, end in zip(self.problem.jobs, table.ends, strict=True)
            if end > job.deadline
        }

    def draw(self) -> None:
        self._slots()
        self._frames()
        whole = self.problem.ticks * self.per_tick
        has_host = any(not slot.pods for slot in self.table.slots)
        has_array = any(slot.pods for slot in self.table.slots)
        pods = self.problem.pods if has_array else 0
        self.chart.set(xlim=(0, whole), ylim=(pods, -1.25 if has_host else 0), ylabel="pods")
        marks = [(-0.75, "host")] if has_host else []
        step = max(1, pods // 8)
        marks += [(pod + 0.5, str(pod)) for pod in range(0, pods, step)]
        self.chart.set_yticks([at for at, _ in marks], [name for _, name in marks])
        self.chart.set_ylabel("pods" if has_array else "")
        for axes in (self.chart, self.frames):
            axes.spines[["top", "right"]].set_visible(False)
        self.frames.set_xlabel(f"ms of a hyperperiod of {whole:.6g} ms")

    def _colour(self, model: int) -> str:
        return COLOURS[model % len(COLOURS)]

    def _slots(self) -> None:
        names = len(self.table.slots) <= MOST_NAMED
        for slot in self.table.slots:
            models = [self.problem.jobs[self.problem.stages[n][0]].model for n in slot.stages]
            top, height = (slot.pods.start, len(slot.pods)) if slot.pods else (-1.1, 0.7)
            for part, model in enumerate(models):
                own = height / len(models)
                self._box(slot, top + part * own, own, model, names)

    def _box(self, slot: Slot, top: float, height: float, model: int, named: bool) -> None:
        whole = self.problem.ticks
        start = slot.start % whole
        is_late = any(self.problem.stages[n][0] in self.late for n in slot.stages)
        for begin, end in (
            (start, min(start + slot.ticks, whole)),
            (0, start + slot.ticks - whole),
        ):
            if end <= begin:
                continue
            self.chart.barh(
                top + height / 2, (end - begin) * self.per_tick, height, begin * self.per_tick,
                color=self._colour(model), edgecolor="#c1121f" if is_late else "white",
                linewidth=1.2 if is_late else 0.4,
            )  # fmt: skip
            if named and (end - begin) / whole > 0.025:
                self.chart.text(
                    (begin + end) / 2 * self.per_tick, top + height / 2,
                    self.problem.loads[model].name, ha="center", va="center", color="white",
                    fontsize=7, clip_on=True,
                )  # fmt: skip

    def _frames(self) -> None:
        """A row per model: from every release to its end, and the deadline."""
        for model in range(len(self.problem.loads)):
            for job, end in zip(self.problem.jobs, self.table.ends, strict=True):
                if job.model != model:
                    continue
                row, colour = model, self._colour(model)
                span = (job.release * self.per_tick, end * self.per_tick)
                self.frames.plot(span, (row, row), color=colour, linewidth=3, alpha=0.75)
                self.frames.plot(span[:1], (row,), marker="^", color=colour, markersize=4)
                due = job.deadline * self.per_tick
                late = "#c1121f" if job.number in self.late else GREY
                self.frames.plot((due, due), (row - 0.35, row + 0.35), color=late, linewidth=1)
        names = [load.name for load in self.problem.loads]
        self.frames.set_yticks(range(len(names)), names)
        self.frames.set_ylim(len(names) - 0.4, -0.6)
