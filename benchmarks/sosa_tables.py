"""SOSA's tables and curves, computed: power, granularity, partition size.

Claim: the array description and the cost formulas of Motet give the published power tables,
and its tile model the published optimum of partition size (32 rows) and of granularity
(32x32 arrays), with the curves' shape.

    python -m motet.benchmarks.sosa_tables [--json] [--plot partition.svg]

Source: Yuzuguler et al., Scale-out Systolic Arrays, arXiv 2203.11540. Power is a formula and
agrees to the printed digits. Effective throughput comes from ``sosa_slots``, a count of tile
slots in place of SOSA's scheduler; the published values are read off charts (to about 5 TOPS).
Chosen here, where the paper is silent: the ten sequence lengths of BERT, and the number of
accumulation chains. DRAM is left out, as in the paper.

Known differences. Without a partition the model gives nearly twice the paper's throughput: it
keeps four accumulation chains side by side there too. For 16x16 it gives half as much again:
conflicts at memory banks and switches of 512 pods are not modelled. For 256x256 it gives a
third less: layers wait for each other even where a scheduler could start the next one's tiles.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click

from motet.benchmarks.command_help import help_of
from motet.benchmarks.sosa_networks import Network, networks
from motet.benchmarks.sosa_slots import mean_utilisation
from motet.console import output, print_json, table
from motet.errors import EnvironmentLackError
from motet.targets.pictures import save_picture
from motet.targets.systolic.architecture import InterconnectKind
from motet.targets.systolic.sosa import (
    Machine,
    peak_tops,
    scaled_peak_tops,
    thermal_watts,
)

POWER: dict[tuple[InterconnectKind, int], tuple[float, float, float]] = {
    ("butterfly", 1): (30.6, 61.5, 123.7),
    ("butterfly", 2): (31.5, 63.6, 128.7),
    ("butterfly", 4): (33.2, 67.9, 138.6),
    ("benes", 1): (33.2, 67.9, 138.6),
    ("crossbar", 1): (35.3, 82.0, 209.2),
}
"""Thermal power in watts of 32, 64 and 128 pods of 32x32, by interconnect and expansion."""

POWER_PODS = (32, 64, 128)

GRANULARITY = {512: (1, 113.2, 1853), 256: (8, 245.0, 1712), 64: (128, 362.2, 1158),
               32: (256, 260.2, 806)}  # fmt: skip
"""Side of an array -> pods, watts, and peak TOPS scaled to 400 W, with butterfly-2."""

EFFECTIVE = {16: (512, 198), 32: (256, 317), 64: (128, 200), 128: (32, 205), 256: (8, 183)}
"""Side of an array -> pods and effective TOPS scaled to 400 W (read off a chart)."""

PARTITION = {8: 103, 16: 168, 32: 207, 48: 168, 64: 140, 128: 86, None: 42}
"""Rows of a tile -> effective TOPS of 256 pods of 32x32; None: not partitioned (a chart)."""


@dataclass(frozen=True)
class Row:
    """One number of one table: what the model gives and what the paper has."""

    table: str
    case: str
    model: float
    paper: float

    @property
    def error(self) -> float:
        """Model over paper, less one."""
        return self.model / self.paper - 1


def power_rows() -> list[Row]:
    """Thermal power by interconnect and pods, in watts."""
    return [
        Row(
            "thermal power, W",
            f"{kind}-{expansion}, {pods} pods" if kind == "butterfly" else f"{kind}, {pods} pods",
            sum(thermal_watts(Machine(pods, 32, 32, kind, expansion)).values()),
            paper,
        )
        for (kind, expansion), watts in POWER.items()
        for pods, paper in zip(POWER_PODS, watts, strict=True)
    ]


def granularity_rows() -> list[Row]:
    """Power and scaled peak throughput by the size of an array."""
    rows = []
    for side, (pods, watts, tops) in GRANULARITY.items():
        machine, case = Machine(pods, side, side), f"{pods} pods of {side}x{side}"
        power = sum(thermal_watts(machine).values())
        rows.append(Row("granularity: power, W", case, power, watts))
        rows.append(Row("granularity: peak at 400 W, TOPS", case, scaled_peak_tops(machine), tops))
    return rows


def effective_rows(nets: tuple[Network, ...]) -> list[Row]:
    """Effective throughput by the size of an array, tiles of (rows, rows, columns)."""
    rows = []
    for side, (pods, paper) in EFFECTIVE.items():
        machine = Machine(pods, side, side)
        tops = scaled_peak_tops(machine) * mean_utilisation(nets, machine, side)
        case = f"{pods} pods of {side}x{side}"
        rows.append(Row("effective at 400 W, TOPS", case, tops, paper))
    return rows


def partition_rows(nets: tuple[Network, ...]) -> list[Row]:
    """Effective throughput of 256 pods of 32x32 by partition size."""
    machine = Machine(256, 32, 32)
    return [
        Row(
            "effective by partition, TOPS",
            f"{rows} rows" if rows else "not partitioned",
            peak_tops(machine) * mean_utilisation(nets, machine, rows),
            paper,
        )
        for rows, paper in PARTITION.items()
    ]


def all_rows() -> list[Row]:
    """Every table, in the order in which they are printed."""
    nets = tuple(networks().values())
    return power_rows() + granularity_rows() + effective_rows(nets) + partition_rows(nets)


def plot(rows: list[Row], path: Path) -> None:
    """Draw the partition curve, model and paper, into ``path`` (.svg or .png)."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("--plot needs matplotlib: pip install 'motet[plot]'") from error
    shown = [row for row in rows if row.table.startswith("effective by partition")]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="partition size", ylabel="effective throughput, TOPS", ylim=(0, 240)
    )
    cases = [row.case for row in shown]
    axes.plot(cases, [row.model for row in shown], "o-", label="tile-slot model")
    axes.plot(cases, [row.paper for row in shown], "s--", label="SOSA, read off the chart")
    axes.set_title("256 pods of 32x32, butterfly-2", fontsize=10)
    axes.tick_params(axis="x", labelsize=8, rotation=20)
    axes.legend(frameon=False)
    save_picture(figure, path)


@click.command(help=help_of(__doc__))
@click.option("--json", "as_json", is_flag=True)
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), metavar="FILE.svg")
def main(as_json: bool, plot_path: Path | None) -> None:
    """Compute and print."""
    rows = all_rows()
    if plot_path:
        plot(rows, plot_path)
    if as_json:
        print_json([asdict(row) | {"error": row.error} for row in rows])
        return
    for title in dict.fromkeys(row.table for row in rows):
        lines = [
            [row.case, f"{row.model:.1f}", f"{row.paper:g}", f"{100 * row.error:+.1f} %"]
            for row in rows
            if row.table == title
        ]
        output().print(table(title, ["case", ">model", ">paper", ">error"], lines))


if __name__ == "__main__":
    main()
