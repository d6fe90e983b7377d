"""Concatenations and slices of one contiguous run of bytes: what needs no kernel.

Where every axis before a concatenation's has extent 1, its operands lie in the result one
after the other: whoever computes them can write them there. A slice with stride 1 is one run
of what it is cut from where all axes before the last one that it cuts have extent 1 in it,
and each part of a split likewise. Kernels assume aligned buffers, so every run must start at
a multiple of ``ALIGNMENT`` bytes; shapes must be known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from tvm import relax
from tvm.tirx import IntImm

from motet.passes.graph import elements_of, static_shape
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.runtime.memory import ALIGNMENT

CONCAT, SLICE, SPLIT = "relax.concat", "relax.strided_slice", "relax.split"


def run_offsets(call: relax.Call) -> tuple[int, ...] | None:
    """Where in bytes the runs of a concatenation, slice or split start; None for other calls.

    One per operand in the result of a concatenation, else one per result in the operand.
    """
    name = op_name(call)
    if name == CONCAT:
        return _concat_offsets(call)
    if name == SPLIT:
        return _split_offsets(call)
    return _slice_offsets(call) if name == SLICE else None


def _concat_offsets(call: relax.Call) -> tuple[int, ...] | None:
    shape = static_shape(call)
    if shape is None or not isinstance(call.args[0], relax.Tuple):
        return None
    fields = call.args[0].fields
    axis = int(call.attrs.axis or 0) % max(len(shape), 1)
    return _starts([field.ty for field in fields], shape[:axis])


def _split_offsets(call: relax.Call) -> tuple[int, ...] | None:
    shape = static_shape(call.args[0])
    if shape is None:
        return None
    return _starts(call.ty.fields, shape[: int(call.attrs.axis) % len(shape)])


def _starts(types: Sequence[relax.Type], before: Sequence[int]) -> tuple[int, ...] | None:
    """Where tensors start that lie one after the other; None where they do not."""
    sizes = [_bytes(ty) for ty in types]
    known = [size for size in sizes if size]
    if len(known) < len(sizes) or any(extent != 1 for extent in before):
        return None
    return _aligned([0, *accumulate(known)][:-1])


def _bytes(ty: relax.Type) -> int | None:
    elements = elements_of(ty)
    return None if elements is None else elements * np.dtype(str(ty.dtype)).itemsize


def _aligned(offsets: Sequence[int]) -> tuple[int, ...] | None:
    return tuple(offsets) if all(offset % ALIGNMENT == 0 for offset in offsets) else None


def _slice_offsets(call: relax.Call) -> tuple[int, ...] | None:
    """The one offset of a slice. A begin before the first element or beyond is clamped."""
    whole, cut = static_shape(call.args[0]), static_shape(call)
    known = [_integers(argument) for argument in call.args[1:]]
    if not whole or cut is None or None in known or min(cut) < 1:
        return None
    axes, begins, _, *steps = [values or [] for values in known]
    if any(step != 1 for step in (steps or [[]])[0]):
        return None
    first = [0] * len(whole)
    for axis, begin in zip(axes, begins, strict=True):
        place = begin + whole[axis] if begin < 0 else begin
        first[axis % len(whole)] = min(max(place, 0), whole[axis])
    last = max((axis for axis in range(len(whole)) if cut[axis] != whole[axis]), default=0)
    if any(extent != 1 for extent in cut[:last]):
        return None
    elements = sum(f * math.prod(whole[axis + 1 :]) for axis, f in enumerate(first))
    return _aligned([elements * np.dtype(str(call.ty.dtype)).itemsize])


def _integers(values: relax.Expr) -> list[int] | None:
    if not isinstance(values, relax.Tuple):
        return None
    numbers = [int(value) for value in values.fields if isinstance(value, IntImm)]
    return numbers if len(numbers) == len(values.fields) else None


def needs_no_kernel(call: relax.Call, values: Mapping[relax.Var, relax.Expr]) -> bool:
    """Whether the VM gives the value of ``call`` a place instead of computing it.

    A concatenation has its place where its operands are written there: kernels must
    compute at least half of its bytes, as inputs, weights and repeated operands have to be
    copied. values: what the function's variables are bound to.
    """
    if run_offsets(call) is None:
        return False
    if op_name(call) != CONCAT:
        return True
    operands = dict.fromkeys(filter(lambda v: _is_computed(v, values), call.args[0].fields))
    computed = sum(elements_of(operand.ty) or 0 for operand in operands)
    return 2 * computed >= (elements_of(call.ty) or 0)


def _is_computed(expr: relax.Expr, values: Mapping[relax.Var, relax.Expr]) -> bool:
    """Whether a kernel writes the tensor; else it is (a view of) an input or a weight."""
    while isinstance(expr, (relax.Var, relax.TupleGetItem)) or kind_of(expr) is Kind.VIEW:
        if isinstance(expr, relax.Var):
            if expr not in values:
                return False
            expr = values[expr]
        else:
            expr = expr.tuple_value if isinstance(expr, relax.TupleGetItem) else expr.args[0]
    return isinstance(expr, (relax.Call, relax.If))
