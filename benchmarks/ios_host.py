"""Stages on the host: kernels side by side against one after another.

Claim: with ``passes.schedule`` a model is never slower on the host, and faster where it has small
kernels that do not depend on each other.

    python -m motet.benchmarks.ios_host [--network NAME ...] [--seconds 1.0]
        [--bundles FOLDER] [--json]

A network is one of the zoo, as ``name`` or ``name@SIZE``, or an ONNX file. Both bundles are
compiled for 2 threads and take turns, run by run, on 2 threads and on one; a time is the fifth of
the runs that is quickest. 1.28: the stages take 1 / 1.28 of the time. Without forks the two are
the same program.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import onnx

import motet
from motet.benchmarks.command_help import help_of
from motet.benchmarks.zoo import registry
from motet.console import output, print_json, progress, seconds, table
from motet.runtime.bundle import Bundle, open_bundle
from motet.runtime.errors import MotetError
from motet.runtime.program import Fork

EXAMPLES = sorted(Path("examples/models").glob("*.onnx"))
ZOO = (
    "squeezenet@64", "squeezenet", "shufflenet_v2@64", "shufflenet_v2", "inception_v3@96",
    "inception_v3", "randwire@32", "nasnet_a_large@32", "densenet121@32", "mobilenet_v3_small@32",
)  # fmt: skip
NETWORKS = (*map(str, EXAMPLES), *ZOO)
COMPILED_FOR = 2
FASTEST_PART = 0.2
FEWEST_RUNS = 10


class Result(NamedTuple):
    """Seconds of a run by threads, one kernel after another and in stages."""

    network: str
    forks: int
    sequential: dict[int, float]
    stages: dict[int, float]

    def ratio(self, threads: int) -> float:
        """How many times as fast the stages are."""
        return self.sequential[threads] / self.stages[threads]

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data."""
        ratios = {threads: self.ratio(threads) for threads in self.stages}
        return {**self._asdict(), "ratios": ratios}


def kept(network: str, folder: Path, *, enabled: bool) -> Bundle:
    """The network's bundle in ``folder``, compiled where it is not there yet."""
    path = folder / f"{Path(network).stem}-{'stages' if enabled else 'sequential'}.motet"
    if not path.exists():
        compiled(network, enabled=enabled).save(path)
    return open_bundle(path)


def compiled(network: str, *, enabled: bool) -> Bundle:
    """A network for 2 threads; open sizes are 1."""
    wanted = f"passes.schedule.enabled={str(enabled).lower()}"
    settings = [f"host.threads={COMPILED_FOR}", wanted, "passes.schedule.merge=false"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(network)
        if path.suffix == ".onnx":
            model = onnx.load(path)
        else:
            name, at, size = network.partition("@")
            model = registry.build(name, at + size or None)
        for value in model.graph.input:
            for dim in value.type.tensor_type.shape.dim:
                dim.dim_value = dim.dim_value or 1
        onnx.save(model, Path(folder) / "model.onnx")
        return motet.compile(Path(folder) / "model.onnx", settings=settings)


def measured(network: str, allowed: float, folder: Path) -> Result:
    """Both bundles in turns, ``allowed`` seconds for each number of threads."""
    pair = [kept(network, folder, enabled=enabled) for enabled in (False, True)]
    (program,) = pair[1].programs.values()
    forks = sum(isinstance(step, Fork) for step in program.instructions)
    times: dict[int, list[float]] = {}
    for threads in (COMPILED_FOR, 1):
        sessions = [next(iter(motet.load(one, threads=threads).values())) for one in pair]
        times[threads] = in_turns(sessions, inputs_of(pair[0]), allowed)
    sequential, stages = ({n: both[side] for n, both in times.items()} for side in (0, 1))
    return Result(Path(network).stem, forks, sequential, stages)


def inputs_of(bundle: Bundle) -> dict[str, Any]:
    """Random inputs of the one model of a bundle."""
    (program,), rng = bundle.programs.values(), np.random.default_rng(0)
    return {
        info.name: rng.standard_normal([int(str(size)) for size in info.shape]).astype(info.dtype)
        for info in program.inputs
    }


def in_turns(sessions: Sequence[Any], inputs: dict[str, Any], allowed: float) -> list[float]:
    """A low quantile of the seconds of a run of each session."""
    taken: list[list[float]] = [[] for _ in sessions]
    end = time.perf_counter() + allowed
    while len(taken[0]) < FEWEST_RUNS or time.perf_counter() < end:
        for session, own in zip(sessions, taken, strict=True):
            started = time.perf_counter()
            session.run(None, inputs)
            own.append(time.perf_counter() - started)
    return [sorted(own)[int(len(own) * FASTEST_PART)] for own in taken]


@click.command(help=help_of(__doc__))
@click.option("--network", "networks", multiple=True, default=NETWORKS, metavar="NAME")
@click.option("--seconds", "allowed", default=1.0, show_default=True, help="Of each measurement.")
@click.option(
    "--bundles", type=click.Path(path_type=Path), help="Folder that keeps what is compiled."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(networks: Sequence[str], allowed: float, bundles: Path | None, as_json: bool) -> None:
    """Measure and print."""
    results = []
    try:
        with (
            tempfile.TemporaryDirectory() as made,
            progress("networks", len(networks), lines=True) as show,
        ):
            folder = bundles or Path(made)
            folder.mkdir(parents=True, exist_ok=True)
            for network in networks:
                results.append(measured(network, allowed, folder))
                show(network)
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json([result.to_dict() for result in results])
        return
    columns = ["network", ">forks"]
    for threads in (COMPILED_FOR, 1):
        name = f"{threads} thread{'s' * (threads > 1)}"
        columns += [f">in turn, {name}", ">in stages", ">times as fast"]
    rows = []
    for one in results:
        row = [one.network, str(one.forks)]
        for threads in (COMPILED_FOR, 1):
            row += [seconds(one.sequential[threads]), seconds(one.stages[threads])]
            row.append(f"{one.ratio(threads):.2f}")
        rows.append(row)
    output().print(table("One kernel after another and in stages, on the host", columns, rows))


if __name__ == "__main__":
    main()
