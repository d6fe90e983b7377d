"""Whole networks with the schedules that the cost model chooses, beside the hand-written ones.

Claim: no network is slower by the model's choice than by hand.

    python -m motet.benchmarks.cost_model_networks resnet18.onnx vit_tiny.onnx --threads 1

Each network is compiled twice, and both run in turns in one process; the ratio is the
hand-written one's time over the other's, of the lower quartile of all runs. What ``motet tune``
measured on this machine is left aside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import motet
from motet.benchmarks.command_help import help_of
from motet.compiler.compile import CompileOptions
from motet.console import output, print_json, seconds, table
from motet.errors import MotetError
from motet.runtime.model import ModelSession
from motet.targets.host.choosing import choosing_by_hand

_PAUSE_SECONDS = 0.003
"""Threads of the session before stop spinning."""


@dataclass(frozen=True)
class Compared:
    """Seconds of a run, lower quartile of all."""

    network: str
    threads: int
    by_hand: float
    by_model: float

    @property
    def ratio(self) -> float:
        """How many times as fast the model's choice is."""
        return self.by_hand / self.by_model


def sessions(path: Path, threads: int) -> tuple[ModelSession, ModelSession]:
    """The network by hand, and by the model."""
    found = []
    for context in (choosing_by_hand(), nullcontext()):
        with context:
            bundle = motet.compile(
                path, settings=[f"host.threads={threads}"], options=CompileOptions(tuned=False)
            )
        (session,) = motet.load(bundle, threads=threads).values()
        found.append(session)
    return found[0], found[1]


def compared(path: Path, threads: int, duration: float) -> Compared:
    """Both run in turns for ``duration`` seconds."""
    pair = sessions(path, threads)
    inputs = pair[0].random_inputs()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.monotonic() + duration
    while time.monotonic() < end or len(times[0]) < 3:
        for session, own in zip(pair, times, strict=True):
            time.sleep(_PAUSE_SECONDS if threads > 1 else 0)
            own.append(_timed(session.run, inputs))
    by_hand, by_model = (float(np.quantile(own, 0.25)) for own in times)
    return Compared(path.stem, threads, by_hand, by_model)


def _timed(run: Callable[..., Any], inputs: Mapping[str, NDArray[Any]]) -> float:
    started = time.perf_counter()
    run(None, inputs)
    return time.perf_counter() - started


@click.command(help=help_of(__doc__))
@click.argument("networks", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--duration", default=5.0, show_default=True, type=click.FloatRange(0.01))
@click.option("--json", "as_json", is_flag=True)
def main(networks: tuple[Path, ...], threads: int, duration: float, as_json: bool) -> None:
    """Compile, measure and print."""
    try:
        found = [compared(path, threads, duration) for path in networks]
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json([asdict(one) | {"ratio": one.ratio} for one in found])
        return
    rows = [
        [one.network, seconds(one.by_hand), seconds(one.by_model), f"{one.ratio:.3f}"]
        for one in found
    ]
    columns = ["network", ">by hand", ">by the model", ">ratio"]
    output().print(table(f"Schedules chosen, {threads} thread(s)", columns, rows))


if __name__ == "__main__":
    main()
