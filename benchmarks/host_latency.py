"""Time one inference of ONNX models on this CPU: Motet beside onnxruntime.

Claim: on the host CPU, Motet is within 5x of onnxruntime on the examples.

    python -m motet.benchmarks.host_latency [MODEL.onnx ...] [--threads 2] [--json]

Without models: the examples, and what MOTET_MODELS holds. Both engines run the same
inputs with the same number of threads, each in a process of its own, in turns; the
ratio is of medians. Beside it stands the limit: the model's arithmetic at the rate of
numpy's fp32 matrix product (OpenBLAS, 1024 x 1024) in the same run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click

import motet
from motet.console import output, print_json, progress, seconds, table
from motet.errors import MotetError
from motet.tensors import parse_shapes

ENGINES = ("motet", "onnxruntime")


@dataclass(frozen=True)
class Result:
    """Median seconds of one inference; ``ratio`` is onnxruntime's over Motet's."""

    model: str
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


def compare(path: Path, shapes: tuple[str, ...], threads: int, rounds: int, rate: float) -> Result:
    """Both engines on one model, in turns. ``rate``: fp32 MACs per second of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = motet.compile(path, shapes=parse_shapes(shapes)).save(Path(folder) / "x.motet")
        (model,) = motet.load(bundle).values()
        macs = model.simulate().macs
        found: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for _ in range(rounds):
            for engine in ENGINES:
                found[engine].append(times(engine, bundle, threads, 1.0))
    ours, theirs = (median(found[engine]) for engine in ENGINES)
    return Result(path.stem, macs, ours, theirs, macs / rate)


@click.command(help=__doc__)
@click.argument("models", nargs=-1, type=click.Path(path_type=Path))
@click.option("--shape", "shapes", multiple=True, metavar="INPUT:1x3x224x224")
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    models: tuple[Path, ...], shapes: tuple[str, ...], threads: int, rounds: int, as_json: bool
) -> None:
    """Compare and print."""
    models = models or tuple(default_models())
    if not models:
        raise click.UsageError("no models found: name some, or run it in a clone")
    results, skipped = [], list[str]()
    with progress("host latency") as show:
        rate = 1024**3 / times("sgemm", Path(), threads, 1.0)
        for path in models:
            show(path.name)
            try:
                results.append(compare(path, shapes, threads, rounds, rate))
            except MotetError as error:
                skipped.append(str(error))
    if as_json:
        print_json([asdict(result) | {"ratio": result.ratio} for result in results])
        return
    rows = [
        [r.model, seconds(r.motet_seconds), seconds(r.onnxruntime_seconds), f"{r.ratio:.2f}",
         f"{100 * r.limit_seconds / r.motet_seconds:.0f} %"]
        for r in results
    ]  # fmt: skip
    columns = ["model", ">Motet", ">onnxruntime", ">onnxruntime / Motet", ">share of sgemm's rate"]
    title = f"One inference, {threads} threads; numpy's sgemm: {2e-9 * rate:.0f} GFLOP/s"
    output().print(table(title, columns, rows))
    for line in skipped:
        output().print(f"skipped: {line}")


if __name__ == "__main__":
    main()
