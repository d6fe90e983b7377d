"""Collect measurements of host kernels, train the cost model, and say how well it chooses.

Claim: for operators that it has not seen, the point that the shipped model chooses is within
5 % of the best point's time in the median, and 15 % at the 95th percentile.

    python -m motet.benchmarks.cost_model collect --minutes 15 --threads 1 --out points.jsonl
    python -m motet.benchmarks.cost_model train points.jsonl
    python -m motet.benchmarks.cost_model report

collect measures every point of one operator after the other: layers of the zoo's networks and
made-up ones. It goes on where an earlier run with the same file stopped. train writes the data
set and the model that compiling uses into the package (--folder: elsewhere). report splits the
data set by operator in five parts (operators of one shape never in two), and judges each part
by a model of the other four. train and report need motet[tune].
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from motet.benchmarks.command_help import help_of
from motet.benchmarks.cost_model_problems import problems
from motet.console import output, print_json, progress, table, warn
from motet.targets.host.cost_model import dataset
from motet.targets.host.cost_model.dataset import DataSet, Host, read_lines, sample_line, this_host
from motet.targets.host.cost_model.learning import train as trained
from motet.targets.host.cost_model.measure import Candidates, Measurer
from motet.targets.host.cost_model.model import DATA_FILE, MODEL_FILE, shipped_data
from motet.targets.host.cost_model.report import Quality, is_worth_it, report
from motet.targets.host.families import families
from motet.targets.host.machine import native_machine
from motet.targets.host.space import Problem

_BATCH_KERNELS = 96
"""Kernels of one library: enough to keep all compiling processes busy."""
_HERE = Path(dataset.__file__).parent


def unmeasured(out: Path, wanted: Sequence[Problem], threads: int) -> list[Problem]:
    """What the file does not hold yet."""
    if not out.exists() or not out.stat().st_size:
        return list(wanted)
    known = {s.problem for s in read_lines(out).samples if s.threads == threads}
    return [problem for problem in wanted if problem not in known]


def batches(wanted: Sequence[Problem]) -> Iterator[list[Candidates]]:
    """Problems with all their points, as many as go well together."""
    machine, known = native_machine(), families()
    batch: list[Candidates] = []
    for problem in wanted:
        points = tuple(known[problem.family].points(problem, machine))
        batch.append(Candidates(problem, points))
        if sum(len(candidates.points) for candidates in batch) >= _BATCH_KERNELS:
            yield batch
            batch = []
    if batch:
        yield batch


def collect_into(out: Path, threads: int, minutes: float) -> int:
    """Measure for about ``minutes``; how many problems were added to the file."""
    machine, host = native_machine(), this_host()
    wanted = unmeasured(out, problems(machine.vector_bytes // 4), threads)
    end, added = time.monotonic() + 60 * minutes, 0
    with progress("collect", len(wanted)) as show, Measurer(machine, warn=warn) as measurer:
        for batch in batches(wanted):
            added += _measured(measurer, batch, threads, host, out)
            for candidates in batch:
                show(candidates.problem.key)
            if time.monotonic() > end:
                break
    return added


def _measured(
    measurer: Measurer, batch: list[Candidates], threads: int, host: Host, out: Path
) -> int:
    found = [sample for sample in measurer.measure(batch, threads) if sample is not None]
    with out.open("a", encoding="utf-8") as file:
        file.writelines(sample_line(host, sample) + "\n" for sample in found)
    return len(found)


def joined(paths: Sequence[Path]) -> DataSet:
    """The samples of several files of one computer."""
    sets = [read_lines(path) for path in paths]
    if len({data.host for data in sets}) != 1:
        raise click.UsageError("the files were measured on different computers: train on one's")
    return DataSet(sets[0].host, tuple(sample for data in sets for sample in data.samples))


@click.group(help=help_of(__doc__))
def main() -> None:
    """The command line."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--minutes", default=15.0, show_default=True)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
def collect(out: Path, minutes: float, threads: int) -> None:
    """Measure points of operators and add them to a file."""
    added = collect_into(out, threads, minutes)
    data = read_lines(out)
    output().print(f"{out}: {added} operators more, {len(data.samples)} with {data.rows} points")


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--folder", default=_HERE, show_default="the package", type=click.Path(path_type=Path)
)
def train(files: tuple[Path, ...], folder: Path) -> None:
    """Write the data set and the model from files of measurements.

    A family for which held-out operators are no quicker by the model than by hand is left out
    of the model; its kernels keep the hand-written choice.
    """
    data = joined(files)
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
    data = joined(files) if files else shipped_data()
    found = report(data, families())
    if as_json:
        print_json([asdict(quality) for quality in found])
        return
    _print(found, data)


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
