"""Collect measurements of host kernels, train the cost model, and say how well it chooses.

Claim: for operators that it has not seen, the point that the shipped model chooses is within
5 % of the best point's time in the median, and 15 % at the 95th percentile.

    python -m motet.benchmarks.cost_model compile --minutes 30 --folder kernels
    python -m motet.benchmarks.cost_model collect --minutes 15 --folder kernels --out points.jsonl
    python -m motet.benchmarks.cost_model train points.jsonl
    python -m motet.benchmarks.cost_model report

compile makes kernels of every point of one operator after the other: layers of the zoo's
networks and made-up ones. collect times them, those first that were measured least often; of
several times of a point the least counts, and noise says by how much they differ. Both go on
where an earlier run stopped. train writes the data set and the model that compiling uses into
the package (--to: elsewhere). report splits the data set by operator in five parts (operators
of one shape never in two), and judges each part by a model of the other four. train and report
need motet[tune].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from motet.benchmarks.command_help import help_of
from motet.benchmarks.cost_model_collecting import collect_into, compile_into
from motet.console import output, print_json, table
from motet.targets.host.cost_model import dataset
from motet.targets.host.cost_model.dataset import DataSet, merged, read_lines
from motet.targets.host.cost_model.learning import train as trained
from motet.targets.host.cost_model.model import DATA_FILE, MODEL_FILE, shipped_data
from motet.targets.host.cost_model.noise import Noise, noise_of
from motet.targets.host.cost_model.report import Quality, is_worth_it, report
from motet.targets.host.families import families

_HERE = Path(dataset.__file__).parent


def joined(paths: Sequence[Path]) -> DataSet:
    """The samples of several files of one computer, as many as there were measurements."""
    sets = [read_lines(path) for path in paths]
    if len({data.host for data in sets}) != 1:
        raise click.UsageError("the files were measured on different computers: train on one's")
    return DataSet(sets[0].host, tuple(sample for data in sets for sample in data.samples))


@click.group(help=help_of(__doc__))
def main() -> None:
    """The command line."""


_FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Where compiled operators are.",
)  # fmt: skip


@main.command(name="compile")
@_FOLDER
@click.option("--minutes", default=30.0, show_default=True)
@click.option("--jobs", type=click.IntRange(1), help="Processes; one per CPU where absent.")
@click.option("--part", type=(int, int), default=(0, 1), help="Which of how many parts to make.")
@click.option("--family", multiple=True, help="All where absent.")
def compile_kernels(
    folder: Path, minutes: float, jobs: int | None, part: tuple[int, int], family: tuple[str, ...]
) -> None:
    """Compile operators with all their points."""
    added = compile_into(folder, minutes, jobs, part, family)
    output().print(f"{folder}: {added} operators more")


@main.command()
@_FOLDER
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--minutes", default=15.0, show_default=True)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
def collect(folder: Path, out: Path, minutes: float, threads: int) -> None:
    """Measure what was compiled and add it to a file."""
    added = collect_into(out, folder, threads, minutes)
    data = read_lines(out)
    known = DataSet(data.host, merged(data.samples))
    output().print(
        f"{out}: {added} measurements more, {len(known.samples)} operators with {known.rows} points"
    )


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--to", "folder", default=_HERE, show_default="the package", type=click.Path(path_type=Path)
)
def train(files: tuple[Path, ...], folder: Path) -> None:
    """Write the data set and the model from files of measurements.

    A family for which held-out operators are no quicker by the model than by hand is left out
    of the model; its kernels keep the hand-written choice.
    """
    measured = joined(files)
    data = DataSet(measured.host, merged(measured.samples))
    judged = report(data, families())
    _print(judged, data)
    worth_it = {quality.family for quality in judged if is_worth_it(quality)}
    model = trained(data, {name: f for name, f in families().items() if name in worth_it})
    for name, content in ((DATA_FILE, dataset.packed(data)), (MODEL_FILE, model.content())):
        (folder / name).write_bytes(content)
        output().print(f"{folder / name}: {len(content):,} bytes")


@main.command(name="report")
@click.option("--json", "as_json", is_flag=True)
@click.option(
    "--files", multiple=True, type=click.Path(path_type=Path, exists=True),
    help="Measurements to judge by; what the package ships where absent.",
)  # fmt: skip
def show(as_json: bool, files: tuple[Path, ...]) -> None:
    """Print how well a model chooses for operators that it has not seen."""
    data = shipped_data()
    if files:
        measured = joined(files)
        data = DataSet(measured.host, merged(measured.samples))
    found = report(data, families())
    if as_json:
        print_json([asdict(quality) for quality in found])
        return
    _print(found, data)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def noise(files: tuple[Path, ...]) -> None:
    """Print how far two measurements of the same operators differ."""
    found = noise_of(joined(files).samples)
    if found is None:
        raise click.UsageError("no operator was measured twice: collect once more")
    _print_noise(found)


def _print_noise(found: Noise) -> None:
    shares = [
        found.median_difference, found.p95_difference, found.median_regret, found.p95_regret
    ]  # fmt: skip
    columns = [">operators", ">difference median", ">p95", ">regret of the best median", ">p95"]
    rows = [[f"{found.pairs}", *(f"{100 * share:.1f} %" for share in shares)]]
    output().print(table("Two measurements of the same points", columns, rows))


def _print(found: Sequence[Quality], data: DataSet) -> None:
    caches = "/".join(f"{size // 1024}K" for size in asdict(data.host.caches).values())
    title = f"Held-out operators; measured on {data.host.cpu}, caches {caches}"
    columns = [
        "family", ">operators", ">points", ">rank correlation", ">regret median", ">p95",
        ">first point's", ">p95", ">speed over first, mean", ">median", ">error of time",
    ]  # fmt: skip
    output().print(table(title, columns, [_row(quality) for quality in found]))


def _row(q: Quality) -> list[str]:
    shares = [q.median_regret, q.p95_regret, q.first_median_regret, q.first_p95_regret]
    return [
        q.family, f"{q.problems}", f"{q.points}", f"{q.rank_correlation:.2f}",
        *(f"{100 * share:.1f} %" for share in shares),
        f"{q.mean_speedup:.2f}", f"{q.median_speedup:.2f}", f"{100 * q.median_error:.0f} %",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
