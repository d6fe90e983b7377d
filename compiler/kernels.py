"""Code for units: host kernels and array programs, each distinct one made once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import IRModule, relax
from tvm.ir import GlobalVar
from tvm_ffi import structural_equal, structural_hash

from motet.passes.graph import bindings_of
from motet.passes.names import KIND, ONNX_NODES, OP, UNIT_MARKS, WEIGHTS
from motet.passes.options import ScheduleOptions
from motet.passes.scheduling.pins import PinnedWorkload, Pins
from motet.runtime.errors import UnsupportedOperatorError
from motet.runtime.progress import Show, silent
from motet.targets.host.lower_unit import LoweredUnit, lower_unit
from motet.targets.host.machine import Machine
from motet.targets.host.meta_schedule.kernel_store import OtherKernels, no_others
from motet.targets.host.options import KernelOptions
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.from_relax.vector_sums import narrowed
from motet.targets.systolic.from_relax.workload import RegionBinding, workload_of
from motet.targets.systolic.workload.graph import Workload
from motet.targets.systolic.workload.join_parts import concatenation_of


def without_marks(unit: relax.Function) -> relax.Function:
    """The unit without what tells its call sites apart."""
    for mark in UNIT_MARKS:
        unit = unit.without_attr(mark)
    return unit


@dataclass(frozen=True)
class HostKernel:
    """A compiled unit under its symbol, and how its constant parameters are packed."""

    symbol: str
    lowered: LoweredUnit


@dataclass
class HostKernels:
    """Lowers units for the host; structurally equal units share one kernel.

    on_unit: told the kind of a unit before it is lowered. on_kernel: given symbol and
    scheduled kernel, so that it can be compiled while others are lowered. others: asked for a
    kernel of another source first.
    """

    machine: Machine
    options: KernelOptions = field(default_factory=KernelOptions)
    on_unit: Callable[[str], None] = lambda kind: None
    on_kernel: Callable[[str, Any], None] = lambda symbol, kernel: None
    functions: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    requests: int = 0
    others: OtherKernels = no_others
    others_used: int = 0
    _known: dict[int, list[tuple[relax.Function, frozenset[int], HostKernel]]] = field(
        default_factory=dict
    )

    def kernel_for(self, unit: relax.Function, constants: frozenset[int]) -> HostKernel:
        """The kernel of ``unit``, whose parameters ``constants`` are weights."""
        kind = str(unit.attrs[KIND])
        self.requests += 1
        bare = without_marks(unit)
        bucket = self._known.setdefault(int(structural_hash(bare)), [])
        for known, known_constants, kernel in bucket:
            if known_constants == constants and structural_equal(known, bare):
                return kernel
        self.on_unit(kind)
        kernel = self._try_to_lower(unit, constants, kind)
        bucket.append((bare, constants, kernel))
        return kernel

    def _try_to_lower(
        self, unit: relax.Function, constants: frozenset[int], kind: str
    ) -> HostKernel:
        """The kernel; where there is none, its operator goes on the list of the missing."""
        try:
            return self._lower(unit, constants, kind)
        except UnsupportedOperatorError as error:
            model = str(unit.attrs[OP]).partition("/")[0]
            nodes = ", ".join(str(name) for name in unit.attrs[ONNX_NODES])
            self.missing.append(f"model {model!r}, node {nodes}: {error}")
            return HostKernel("", LoweredUnit(None))

    @property
    def units(self) -> list[tuple[relax.Function, frozenset[int], HostKernel]]:
        """Every distinct unit without marks, its constant parameters and its kernel."""
        return [known for bucket in self._known.values() for known in bucket]

    def raise_missing(self) -> None:
        """One ``UnsupportedOperatorError`` with every unit that has no kernel, if any."""
        if self.missing:
            raise UnsupportedOperatorError("; ".join(self.missing))

    def _lower(self, unit: relax.Function, constants: frozenset[int], kind: str) -> HostKernel:
        bare = without_marks(unit)
        other = self.others(bare, constants, self.options)
        self.others_used += other is not None
        lowered = other or lower_unit(bare, constants, self.machine, self.options)
        digest = hashlib.sha256(lowered.func.script(show_meta=True).encode()).hexdigest()
        symbol = f"{_short(kind)}_{digest[:16]}"
        self.functions[symbol] = lowered.func
        self.on_kernel(symbol, lowered.func)
        return HostKernel(symbol, lowered)


@dataclass(frozen=True)
class ArrayCode:
    """data: an encoded program. told: how it was scheduled. cycles: asked for, simulated.

    warning: what the user should know of it.
    """

    data: bytes
    told: str
    cycles: Callable[[], int]
    warning: str = ""


Rehearsed = dict[Workload, ArrayCode]
"""Programs by their workloads, the names of steps left out."""


@dataclass
class ArrayPrograms:
    """Compiles regions for the array; equal workloads share one program.

    Workloads are equal where they differ in the names of their steps alone. schedule: how
    operators that do not depend on each other share the pods. staged: of programs for which there
    were several ways, which was the fastest. rehearsed: programs that passes made already.
    pins: stages by model, taken as they are. pods: the most that a model's programs use.
    workloads: by programs' names. warn: told of stages that were not looked for to the end.
    """

    description: ArrayDescription
    number_format: str = "fp32"
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    on_region: Callable[[str], None] = lambda kind: None
    programs: dict[str, bytes] = field(default_factory=dict)
    staged: dict[str, str] = field(default_factory=dict)
    rehearsed: Rehearsed = field(default_factory=dict)
    pins: Mapping[str, Pins] = field(default_factory=dict)
    pods: Mapping[str, int] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)
    warn: Show = silent
    _known: dict[tuple[Workload, PinnedWorkload | None, int | None], str] = field(
        default_factory=dict
    )

    def program_for(
        self, mod: IRModule, region: relax.Function, arguments: Sequence[relax.Expr] = ()
    ) -> tuple[str, RegionBinding]:
        """The program's name, and how the region's parameters and results belong to it.

        arguments: of the region's call: weights that are constants narrow the sums of vectors.
        """
        binding = narrowed(region_binding(mod, region), arguments)
        pinned = self.pinned(mod, region, binding.workload)
        pods = self.pods.get(_model_of(region))
        key = without_names(binding.workload), pinned, pods
        if key not in self._known:
            kind = str(region.attrs[KIND])
            self._known[key] = self._compiled(binding.workload, kind, pinned, pods)
        return self._known[key], binding

    def pinned(
        self, mod: IRModule, region: relax.Function, workload: Workload
    ) -> PinnedWorkload | None:
        """Where the steps of a region are wanted, if its model's stages are pinned."""
        pins = self.pins.get(_model_of(region))
        if pins is None:
            return None
        called = [b.value.op for b in bindings_of(region) if isinstance(b.value, relax.Call)]
        units = [region, *(mod[op] for op in called if isinstance(op, GlobalVar))]
        nodes = {step_name(unit): unit.attrs[ONNX_NODES] for unit in units}
        names = [step.name for step in workload.steps]
        units_of = (name if name in nodes else concatenation_of(name) for name in names)
        places = (pins.place_of(map(str, nodes[name])) for name in units_of)
        return PinnedWorkload(tuple(places), pins.stages)

    def _compiled(
        self, workload: Workload, kind: str, pinned: PinnedWorkload | None, pods: int | None
    ) -> str:
        self.on_region(kind)
        is_free = pinned is None and pods is None
        known = self.rehearsed.get(without_names(workload)) if is_free else None
        asked = workload, self.description, self.number_format, self.schedule, pinned, pods
        made = known or array_code(*asked)
        data, told = made.data, made.told
        name = f"{_short(kind)}_{hashlib.sha256(data).hexdigest()[:16]}"
        self.programs[name], self.workloads[name] = data, workload
        if told:
            self.staged[name] = told
        if made.warning:
            self.warn(f"array program {kind!r}: {made.warning}")
        return name


def array_code(
    workload: Workload,
    description: ArrayDescription,
    number_format: str,
    options: ScheduleOptions,
    pinned: PinnedWorkload | None = None,
    pods: int | None = None,
) -> ArrayCode:
    """The program of a workload; what makes it needs numba, which the host does without.

    pods: the most that it may use; pinned stages have theirs.
    """
    from motet.passes.scheduling.array_limited import compile_limited
    from motet.passes.scheduling.array_pinned import schedule_pinned
    from motet.passes.scheduling.array_stages import Scheduled, schedule_workload
    from motet.targets.systolic.instructions.encoding import encode
    from motet.targets.systolic.simulation.timing import simulate

    if pinned is None and pods is not None:
        made = Scheduled(compile_limited(workload, description, number_format, pods))
    elif pinned is None:
        made = schedule_workload(workload, description, number_format, options=options)
    else:
        made = schedule_pinned(workload, description, number_format, pinned)
    program, times = made.compiled.program, made.cycles.values()
    return ArrayCode(
        encode(program),
        made.summary,
        lambda: min(times) if times else simulate(program, description).cycles,
        made.warning,
    )


def _model_of(region: relax.Function) -> str:
    return str(region.attrs[OP]).partition("/")[0]


def region_binding(mod: IRModule, region: relax.Function) -> RegionBinding:
    """The workload of a region of ``mod``, its steps called by their ONNX nodes."""
    weights = [int(index) for index in region.attrs.get(WEIGHTS, ())]
    return workload_of(region, lambda name: mod[name], step_name, weights)


def step_name(unit: relax.Function) -> str:
    """What reports and mapping files call the step that a unit is: its ONNX nodes."""
    return "+".join(str(name) for name in unit.attrs[ONNX_NODES])


def without_names(workload: Workload) -> Workload:
    """``workload`` with steps of no name: equal for those whose programs are."""
    return replace(workload, steps=tuple(replace(step, name="") for step in workload.steps))


def _short(kind: str) -> str:
    """The start of a program's name."""
    return re.sub(r"\W+", "_", kind)[:48].rstrip("_")
