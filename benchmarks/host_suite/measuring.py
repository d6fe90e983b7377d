"""Measures one network: compiled, bounded, and timed in turns with its peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import motet
from motet.benchmarks.host_suite.engines import Contender, Times, take_turns
from motet.benchmarks.host_suite.limits import Limits
from motet.benchmarks.host_suite.networks import Network
from motet.benchmarks.host_suite.results import Result, Timing
from motet.runtime.device import Array
from motet.runtime.session import ModelSession
from motet.tensors import parse_shapes

FLOOR = 1e-3


@dataclass(frozen=True)
class Plan:
    """How to measure.

    openvino: the Python that has OpenVINO, None to leave it out. shapes: of open inputs, as
    ``--shape`` of ``motet compile`` has them; sizes that stay open are 1.
    compiled: take the bundles that are there.
    """

    turns: int
    turn_seconds: float
    openvino: str | None = None
    shapes: tuple[str, ...] = ()
    compiled: bool = False

    @property
    def engines(self) -> list[str]:
        """What runs, by the names of results."""
        return ["motet", "onnxruntime", *(["openvino"] if self.openvino else [])]


@dataclass(frozen=True)
class Prepared:
    """A network ready to measure: files, and what it computes and moves at least.

    in_fp32: of a network in 8 bits, what it was made from.
    """

    name: str
    model: Path
    bundle: Path
    inputs: Path
    macs: int
    bytes: int
    in_fp32: Path | None = None

    def contenders(self, plan: Plan) -> list[Contender]:
        """Motet and its peers."""
        found = [Contender("motet", self.bundle), Contender("onnxruntime", self.model)]
        if plan.openvino:
            found.append(Contender("openvino", self.model, plan.openvino))
        if self.in_fp32 is not None:
            found.append(Contender("onnxruntime", self.in_fp32, label="onnxruntime_fp32"))
        return found


def prepare(
    network: Network, folder: Path, shapes: tuple[str, ...] = (), compiled: bool = False
) -> Prepared:
    """Make the network's file where it is not there, and compile it.

    compiled: take the bundle of an earlier call in ``folder`` where there is one.
    """
    model = network.path(folder)
    bundle = folder / f"{model.stem}.motet"
    if not (compiled and bundle.exists()):
        motet.compile(model, shapes=parse_shapes(shapes)).save(bundle)
    (session,) = motet.load(bundle, threads=1).values()
    inputs = session.random_inputs()
    moved = model.stat().st_size + sum(array.nbytes for array in inputs.values())
    macs, written = _work(session)
    archive = folder / f"{model.stem}.npz"
    np.savez(archive, **inputs)  # type: ignore[arg-type]
    original = network.in_fp32.path(folder) if network.in_fp32 is not None else None
    return Prepared(network.name, model, bundle, archive, macs, moved + written, original)


def _work(session: ModelSession) -> tuple[int, int]:
    """Multiply-accumulates of a run, and bytes of its outputs."""
    with session.bound() as frame:
        frame.run()
        macs = sum(frame.macs(number) for number in range(len(session.program.operators)))
        return macs, sum(int(array.nbytes) for array in frame.outputs)


def measure(ready: Prepared, threads: int, limits: Limits, plan: Plan) -> Result:
    """Time the contenders with ``threads`` threads."""
    times, refused = take_turns(
        ready.contenders(plan), ready.inputs, threads, plan.turns, plan.turn_seconds
    )
    return Result(
        network=ready.name,
        threads=threads,
        macs=ready.macs,
        bytes=ready.bytes,
        flops_per_second=limits.flops_per_second,
        bytes_per_second=limits.bytes_per_second,
        limit_seconds=None if ready.in_fp32 else limits.seconds(ready.macs, ready.bytes),
        timings={name: Timing.of(one.settings, one.seconds) for name, one in times.items()},
        difference=_difference(times),
        refused=refused,
    )


def _difference(times: Mapping[str, Times]) -> float | None:
    """Of Motet and onnxruntime, where both ran."""
    if {"motet", "onnxruntime"} - times.keys():
        return None
    return difference(times["motet"].outputs, times["onnxruntime"].outputs)


def difference(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    """Largest of |ours - theirs| over the largest |theirs|, of all outputs; 0 of equal ones.

    An output below ``FLOOR`` counts as that large: rounding of what cancels is no difference.
    """
    found = [0.0]
    for one, other in zip(ours, theirs, strict=True):
        if other.size:
            exact = other.astype(np.float64)
            scale = max(float(np.abs(exact).max()), FLOOR)
            found.append(float(np.abs(one.astype(np.float64) - exact).max()) / scale)
    return max(found)
