"""What ``session.submit`` costs: a burst of submitted runs against as many calls of ``run``.

    python -m motet.benchmarks.submit_overhead [--threads 1] [--threads 2] [--bursts 60] [--json]
    python -m motet.benchmarks.submit_overhead --model MODEL.onnx --runs 30

Claim: a burst of runs of some milliseconds takes less than 5 % longer. Networks are those of
``examples/`` (0.1 to 0.2 ms a run, where every microsecond shows) and two of the zoo. Both ways
take turns, ``--bursts`` times, so that what else the machine does meets both; the figure is the
median of the ratios of neighbours. One worker with all ``threads``: as many kernels at once as
``run`` has. CPU time of both threads says where the rest goes, also on a busy machine.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

import motet
from motet.api import compile as compile_bundle
from motet.benchmarks.command_help import help_of
from motet.benchmarks.examples import examples
from motet.benchmarks.zoo import registry
from motet.console import messages, output, print_json, seconds, table

ZOO = (("mobilenet_v1", "0.5"), ("mobilenet_v2", "@128"))
WARM_UP = 3
LOW = 0.1
"""Quantile of times that stands for an undisturbed machine."""


@dataclass(frozen=True)
class Cost:
    """Of a network on ``threads``, in seconds of one run of a burst, low quantiles.

    run_seconds, submit_seconds: by ``run``, by ``submit``; ratio: the median of theirs.
    alone_seconds: one ``submit`` and its result, the worker asleep before. caller_cpu_seconds: of
    the submitting thread. worker_cpu_seconds: of the worker, beyond those of a thread that calls
    ``run``.
    """

    network: str
    threads: int
    runs: int
    run_seconds: float
    submit_seconds: float
    ratio: float
    alone_seconds: float
    caller_cpu_seconds: float
    worker_cpu_seconds: float


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and of the CPU by the calling thread and by the worker."""

    seconds: float
    caller: float
    worker: float


def spent(call: Callable[[], Any], worker: int) -> Spent:
    """What ``call`` takes; ``worker``: the clock of the worker's CPU time."""
    began = time.perf_counter(), time.thread_time(), time.clock_gettime(worker)
    call()
    caller, other = time.thread_time(), time.clock_gettime(worker)
    return Spent(time.perf_counter() - began[0], caller - began[1], other - began[2])


def clock_of_the_worker() -> int:
    """The clock of the CPU time that the only worker of this process spends."""
    [worker] = [one for one in threading.enumerate() if one.name.startswith("motet-worker")]
    assert worker.ident is not None
    return time.pthread_getcpuclockid(worker.ident)


def low(times: list[float]) -> float:
    """The ``LOW`` quantile."""
    return sorted(times)[int(LOW * len(times))]


def measured(name: str, bundle: Path, threads: int, runs: int, bursts: int) -> Cost:
    """Both ways in turns."""
    with motet.load(bundle, threads=threads) as session:
        session.configure(workers=1, queue_size=runs)
        [model] = session
        inputs = session[model].random_inputs()

        def one_by_one() -> None:
            for _ in range(runs):
                session.run(model, inputs)

        def submitted() -> None:
            futures = [session.submit(model, inputs) for _ in range(runs)]
            for future in futures:
                future.result()

        for _ in range(WARM_UP):
            one_by_one()
            submitted()
        clock = clock_of_the_worker()
        pairs = [(spent(one_by_one, clock), spent(submitted, clock)) for _ in range(bursts)]
        alone = [spent(lambda: session.submit(model, inputs).result(), clock) for _ in pairs]
    return Cost(
        name, threads, runs,
        low([one.seconds for one, _ in pairs]) / runs,
        low([other.seconds for _, other in pairs]) / runs,
        median(other.seconds / one.seconds for one, other in pairs),
        low([one.seconds for one in alone]),
        low([other.caller for _, other in pairs]) / runs,
        (low([other.worker for _, other in pairs]) - low([one.caller for one, _ in pairs])) / runs,
    )  # fmt: skip


def networks(folder: Path, models: tuple[Path, ...]) -> dict[str, Path]:
    """ONNX files by name: those given, else the examples' and the zoo's."""
    files = list(models) or sorted((examples() / "models").glob("*.onnx"))
    found = {file.stem: file for file in files}
    for family, variant in () if models else ZOO:
        path = folder / f"{family}.onnx"
        made = registry.build(family, variant)
        path.write_bytes(made.SerializeToString(deterministic=True))
        found[f"{family} {variant}"] = path
    return found


def print_costs(found: list[Cost]) -> None:
    """A row for each network and number of threads."""
    columns = ["network", ">threads", ">run", ">submit, in a burst", ">ratio", ">submit, alone",
               ">caller's CPU", ">worker's, beyond run"]  # fmt: skip
    rows = [
        [one.network, str(one.threads), seconds(one.run_seconds), seconds(one.submit_seconds),
         f"{one.ratio:.3f}", seconds(one.alone_seconds),
         *(f"{1e6 * cpu:.0f} us" for cpu in (one.caller_cpu_seconds, one.worker_cpu_seconds))]
        for one in found
    ]  # fmt: skip
    output().print(table(f"Bursts of {found[0].runs} runs", columns, rows))


@click.command(help=help_of(__doc__))
@click.option("--model", "models", multiple=True, metavar="MODEL.onnx",
              type=click.Path(exists=True, dir_okay=False, path_type=Path))  # fmt: skip
@click.option("--threads", multiple=True, type=click.IntRange(1), default=(1, 2), show_default=True)
@click.option("--runs", default=30, show_default=True, type=click.IntRange(1), help="Of a burst.")
@click.option("--bursts", default=60, show_default=True, type=click.IntRange(3))
@click.option("--json", "as_json", is_flag=True)
def main(
    models: tuple[Path, ...], threads: tuple[int, ...], runs: int, bursts: int, as_json: bool
) -> None:
    """Compile the networks, then measure."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        bundles = {}
        for name, file in networks(Path(place), models).items():
            messages().print(f"compile {name}")
            bundles[name] = Path(place) / f"{file.stem}.motet"
            compile_bundle(file).save(bundles[name])
        for count in threads:
            found += [measured(n, bundle, count, runs, bursts) for n, bundle in bundles.items()]
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_costs(found)


if __name__ == "__main__":
    main()
