"""Code for units: host kernels and array programs, each distinct one made once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import IRModule, relax
from tvm_ffi import structural_equal, structural_hash

from motet.passes.names import KIND, ONNX_NODES, OP, UNIT_MARKS, WEIGHTS
from motet.passes.options import ScheduleOptions
from motet.runtime.errors import EnvironmentLackError, UnsupportedOperatorError
from motet.targets.host.lower_unit import LoweredUnit, lower_unit
from motet.targets.host.machine import Machine
from motet.targets.host.meta_schedule.kernel_store import OtherKernels, no_others
from motet.targets.host.options import KernelOptions
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.from_relax.workload import RegionBinding, workload_of
from motet.targets.systolic.workload.graph import Workload


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


@dataclass
class ArrayPrograms:
    """Compiles regions for the array; equal workloads share one program.

    Workloads are equal where they differ in the names of their steps alone. schedule: how
    operators that do not depend on each other share the pods. staged: of programs for which there
    were several ways, which was the fastest.
    """

    description: ArrayDescription
    number_format: str = "fp32"
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    on_region: Callable[[str], None] = lambda kind: None
    programs: dict[str, bytes] = field(default_factory=dict)
    staged: dict[str, str] = field(default_factory=dict)
    _known: dict[Workload, str] = field(default_factory=dict)

    def program_for(self, mod: IRModule, region: relax.Function) -> tuple[str, RegionBinding]:
        """The program's name, and how the region's parameters and results belong to it."""
        binding = region_binding(mod, region)
        key = _without_names(binding.workload)
        if key not in self._known:
            self._known[key] = self._compiled(binding.workload, str(region.attrs[KIND]))
        return self._known[key], binding

    def _compiled(self, workload: Workload, kind: str) -> str:
        self.on_region(kind)
        data, told = _array_code(workload, self.description, self.number_format, self.schedule)
        name = f"{_short(kind)}_{hashlib.sha256(data).hexdigest()[:16]}"
        self.programs[name] = data
        if told:
            self.staged[name] = told
        return name


def _array_code(
    workload: Workload, description: ArrayDescription, number_format: str, options: ScheduleOptions
) -> tuple[bytes, str]:
    """The encoded program, and how it was scheduled.

    What makes it needs numba, which the host does without.
    """
    try:
        from motet.passes.scheduling.array_stages import schedule_workload
        from motet.targets.systolic.instructions.encoding import encode
    except ImportError as error:
        if error.name != "numba":
            raise
        raise EnvironmentLackError(
            "compiling for an array needs the package 'numba': pip install 'motet[simulate]'"
        ) from error
    made = schedule_workload(workload, description, number_format, options=options)
    return encode(made.compiled.program), made.summary


def region_binding(mod: IRModule, region: relax.Function) -> RegionBinding:
    """The workload of a region of ``mod``, its steps called by their ONNX nodes."""
    weights = [int(index) for index in region.attrs.get(WEIGHTS, ())]
    return workload_of(region, lambda name: mod[name], step_name, weights)


def step_name(unit: relax.Function) -> str:
    """What reports and mapping files call the step that a unit is: its ONNX nodes."""
    return "+".join(str(name) for name in unit.attrs[ONNX_NODES])


def _without_names(workload: Workload) -> Workload:
    return replace(workload, steps=tuple(replace(step, name="") for step in workload.steps))


def _short(kind: str) -> str:
    """The start of a program's name."""
    return re.sub(r"\W+", "_", kind)[:48].rstrip("_")
