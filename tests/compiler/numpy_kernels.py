"""Units as numpy functions in place of compiled kernels, so that many programs can be run."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.kernels import HostKernel
from motet.passes.graph import bindings_of, constant_array
from motet.passes.op_kinds import op_name
from motet.targets.host.lower_unit import LoweredUnit


@dataclass
class NumpyKernels:
    """Stands in for ``HostKernels`` when lowering, and for the library when running."""

    units: dict[str, relax.Function] = field(default_factory=dict)

    def kernel_for(self, unit: relax.Function, _constants: frozenset[int]) -> HostKernel:
        symbol = f"unit{len(self.units)}"
        self.units[symbol] = unit
        return HostKernel(symbol, LoweredUnit(None))

    def row(self, _calls: Any) -> None:
        """There is no native call for several."""

    def function(self, symbol: str) -> Any:
        """The kernel: takes inputs and outputs as tensors, and fills the outputs."""
        unit = self.units[symbol]

        def run(*tensors: Any) -> None:
            arrays = [_array(tensor) for tensor in tensors]
            given = arrays[: len(unit.params)]
            results = evaluated(unit, given)
            for target, value in zip(arrays[len(given) :], results, strict=True):
                assert target.shape == value.shape
                target[...] = value

        return run


def _array(tensor: Any) -> Any:
    """The tensor's own memory, writable."""
    size = int(np.prod(tensor.shape)) * 4
    memory = (ctypes.c_char * size).from_address(tensor.data_ptr())
    return np.frombuffer(memory, np.float32).reshape(tuple(tensor.shape))


def evaluated(function: relax.Function, arguments: list[Any]) -> list[Any]:
    """What a Relax function of the operators below gives; several where it gives a tuple."""
    values: dict[relax.Var, Any] = dict(zip(function.params, arguments, strict=True))

    def value(expr: relax.Expr) -> Any:
        if isinstance(expr, relax.Var):
            return values[expr]
        if isinstance(expr, relax.Tuple):
            return [value(item) for item in expr.fields]
        if isinstance(expr, relax.TupleGetItem):
            return value(expr.tuple_value)[int(expr.index)]
        array = constant_array(expr)
        return call(expr) if array is None else array

    def call(expr: relax.Call) -> Any:
        count = 2 if op_name(expr) == "relax.add" else 1
        return OPERATORS[op_name(expr)](expr, *map(value, expr.args[:count]))

    for binding in bindings_of(function):
        values[binding.var] = value(binding.value)
    result = value(function.body.body)
    return result if isinstance(result, list) else [result]


def _slice(call: relax.Call, x: Any) -> Any:
    cuts = [slice(None)] * x.ndim
    places = (map(int, argument.fields) for argument in call.args[1:])
    for axis, *cut in zip(*places, strict=True):
        cuts[axis] = slice(*cut)
    return x[tuple(cuts)]


OPERATORS: dict[str, Any] = {
    "relax.negative": lambda _, x: -x,
    "relax.add": lambda _, x, y: x + y,
    "relax.concat": lambda c, xs: np.concatenate(xs, int(c.attrs.axis)),
    "relax.split": lambda c, x: np.split(x, int(c.attrs.indices_or_sections), int(c.attrs.axis)),
    "relax.strided_slice": _slice,
    "relax.reshape": lambda c, x: x.reshape([int(d) for d in c.ty.shape.values]),
}
"""Each gets the call and its tensors."""
