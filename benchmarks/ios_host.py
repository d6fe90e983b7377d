"""Stages on the host: kernels side by side against one after another.

Claim: with ``passes.schedule`` a model is never slower on the host, and faster where it has small
kernels that do not depend on each other.

    python -m motet.benchmarks.ios_host --bundles FOLDER --prepare
    python -m motet.benchmarks.ios_host --bundles FOLDER [--network NAME ...] [--seconds 4]
        [--again] [--json]

A network is one of the zoo, as ``name`` or ``name@SIZE``, or an ONNX file. Both bundles are
compiled for 2 threads and take turns, run by run, in changing order, on 2 threads and on one.
A ratio is that of two runs that follow each other; what is printed is their median, and the
interval in which that of all such runs lies with 95 % (by order statistics, whatever their
distribution). 1.28: one kernel after another takes 1.28 times as long. Where scheduling changed
nothing the two are the same program, and nothing is measured.

``--prepare`` compiles into FOLDER and measures nothing, so that measuring has the machine to
itself. What was measured is kept there too: a run that was broken off goes on with the next
network, ``--again`` measures all anew.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

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
from motet.runtime.progress import Show

EXAMPLES = sorted(Path("examples/models").glob("*.onnx"))
ZOO = (
    "inception_v3", "squeezenet", "randwire", "nasnet_a_large", "densenet121", "shufflenet_v2",
    "mobilenet_v3_small", "inception_v3@96", "squeezenet@64", "shufflenet_v2@64", "randwire@32",
    "nasnet_a_large@32", "densenet121@32", "mobilenet_v3_small@32",
)  # fmt: skip
NETWORKS = (*map(str, EXAMPLES), *ZOO)
COMPILED_FOR = 2
FEWEST_PAIRS = 12
SURE = 1.96
"""Standard deviations of a normal distribution that hold 95 % of it."""


@dataclass(frozen=True)
class Ratio:
    """Times as fast as one kernel after another: the median of pairs of runs, and its interval.

    seconds: medians of a run, one kernel after another and in stages.
    """

    median: float
    low: float
    high: float
    pairs: int
    seconds: tuple[float, float]

    @property
    def text(self) -> str:
        """``1.28 (1.25 to 1.31)``"""
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Result:
    """Of a network; ratios: by threads, none where both bundles are the same program."""

    network: str
    forks: int
    ratios: dict[str, Ratio]

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Result:
        """What ``asdict`` made, read back."""
        ratios = {
            threads: Ratio(**{**one, "seconds": tuple(one["seconds"])})
            for threads, one in facts["ratios"].items()
        }
        return cls(facts["network"], facts["forks"], ratios)


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
    ratios = {}
    if not same(*pair):
        inputs = inputs_of(pair[0])
        for threads in (COMPILED_FOR, 1):
            sessions = [next(iter(motet.load(one, threads=threads).values())) for one in pair]
            ratios[str(threads)] = ratio_of(in_turns(sessions, inputs, allowed))
    return Result(Path(network).stem, forks, ratios)


def same(one: Bundle, other: Bundle) -> bool:
    """Whether two bundles run the same instructions on the same kernels."""
    return one.programs == other.programs and bytes(one.kernels) == bytes(other.kernels)


def inputs_of(bundle: Bundle) -> dict[str, Any]:
    """Random inputs of the one model of a bundle."""
    (program,), rng = bundle.programs.values(), np.random.default_rng(0)
    return {
        info.name: rng.standard_normal([int(str(size)) for size in info.shape]).astype(info.dtype)
        for info in program.inputs
    }


def in_turns(
    sessions: Sequence[Any], inputs: dict[str, Any], allowed: float
) -> list[tuple[float, ...]]:
    """Seconds of a run of each session, pair by pair; every other pair in the other order."""
    for session in sessions:
        session.run(None, inputs)
    pairs: list[tuple[float, ...]] = []
    end = time.perf_counter() + allowed
    while len(pairs) < FEWEST_PAIRS or time.perf_counter() < end:
        taken = [0.0] * len(sessions)
        order = range(len(sessions))
        for place in order if len(pairs) % 2 else reversed(order):
            started = time.perf_counter()
            sessions[place].run(None, inputs)
            taken[place] = time.perf_counter() - started
        pairs.append(tuple(taken))
    return pairs


def ratio_of(pairs: Sequence[tuple[float, ...]]) -> Ratio:
    """The median of the pairs' ratios, and the order statistics that hold it with 95 %."""
    ratios = sorted(one / other for one, other in pairs)
    count = len(ratios)
    reach = SURE * count**0.5 / 2
    low, high = int(count / 2 - reach), int(np.ceil(count / 2 + reach))
    medians = [float(np.median(side)) for side in zip(*pairs, strict=True)]
    return Ratio(
        float(np.median(ratios)),
        ratios[max(0, low)],
        ratios[min(count - 1, high)],
        count,
        (medians[0], medians[1]),
    )


class Notes:
    """Results in a folder, network by network."""

    def __init__(self, folder: Path, again: bool) -> None:
        self._path = folder / "ios_host.json"
        is_there = self._path.exists() and not again
        self.known: dict[str, Any] = json.loads(self._path.read_text()) if is_there else {}

    def result(self, network: str, make: Callable[[], Result]) -> Result:
        """What is noted of a network, or made and noted."""
        if network not in self.known:
            self.known[network] = asdict(make())
            self._path.write_text(json.dumps(self.known, indent=1))
        return Result.of(self.known[network])


def prepare(networks: Sequence[str], folder: Path, show: Show) -> None:
    """Compile what is not there yet, and say which networks have stages."""
    for network in networks:
        pair = [kept(network, folder, enabled=enabled) for enabled in (False, True)]
        show(f"{network}: {'the same program' if same(*pair) else 'stages'}")


def measure(
    networks: Sequence[str], folder: Path, allowed: float, again: bool, show: Show
) -> list[Result]:
    """All networks that ``folder`` has no notes of."""
    notes, results = Notes(folder, again), []
    for network in networks:
        results.append(notes.result(network, partial(measured, network, allowed, folder)))
        show(network)
    return results


@click.command(help=help_of(__doc__))
@click.option("--network", "networks", multiple=True, default=NETWORKS, metavar="NAME")
@click.option("--seconds", "allowed", default=4.0, show_default=True, help="Of each measurement.")
@click.option(
    "--bundles",
    type=click.Path(path_type=Path),
    help="Folder that keeps what is compiled and measured.",
)
@click.option("--prepare", "only_prepare", is_flag=True, help="Compile, and measure nothing.")
@click.option("--again", is_flag=True, help="Measure what was measured already.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    networks: Sequence[str],
    allowed: float,
    bundles: Path | None,
    only_prepare: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Measure and print."""
    if only_prepare and bundles is None:
        raise click.UsageError("--prepare needs a folder: give --bundles FOLDER")
    with ExitStack() as stack:
        folder = bundles or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        show = stack.enter_context(progress("networks", len(networks), lines=True))
        try:
            if only_prepare:
                prepare(networks, folder, show)
                return
            results = measure(networks, folder, allowed, again, show)
        except MotetError as error:
            raise click.ClickException(str(error)) from error
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        _print(results)


def _print(results: Sequence[Result]) -> None:
    counts = [str(COMPILED_FOR), "1"]
    columns = ["network", ">forks", ">one after another, 2 threads", ">in stages"]
    columns += [f">times as fast, {n} thread{'s' * (n != '1')}" for n in counts]
    rows = []
    for one in results:
        if not one.ratios:
            rows.append([one.network, str(one.forks), "the same program", "", "", ""])
            continue
        times = [seconds(each) for each in one.ratios[counts[0]].seconds]
        ratios = [one.ratios[n].text for n in counts]
        rows.append([one.network, str(one.forks), *times, *ratios])
    output().print(table("One kernel after another and in stages, on the host", columns, rows))


if __name__ == "__main__":
    main()
