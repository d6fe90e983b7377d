"""Multiply-accumulates of a call, as an expression over its symbolic dimensions.

One multiply-accumulate per output element and element of the reduction; biases and
activations do not count. Padding counts, as everybody counts it.
"""

from __future__ import annotations

from collections.abc import Iterable

from tvm import relax, tirx

from motet.passes.op_kinds import op_name


def _product(sizes: Iterable[tirx.PrimExpr]) -> tirx.PrimExpr:
    result = tirx.IntImm("int64", 1)
    for size in sizes:
        result = result * size
    return result


def is_product(call: relax.Call) -> bool:
    """Whether ``call`` is a convolution or matrix product, of any kind."""
    name = op_name(call)
    return name == "relax.matmul" or name.startswith("relax.nn.conv")


def macs_of(call: relax.Call) -> tirx.PrimExpr:
    """MACs of a convolution or matrix product; 0 for every other operator."""
    name = op_name(call)
    if name == "relax.matmul":
        reduction = call.args[0].ty.shape.values[-1]
        return _product(call.ty.shape.values) * reduction
    if name.endswith("_transpose") and ".conv" in name:
        per_input = _product(call.args[1].ty.shape.values[1:])
        return _product(call.args[0].ty.shape.values) * per_input
    if name.startswith("relax.nn.conv"):
        per_output = _product(call.args[1].ty.shape.values[1:])
        return _product(call.ty.shape.values) * per_output
    return tirx.IntImm("int64", 0)
