"""What a schedule takes on an array, simulated, beside one operator after another.

Programs are made as a compilation makes them: once of the models as they are, once with the stages
pinned (convolutions that they merge, merged). What the host runs is not timed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace
from tvm import relax
from tvm.ir import GlobalVar

from motet.compiler.compile import CompileOptions, Transformed, transformed
from motet.compiler.kernels import ArrayPrograms, region_binding
from motet.compiler.open_sizes import Shapes, telling, with_shapes
from motet.compiler.spec import BundleSpec
from motet.passes.graph import bindings_of
from motet.passes.names import ARRAY, TARGET
from motet.passes.options import ScheduleOptions


@dataclass(frozen=True)
class Taken:
    """Cycles of a model's programs, one after another.

    estimated: by the costs that stages are chosen with inside a program, which know what stays on
    chip. simulated: by the timing view.
    """

    estimated: float
    simulated: int


@dataclass(frozen=True)
class Trial:
    """sequential: one operator after another. planned: the stages that were asked for."""

    sequential: Taken
    planned: Taken


def schedule_trials(
    spec: BundleSpec, stages: Path, assumed: Mapping[str, Shapes], options: CompileOptions
) -> dict[str, Trial]:
    """By model of ``spec``, which is for an array.

    stages: a file as ``motet schedule --json`` writes it. assumed: shapes for open sizes.

    Models of which nothing is on the array are left out. Raises what ``compile_bundle`` raises.
    """
    spec = with_shapes(spec, {one.name: assumed.get(one.name, {}) for one in spec.models})
    with telling(assumed):
        alone = _taken(_with(spec, ""), options, "one after another")
        planned = _taken(_with(spec, str(stages.resolve())), options, "in stages")
    return {name: Trial(alone[name], planned[name]) for name in alone}


def _with(spec: BundleSpec, file: str) -> BundleSpec:
    """``spec`` with the stages of ``file``, or with none."""
    passes = replace(spec.passes, schedule=ScheduleOptions(file=file))
    return replace(spec, passes=passes)


def _taken(spec: BundleSpec, options: CompileOptions, how: str) -> dict[str, Taken]:
    done = transformed(spec, options)
    found = {}
    for model in spec.models:
        options.progress(f"{model.name}: programs {how}")
        each = list(_regions(done, spec, model.name))
        if each:
            found[model.name] = Taken(
                sum(one.estimated for one in each), sum(one.simulated for one in each)
            )
    return found


def _regions(done: Transformed, spec: BundleSpec, model: str) -> Iterator[Taken]:
    """What each region of a model takes."""
    from motet.passes.scheduling.array_pinned import PINNED, schedule_pinned, simulated_sequential

    assert done.array is not None
    programs = ArrayPrograms(done.array, spec.array.format, pins=done.pins)
    for function in _on_array(done, model):
        workload = region_binding(done.module, function).workload
        asked = workload, done.array, spec.array.format
        pinned = programs.pinned(done.module, function, workload)
        if pinned is None:
            made = simulated_sequential(*asked)
        else:
            tried = schedule_pinned(*asked, pinned).candidates
            (made,) = (one for one in tried if one.name == PINNED)
        yield Taken(made.estimated, made.cycles)


def _on_array(done: Transformed, model: str) -> list[relax.Function]:
    """The regions that the entry function of a model calls."""
    called = [
        done.module[binding.value.op]
        for binding in bindings_of(done.module[model])
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, GlobalVar)
    ]
    return [function for function in called if function.attrs[TARGET] == ARRAY]
