"""Code for units: host kernels and array programs, each distinct one made once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tvm import relax
from tvm_ffi import structural_equal, structural_hash

from motet.passes.names import KIND, ONNX_NODES, OP, UNIT_MARKS
from motet.runtime.errors import UnsupportedOperatorError
from motet.targets.host.lower_unit import LoweredUnit, lower_unit
from motet.targets.host.machine import Machine
from motet.targets.systolic.codegen import compile_layer
from motet.targets.systolic.description import ArrayDescription
from motet.targets.systolic.layers import Layer
from motet.targets.systolic.relax_layers import LayerBinding, layer_of


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
    """Lowers units for the host; structurally equal units share one kernel."""

    machine: Machine
    on_unit: Callable[[str], None] = lambda kind: None
    functions: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    requests: int = 0
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

    def raise_missing(self) -> None:
        """One ``UnsupportedOperatorError`` with every unit that has no kernel, if any."""
        if self.missing:
            raise UnsupportedOperatorError("; ".join(self.missing))

    def _lower(self, unit: relax.Function, constants: frozenset[int], kind: str) -> HostKernel:
        lowered = lower_unit(without_marks(unit), constants, self.machine)
        digest = hashlib.sha256(lowered.func.script(show_meta=True).encode()).hexdigest()
        name = re.sub(r"\W+", "_", kind)[:48]
        symbol = f"{name}_{digest[:16]}"
        self.functions[symbol] = lowered.func
        return HostKernel(symbol, lowered)


@dataclass
class ArrayPrograms:
    """Compiles units for the array; equal layers share one program."""

    description: ArrayDescription
    programs: dict[str, bytes] = field(default_factory=dict)
    _known: dict[Layer, str] = field(default_factory=dict)

    def program_for(self, unit: relax.Function) -> tuple[str, LayerBinding]:
        """The program's name, and which parameter feeds which operand."""
        binding = layer_of(unit)
        key = binding.layer
        if key not in self._known:
            data = compile_layer(binding.layer, self.description).encode()
            kind = type(binding.layer).__name__.lower()
            name = f"{kind}_{hashlib.sha256(data).hexdigest()[:16]}"
            self.programs[name] = data
            self._known[key] = name
        return self._known[key], binding
