"""What ``motet simulate`` writes beside its report: mappings, traces, plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from motet.opening import check_destination
from motet.runtime.errors import SpecError
from motet.simulating import ArraySimulator, SimulatedModel
from motet.simulation_input import Work

MAPPING_HEAD = "# Mappings by step"
"""How the files of ``mappings.file`` begin."""
PLOTS = ("timeline", "roofline")


@dataclass(frozen=True)
class Files:
    """What to write beside the report; None for nothing."""

    mapping: str | None
    save_mapping: str | None
    trace: str | None
    plots: tuple[str, ...]

    def check(self) -> None:
        """Raise ``SpecError`` before time is spent where a file cannot be read or written."""
        if self.mapping and not Path(self.mapping).is_file():
            raise SpecError(f"--mapping {self.mapping}: there is no such file")
        if self.save_mapping:
            check_destination(Path(self.save_mapping), "--save-mapping", MAPPING_HEAD)
        if self.trace:
            check_destination(Path(self.trace), "--trace")
        for plot in self.plots:
            check_destination(Path(plot), "--plot")
            plot_kind(plot)

    @property
    def wants_pictures(self) -> bool:
        """Whether something is drawn."""
        return bool(self.trace or self.plots)

    def refuse_pictures(self, option: str) -> None:
        """Raise ``SpecError`` where a picture is wanted, though ``option`` has none."""
        if self.wants_pictures:
            raise SpecError(f"{option} has no trace or plot: leave --trace and --plot out")

    def refuse_mappings(self, why: str) -> None:
        """Raise ``SpecError`` with ``why`` where a mapping is to be read or written."""
        if self.mapping or self.save_mapping:
            raise SpecError(f"{why}: leave --mapping and --save-mapping out")

    def constraints(self, work: Work) -> dict[str, Any]:
        """What ``--mapping`` pins, by model; raises ``SpecError`` for what it cannot."""
        if self.mapping is None:
            return {}
        from motet.mapping_files import read_mapping_file

        return read_mapping_file(self.mapping, work.models)

    def write(self, simulator: ArraySimulator, models: Sequence[SimulatedModel]) -> None:
        """Write what was asked for, once ``models`` are simulated."""
        if self.save_mapping:
            from motet.mapping_files import write_mapping_file

            write_mapping_file(self.save_mapping, simulator.mappings)
        if not self.wants_pictures:
            return
        from motet.simulation_pictures import draw, write_trace

        if self.trace:
            write_trace(Path(self.trace), simulator, models)
        for plot in self.plots:
            draw(plot_kind(plot), Path(plot), simulator, models)


def plot_kind(path: str) -> str:
    """The plot that a file's name asks for."""
    kinds = [kind for kind in PLOTS if kind in Path(path).stem]
    if len(kinds) != 1 or Path(path).suffix not in (".svg", ".png", ".pdf"):
        raise SpecError(
            f"--plot {path}: the name says what to draw: timeline.svg or roofline.svg "
            "(also as .png or .pdf; faces-timeline.svg is a timeline too)"
        )
    return kinds[0]


_FILE_OPTIONS = (
    click.option(
        "--mapping", metavar="FILE.toml",
        help="Tiles, dataflows and pods by layer name; what it leaves out is searched.",
    ),
    click.option(
        "--save-mapping", metavar="FILE.toml",
        help="Write the mapping that was used; edit it and give it to --mapping.",
    ),
    click.option(
        "--trace", metavar="OUT.json",
        help="Write what every engine, DMA request and link did; opens in Perfetto.",
    ),
    click.option(
        "--plot", "plots", multiple=True, metavar="timeline.svg|roofline.svg",
        help="Draw the pods over time, or the layers under the roofline.",
    ),
)  # fmt: skip


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name files; the command gets ``files``."""

    @wraps(command)
    def gathered(
        *arguments: Any,
        mapping: str | None,
        save_mapping: str | None,
        trace: str | None,
        plots: tuple[str, ...],
        **others: Any,
    ) -> Any:
        return command(*arguments, files=Files(mapping, save_mapping, trace, plots), **others)

    for option in reversed(_FILE_OPTIONS):
        gathered = option(gathered)
    return gathered
