"""Time one inference of ONNX models on this CPU: Motet beside onnxruntime.

Claim: on the host CPU, Motet is within 5x of onnxruntime on the examples.

    python -m motet.benchmarks.host_latency [MODEL.onnx ...] [--threads 2] [--json]
    python -m motet.benchmarks.host_latency --zoo shufflenet_v2 --zoo lstm@16
    python -m motet.benchmarks.host_latency --zoo all --threads 1 --threads 2

Without models: the examples, and what MOTET_MODELS holds. --zoo adds networks of the zoo,
NAME or NAME@SIZE, with random weights; all is every one, 1.5 GB of files, and takes many
minutes. Both engines run the same inputs with the same number of threads, each in a process
of its own, in turns; the ratio is of medians. Beside it stands the limit: the model's
arithmetic at the rate of numpy's fp32 matrix product (OpenBLAS, 1024 x 1024) in the same run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click
import onnx

import motet
from motet.benchmarks.zoo import registry
from motet.console import output, print_json, progress, seconds, table
from motet.errors import MotetError
from motet.tensors import parse_shapes

ENGINES = ("motet", "onnxruntime")


@dataclass(frozen=True)
class Result:
    """Median seconds of one inference; ``ratio`` is onnxruntime's over Motet's."""

    model: str
    threads: int
    macs: int
    motet_seconds: float
    onnxruntime_seconds: float
    limit_seconds: float

    @property
    def ratio(self) -> float:
        """Above 1 Motet is faster."""
        return self.onnxruntime_seconds / self.motet_seconds


def default_models() -> list[Path]:
    """The examples of a clone, and the models of the folder that MOTET_MODELS names."""
    folders = [Path("examples/models")]
    if os.environ.get("MOTET_MODELS"):
        folders.append(Path(os.environ["MOTET_MODELS"]))
    return [path for folder in folders for path in sorted(folder.glob("*.onnx"))]


def times(engine: str, bundle: Path, threads: int, duration: float) -> float:
    """Median seconds of ``engine`` in a fresh process."""
    command = [sys.executable, "-m", "motet.benchmarks.latency_worker", engine]
    command += [str(bundle), str(threads), str(duration)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    measured: list[float] = json.loads(done.stdout)
    return median(measured)


@contextmanager
def network(name: str) -> Iterator[Path]:
    """The file of a network of the zoo, NAME or NAME@SIZE, as long as it is looked at."""
    family, at, size = name.partition("@")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{family}.onnx"
        onnx.save(registry.build(family, at + size or None), path)
        yield path


def suite(models: Iterable[Path], networks: Iterable[str]) -> list[AbstractContextManager[Path]]:
    """Files that are there, and files that are made when their turn comes."""
    return [*(nullcontext(path) for path in models), *map(network, networks)]


def compare(
    path: Path, shapes: tuple[str, ...], rates: dict[int, float], rounds: int
) -> list[Result]:
    """Both engines on one model, in turns, with each number of threads.

    rates: fp32 MACs per second of the machine, by number of threads.
    """
    with tempfile.TemporaryDirectory() as folder:
        bundle = motet.compile(path, shapes=parse_shapes(shapes)).save(Path(folder) / "x.motet")
        (model,) = motet.load(bundle).values()
        macs = model.simulate().macs
        return [
            Result(path.stem, threads, macs, *_medians(bundle, threads, rounds), macs / rate)
            for threads, rate in rates.items()
        ]


def _medians(bundle: Path, threads: int, rounds: int) -> tuple[float, float]:
    """Median seconds of Motet and of onnxruntime."""
    found: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for _ in range(rounds):
        for engine in ENGINES:
            found[engine].append(times(engine, bundle, threads, 1.0))
    ours, theirs = (median(found[engine]) for engine in ENGINES)
    return ours, theirs


@click.command(help=__doc__)
@click.argument("models", nargs=-1, type=click.Path(path_type=Path))
@click.option("--zoo", "networks", multiple=True, metavar="NAME|all", help="Networks of the zoo.")
@click.option("--shape", "shapes", multiple=True, metavar="INPUT:1x3x224x224")
@click.option("--threads", multiple=True, default=(2,), show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    models: tuple[Path, ...],
    networks: tuple[str, ...],
    shapes: tuple[str, ...],
    threads: tuple[int, ...],
    rounds: int,
    as_json: bool,
) -> None:
    """Compare and print."""
    known = registry.families()
    names = tuple(known) if "all" in networks else networks
    for name in names:
        if name.partition("@")[0] not in known:
            raise click.UsageError(f"the zoo has no network {name!r}; it has {', '.join(known)}")
    files = suite(models or (() if names else tuple(default_models())), names)
    if not files:
        raise click.UsageError("no models found: name some, or run it in a clone")
    results, skipped = list[Result](), list[str]()
    with progress("host latency", total=len(files)) as show:
        rates = {number: 1024**3 / times("sgemm", Path(), number, 1.0) for number in threads}
        for file in files:
            try:
                with file as path:
                    show(path.name)
                    results += compare(path, shapes, rates, rounds)
            except MotetError as error:
                skipped.append(str(error))
    if as_json:
        print_json([asdict(result) | {"ratio": result.ratio} for result in results])
        return
    _print(results, rates)
    for line in skipped:
        output().print(f"skipped: {line}")


def _print(results: list[Result], rates: dict[int, float]) -> None:
    rows = [
        [r.model, str(r.threads), seconds(r.motet_seconds), seconds(r.onnxruntime_seconds),
         f"{r.ratio:.2f}", f"{100 * r.limit_seconds / r.motet_seconds:.0f} %"]
        for r in results
    ]  # fmt: skip
    columns = ["model", ">threads", ">Motet", ">onnxruntime", ">onnxruntime / Motet"]
    speeds = ", ".join(f"{2e-9 * rate:.0f} GFLOP/s" for rate in rates.values())
    title = f"One inference; numpy's sgemm: {speeds} with {', '.join(map(str, rates))} threads"
    output().print(table(title, [*columns, ">share of sgemm's rate"], rows))


if __name__ == "__main__":
    main()
