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
BF16 = "motet_bf16"


@dataclass(frozen=True)
class Plan:
    """How to measure.

    openvino: the Python that has OpenVINO, None to leave it out. shapes: of open inputs, as
    ``--shape`` of ``motet compile`` has them; sizes that stay open are 1.
    compiled: take the bundles that are there. bf16: also Motet and OpenVINO in bf16.
    """

    turns: int
    turn_seconds: float
    openvino: str | None = None
    shapes: tuple[str, ...] = ()
    compiled: bool = False
    bf16: bool = False

    @property
    def engines(self) -> list[str]:
        """What runs, by the names of results."""
        ours = ["motet", "onnxruntime", *([BF16] if self.bf16 else [])]
        theirs = ["openvino", *(["openvino_bf16"] if self.bf16 else [])]
        return [*ours, *(theirs if self.openvino else [])]


@dataclass(frozen=True)
class Prepared:
    """A network ready to measure: files, and what it computes and moves at least.

    in_fp32: of a network in 8 bits, what it was made from. in_bf16: the bundle that computes
    in bf16, where that was asked for.
    """

    name: str
    model: Path
    bundle: Path
    inputs: Path
    macs: int
    bytes: int
    in_fp32: Path | None = None
    in_bf16: Path | None = None

    def contenders(self, plan: Plan) -> list[Contender]:
        """Motet and its peers."""
        found = [Contender("motet", self.bundle), Contender("onnxruntime", self.model)]
        if plan.openvino:
            found.append(Contender("openvino", self.model, plan.openvino))
        if self.in_bf16 is not None:
            found.append(Contender("motet", self.in_bf16, label=BF16))
        if self.in_bf16 is not None and plan.openvino:
            found.append(Contender("openvino", self.model, plan.openvino, "openvino_bf16", "bf16"))
        if self.in_fp32 is not None:
            found.append(Contender("onnxruntime", self.in_fp32, label="onnxruntime_fp32"))
        return found


def prepare(
    network: Network, folder: Path, shapes: tuple[str, ...] = (), compiled: bool = False,
    bf16: bool = False,
) -> Prepared:  # fmt: skip
    """Make the network's file where it is not there, and compile it.

    compiled: take the bundle of an earlier call in ``folder`` where there is one.
    """
    model = network.path(folder)
    bundle = _compiled(model, folder / f"{model.stem}.motet", shapes, compiled)
    in_bf16 = None
    if bf16:
        name = folder / f"{model.stem}-bf16.motet"
        in_bf16 = _compiled(model, name, shapes, compiled, ("host.compute=bf16",))
    (session,) = motet.load(bundle, threads=1).values()
    inputs = session.random_inputs()
    moved = model.stat().st_size + sum(array.nbytes for array in inputs.values())
    macs, written = _work(session)
    archive = folder / f"{model.stem}.npz"
    np.savez(archive, **inputs)  # type: ignore[arg-type]
    original = network.in_fp32.path(folder) if network.in_fp32 is not None else None
    return Prepared(network.name, model, bundle, archive, macs, moved + written, original, in_bf16)


def _compiled(
    model: Path, bundle: Path, shapes: tuple[str, ...], there: bool, settings: Sequence[str] = ()
) -> Path:
    """``bundle``, made unless it is ``there`` already and that will do."""
    if not (there and bundle.exists()):
        motet.compile(model, shapes=parse_shapes(shapes), settings=settings).save(bundle)
    return bundle


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
    differences = _differences(times)
    return Result(
        network=ready.name,
        threads=threads,
        macs=ready.macs,
        bytes=ready.bytes,
        flops_per_second=limits.flops_per_second,
        bytes_per_second=limits.bytes_per_second,
        limit_seconds=None if ready.in_fp32 else limits.seconds(ready.macs, ready.bytes),
        timings={name: Timing.of(one.settings, one.seconds) for name, one in times.items()},
        difference=differences.get("motet"),
        in_bf16={name: d for name, d in differences.items() if name.endswith("bf16")},
        refused=refused,
    )


def _differences(times: Mapping[str, Times]) -> dict[str, float]:
    """Of every engine from onnxruntime, where that ran."""
    if "onnxruntime" not in times:
        return {}
    judge = times["onnxruntime"].outputs
    return {name: difference(one.outputs, judge) for name, one in times.items()}


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
