"""MobileNetV2-1.4 and its merged variants: what the pass makes of the original network, and costs.

Claims: with the activations of DepthShrinker's variants removed (Fu et al., ICML 2022), the pass
makes networks of the published multiply-accumulates, out of the trained network's own layers.

    python -m motet.benchmarks.depthshrinker [--array NAME] [--simulate] [--measure SECONDS]

MACs: of convolutions and the classifier, counted in the module behind the pass. MFLOPs: the
paper's convention, floor of MACs + 5 per output of a batch-norm; merged convolutions have none.
Latency is estimated on the host and on the array. ``--simulate`` also compiles each variant for
the array and simulates its program; ``--measure`` runs all on this CPU in turn for so many
seconds.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from math import floor, prod
from pathlib import Path
from typing import Any

import click
import numpy as np
from tvm import IRModule, relax

import motet
from motet.benchmarks.command_help import help_of
from motet.benchmarks.zoo import registry
from motet.compiler.frontend.load import load_model
from motet.console import output, print_json, table
from motet.opening import CompileRequest
from motet.passes.canonicalize import canonicalize
from motet.passes.decompose_batch_norm import is_inference_norm
from motet.passes.graph import bindings_of, definitions, static_shape
from motet.passes.macs import macs_of
from motet.passes.merge_depth import merge_depth
from motet.passes.merging.cost import SpanCosts
from motet.passes.options import MergeDepthOptions
from motet.passes.unit_cost import ArrayTarget, HostTarget, Target
from motet.runtime.errors import MotetError
from motet.simulation_input import work_of
from motet.targets.host.machine import machine_for
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.what_if import in_format

MODEL = "mobilenet_v2"
BLOCKS = range(1, 17)
"""Inverted residual blocks that can merge; 0 is the stem with a depthwise block behind."""


@dataclass(frozen=True)
class Variant:
    """kept: blocks that stay as they are. macs, mflops: published."""

    name: str
    kept: tuple[int, ...]
    macs: int
    mflops: int

    @property
    def removed(self) -> tuple[int, ...]:
        """Blocks that lose their activations and become one convolution."""
        return tuple(block for block in BLOCKS if block not in self.kept)


VARIANTS = (
    Variant("original", (*BLOCKS,), 582_195_824, 630),
    Variant("A", (3, 4, 6, 8, 10, 11, 13, 14, 15, 16), 496_216_112, 519),
    Variant("B", (3, 4, 10, 11, 13, 14, 15, 16), 481_868_912, 502),
    Variant("C", (3, 10, 11, 13, 14, 15, 16), 474_417_776, 492),
    Variant("F", (), 407_929_088, 415),
)
"""Table 3 of the paper; its MACs recomputed from the published definition of the network."""


@dataclass(frozen=True)
class Result:
    """A variant's figures; times in milliseconds, None where not asked for."""

    variant: str
    merged_blocks: tuple[int, ...]
    macs: int
    mflops: int
    parameters: int
    published_mflops: int
    host_estimated_ms: float
    array_estimated_ms: float
    array_simulated_ms: float | None = None
    host_minimum_ms: float | None = None
    host_median_ms: float | None = None


def merged_module(module: IRModule, variant: Variant) -> IRModule:
    """The canonical module with the variant's blocks merged, whatever they cost."""
    options = MergeDepthOptions(exact=False, remove_blocks=variant.removed)
    return merge_depth(options)(module)


def counts(module: IRModule) -> tuple[int, int, int]:
    """MACs, the paper's MFLOPs, and weights of products, of the one function of ``module``."""
    calls = [b.value for b in bindings_of(module[MODEL]) if isinstance(b.value, relax.Call)]
    macs = sum(int(macs_of(call).value) for call in calls)
    normed = sum(prod(static_shape(c.args[0]) or ()) for c in calls if is_inference_norm(c))
    weights = sum(prod(static_shape(c.args[1]) or ()) for c in calls if int(macs_of(c).value))
    return macs, floor((macs + 5 * normed) / 1e6), weights


def estimated(module: IRModule, target: Target) -> float:
    """Milliseconds of a run."""
    function = module[MODEL]
    return SpanCosts(target, definitions(function)).of_function(function) * 1e3


def settings_of(variant: Variant) -> tuple[str, ...]:
    """The keys of a specification that make a bundle of the variant."""
    blocks = ",".join(map(str, variant.removed))
    return ("passes.merge_depth.exact=false", f"passes.merge_depth.remove_blocks=[{blocks}]")


def simulated(path: Path, variant: Variant, array: str) -> float:
    """Milliseconds of a run on the simulated array."""
    work = work_of(str(path), CompileRequest(array, settings=settings_of(variant)))
    cycles = 0
    for stage in work.models[0].stages:
        if stage.workload is None:
            raise click.ClickException(f"{array} leaves {stage.op} to the host")
        workload, made = in_format(stage.workload, "fp32")
        program = compile_workload(workload, work.description, made).program
        cycles += simulate(program, work.description).cycles
    return work.description.seconds(float(cycles)) * 1e3


def measured(path: Path, variants: Sequence[Variant], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of runs on this CPU, the variants in turn."""
    image = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    times: dict[str, list[float]] = {variant.name: [] for variant in variants}
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(motet.load(motet.compile(path, settings=settings_of(v))))
            for v in variants
        ]
        for session in sessions:
            session.run(MODEL, {"image": image})
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for variant, session in zip(variants, sessions, strict=True):
                begin = time.perf_counter()
                session.run(MODEL, {"image": image})
                times[variant.name].append((time.perf_counter() - begin) * 1e3)
    return times


@contextmanager
def network() -> Iterator[Path]:
    """MobileNetV2-1.4 of the zoo in a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{MODEL}.onnx")
        path.write_bytes(registry.build(MODEL, "1.4").SerializeToString())
        yield path


def results(array: str, simulate_too: bool, seconds: float) -> list[Result]:
    """Figures of all variants."""
    host = HostTarget(machine := machine_for("native"), machine.cores)
    on_array = ArrayTarget(load_architecture(array), "fp32", host)
    with network() as path:
        module = canonicalize(load_model(path, MODEL).module)
        made = []
        for variant in VARIANTS:
            after = merged_module(module, variant)
            macs, mflops, weights = counts(after)
            result = Result(
                variant.name, variant.removed, macs, mflops, weights, variant.mflops,
                estimated(after, host), estimated(after, on_array),
            )  # fmt: skip
            if simulate_too:
                result = replace(result, array_simulated_ms=simulated(path, variant, array))
            made.append(result)
        times = measured(path, VARIANTS, seconds) if seconds else {}
    return [_with_times(result, times.get(result.variant, [])) for result in made]


def _with_times(result: Result, times: Sequence[float]) -> Result:
    if not times:
        return result
    return replace(
        result, host_minimum_ms=min(times), host_median_ms=float(np.median(np.asarray(times)))
    )


@click.command(help=help_of(__doc__))
@click.option("--array", default="edge-64x64", show_default=True)
@click.option("--simulate", "simulate_too", is_flag=True)
@click.option("--measure", "seconds", default=0.0, type=click.FloatRange(0))
@click.option("--json", "as_json", is_flag=True)
def main(array: str, simulate_too: bool, seconds: float, as_json: bool) -> None:
    """Count, estimate and print."""
    try:
        made = results(array, simulate_too, seconds)
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json([asdict(result) for result in made])
        return
    columns = [
        "variant", ">merged\nblocks", ">MACs (M)", ">MFLOPs", ">published", ">weights (M)",
        ">host,\nestimated", f">{array},\nestimated", f">{array},\nsimulated",
        ">host, least\n(median)",
    ]  # fmt: skip
    output().print(table("MobileNetV2-1.4", columns, [_row(result) for result in made]))


def _row(result: Result) -> list[Any]:
    simulated_ms, least = result.array_simulated_ms, result.host_minimum_ms
    return [
        result.variant,
        str(len(result.merged_blocks)),
        f"{result.macs / 1e6:.3f}",
        str(result.mflops),
        str(result.published_mflops),
        f"{result.parameters / 1e6:.2f}",
        f"{result.host_estimated_ms:.2f} ms",
        f"{result.array_estimated_ms:.2f} ms",
        "" if simulated_ms is None else f"{simulated_ms:.2f} ms",
        "" if least is None else f"{least:.2f} ({result.host_median_ms:.2f}) ms",
    ]


if __name__ == "__main__":
    main()
