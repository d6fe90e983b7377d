"""Several models on one CPU: Motet's ``submit`` against one after another, and against onnxruntime.

    python -m motet.benchmarks.together [--rounds 7] [--seconds 2] [--factor 1] [--json FILE]

The camera's four networks (``benchmarks.camera``; real ones from the folder that MOTET_MODELS
names, else like-sized ones of the zoo), each way in a process of its own. In every round each way
has its turn, in alternating order: a batch, whose frames are all there from the start (throughput),
and an open loop at ``--factor`` times the camera's rates (latency). Figures are medians over
rounds, and medians of the ratios to ``submit`` in the same round. 7 rounds take about 90 s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from statistics import median

import click
import msgspec
import numpy as np

from motet.benchmarks.camera.contenders import SERIAL
from motet.benchmarks.camera.models import Camera, prepare
from motet.benchmarks.camera.processes import Contender, Served
from motet.benchmarks.command_help import help_of
from motet.console import messages, output, seconds, table
from motet.errors import MotetError

SUBMIT = Contender("motet, submit", "motet", "submit", 1, workers=2)
WAYS = (
    SUBMIT,
    SERIAL,
    Contender("onnxruntime, sessions in parallel, as they come", "onnxruntime", "own", None),
    Contender("onnxruntime, sessions in parallel, a thread each", "onnxruntime", "own", 1),
    Contender("onnxruntime, one after another", "onnxruntime", "queue", 2, workers=1),
)
BATCH_SECONDS = 0.4
"""A batch holds the frames of so long, at factor 1."""


@dataclass(frozen=True)
class Turn:
    """One way's: frames a second of a batch; of the open loop p99 over all frames, and misses."""

    frames_per_second: float
    p99_seconds: float
    late: int
    frames: int


@dataclass(frozen=True)
class Way:
    """Medians over all turns; times: throughput of ``submit`` over its own, p99 of its over that of
    ``submit``: above 1 ``submit`` is better.
    """

    name: str
    settings: str
    frames_per_second: float
    throughput_ratio: float
    p99_seconds: float
    p99_ratio: float
    late: int
    frames: int


def turn(served: Served, camera: Camera, factor: float, length: float) -> Turn:
    """A batch and an open loop."""
    batch = [round(rate * BATCH_SECONDS) for rate in camera.rates_hz.values()]
    taken = served.batch(batch)
    found = served.trial(factor, length, 10**9)
    latencies = list(chain.from_iterable(found.latencies))
    p99 = float(np.quantile(latencies, 0.99))
    return Turn(sum(batch) / taken, p99, sum(found.late), len(latencies))


def measure(
    camera: Camera, ways: Sequence[Contender], rounds: int, factor: float, length: float
) -> list[Way]:
    """All ways in turns; the first of ``ways`` is what the others are compared with."""
    turns: dict[str, list[Turn]] = {way.group: [] for way in ways}
    with ExitStack() as stack:
        serving = {way.group: stack.enter_context(Served(way, camera)) for way in ways}
        for number in range(rounds):
            order = list(serving.items())
            for name, served in order if number % 2 == 0 else reversed(order):
                turns[name].append(turn(served, camera, factor, length))
            messages().print(f"round {number + 1} of {rounds}")
        settings = {name: served.settings for name, served in serving.items()}
    return compared(turns, settings)


def compared(turns: Mapping[str, Sequence[Turn]], settings: Mapping[str, str]) -> list[Way]:
    """Medians, and ratios to the first."""
    first = next(iter(turns.values()))
    return [
        Way(
            name, settings[name],
            median(one.frames_per_second for one in own),
            median(a.frames_per_second / b.frames_per_second
                   for a, b in zip(first, own, strict=True)),
            median(one.p99_seconds for one in own),
            median(b.p99_seconds / a.p99_seconds for a, b in zip(first, own, strict=True)),
            sum(one.late for one in own), sum(one.frames for one in own),
        )
        for name, own in turns.items()
    ]  # fmt: skip


def print_ways(found: Sequence[Way], factor: float) -> None:
    """A row for each way."""
    columns = ["way", ">frames/s, a batch", ">submit is faster", f">p99 at factor {factor:g}",
               ">submit's is less", ">late", "settings"]  # fmt: skip
    rows = [
        [one.name, f"{one.frames_per_second:.0f}", f"{one.throughput_ratio:.2f}",
         seconds(one.p99_seconds), f"{one.p99_ratio:.2f}", f"{one.late} of {one.frames}",
         one.settings]
        for one in found
    ]  # fmt: skip
    output().print(table("The camera's models together", columns, rows))


@click.command(help=help_of(__doc__))
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option("--seconds", "length", default=2.0, show_default=True, type=click.FloatRange(0.1),
              help="Of an open loop.")  # fmt: skip
@click.option("--factor", default=1.0, show_default=True, type=click.FloatRange(0.01))
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE")
def main(rounds: int, length: float, factor: float, json_path: Path | None) -> None:
    """Prepare, measure and print."""
    try:
        with tempfile.TemporaryDirectory() as place:
            camera = prepare(Path(place))
            found = measure(camera, WAYS, rounds, factor, length)
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    if json_path:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode([asdict(o) for o in found])))
    print_ways(found, factor)


if __name__ == "__main__":
    main()
