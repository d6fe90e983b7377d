"""What a unit is on an array: workloads of the calls that the array takes, and calls left over.

The unit is looked at alone, as if all that it reads lay in DRAM: each call that the array does
not refuse is placed there, calls are fused as in a compilation, and units that follow each other
there become one workload, whose values stay on chip where they fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import IRModule, relax, transform
from tvm.ir import GlobalVar

from motet.passes.contiguous import CONCAT, needs_no_kernel, run_offsets
from motet.passes.copying import with_own_variables
from motet.passes.fuse import fuse
from motet.passes.graph import bindings_of, map_functions, variables_in
from motet.passes.names import ARRAY, ONNX_NODES, TARGET, WEIGHTS, names_of, with_names
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.passes.options import RegionsOptions
from motet.passes.regions import regions
from motet.passes.rewrite import Rewriter
from motet.passes.split_to_slices import split_to_slices
from motet.passes.typing import with_type
from motet.passes.units import CallKey, Unit
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.from_relax.rules import accepts_epilogue, refusal
from motet.targets.systolic.from_relax.workload import workload_of
from motet.targets.systolic.instructions.program import Element, Role
from motet.targets.systolic.workload.graph import Workload

_ENTRY = "unit"
VECTOR_BYTES = 4
"""Of a bias or a scale."""


@dataclass(frozen=True)
class UnitWork:
    """A unit's work on an array, in order, and what the host does of it.

    is_on_array: whether there are calls of it there, be it without work: written into place.
    """

    workloads: tuple[Workload, ...]
    on_host: tuple[relax.Binding, ...]
    is_on_array: bool = True

    def dram_bytes(self, number_format: str) -> int:
        """Bytes of all that the workloads read and write from outside, each once."""
        word = FORMATS[number_format].bits / 8
        tensors = [t for workload in self.workloads for t in workload.tensors]
        return math.ceil(
            sum(
                tensor.elements * (word if tensor.element is Element.WORD else VECTOR_BYTES)
                for tensor in tensors
                if tensor.role is not Role.INTERNAL
            )
        )


def work_of_unit(unit: Unit, description: ArrayDescription, number_format: str) -> UnitWork:
    """``unit`` on an array, ``number_format`` being the array's.

    A concatenation of what lies side by side is no work: its operands are written into place.
    """
    bindings = written_into_place(unit.bindings)
    marker = _Marker(description, number_format, unit.kept_on_host)
    if not bindings:
        return UnitWork((), (), any(map(marker.takes, calls_of(unit.bindings))))
    module = IRModule({_ENTRY: function_of(bindings)})
    for step in _steps(marker):
        module = step(module)
    values = {binding.var: binding.value for binding in bindings_of(module[_ENTRY])}
    workloads, on_host = list[Workload](), list[relax.Binding]()
    for value in values.values():
        if not isinstance(value, relax.Call) or not isinstance(value.op, GlobalVar):
            continue
        function = module[value.op]
        if function.attrs[TARGET] == ARRAY:
            workloads.append(_workload(module, function))
        else:
            on_host += _kernels(function)
    return UnitWork(tuple(workloads), tuple(on_host), bool(workloads))


def calls_of(bindings: Sequence[relax.Binding]) -> list[relax.Call]:
    """What is computed in ``bindings``: their calls but for views."""
    values = (binding.value for binding in bindings)
    return [v for v in values if isinstance(v, relax.Call) and kind_of(v) is not Kind.VIEW]


def written_into_place(bindings: Sequence[relax.Binding]) -> Sequence[relax.Binding]:
    """``bindings`` without a concatenation at their end whose operands are its runs of bytes.

    Other units, which compute the operands, write them there.
    """
    *before, last = bindings
    if op_name(last.value) != CONCAT or run_offsets(last.value) is None:
        return bindings
    computed = {binding.var for binding in before}
    made = [v for v in dict.fromkeys(variables_in(last.value)) if v in computed]
    if not made:
        return []
    parts = relax.BlockBuilder().normalize(relax.Tuple(made))
    return [*before, relax.VarBinding(relax.Var("parts", parts.ty), parts)]


def function_of(bindings: Sequence[relax.Binding]) -> relax.Function:
    """A function of what ``bindings`` read that gives the last of them; constants stay inside."""
    known = {binding.var for binding in bindings}
    read = dict.fromkeys(v for binding in bindings for v in variables_in(binding.value))
    params = {v: relax.Var(f"p{i}", v.ty) for i, v in enumerate(read) if v not in known}
    last = bindings[-1]
    result = relax.Var("result", last.var.ty)
    block = relax.DataflowBlock([*bindings[:-1], relax.VarBinding(result, last.value)])
    body = with_type(relax.SeqExpr([block], result), result.ty)
    renamed = _Renamer(params).function(
        relax.Function([*params.values()], body, result.ty, is_pure=True)
    )
    return with_own_variables(renamed)


class _Renamer(Rewriter):
    """Puts parameters where a function read variables from outside."""

    def __init__(self, params: Mapping[relax.Var, relax.Var]) -> None:
        super().__init__()
        self._replaced.update(params)

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        return value


def _steps(marker: _Marker) -> list[transform.Pass]:
    @transform.module_pass(opt_level=0, name="place_unit")
    def place_unit(mod: IRModule, _context: transform.PassContext) -> IRModule:
        return map_functions(mod, marker.function)

    return [split_to_slices, place_unit, fuse(None, accepts_epilogue), regions(RegionsOptions())]


class _Marker(Rewriter):
    """Places every call on the array that the array takes, but for those kept on the host."""

    def __init__(
        self, description: ArrayDescription, number_format: str, kept: frozenset[CallKey]
    ) -> None:
        super().__init__()
        self.description, self.number_format, self.kept = description, number_format, kept

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if not isinstance(value, relax.Call) or kind_of(value) is Kind.VIEW:
            return value
        return with_names(value, names_of(value), ARRAY) if self.takes(value) else value

    def takes(self, call: relax.Call) -> bool:
        """Whether the array computes ``call``."""
        if (names_of(call), op_name(call)) in self.kept:
            return False
        return refusal(call, self.description, self.number_format) is None


def _workload(module: IRModule, function: relax.Function) -> Workload:
    weights = [int(index) for index in function.attrs.get(WEIGHTS, ())]

    def name_of(unit: relax.Function) -> str:
        return "+".join(str(name) for name in unit.attrs[ONNX_NODES])

    return workload_of(function, lambda variable: module[variable], name_of, weights).workload


def _kernels(function: relax.Function) -> list[relax.Binding]:
    """The calls of a host function but for those that need no kernel."""
    bindings = list(bindings_of(function))
    values = {binding.var: binding.value for binding in bindings}
    calls = [binding for binding in bindings if isinstance(binding.value, relax.Call)]
    return [binding for binding in calls if not needs_no_kernel(binding.value, values)]
