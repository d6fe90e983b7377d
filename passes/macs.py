"""Multiply-accumulates of a call, as an expression over its symbolic dimensions.

One multiply-accumulate per output element and element of the reduction; biases and
activations do not count. Padding counts, as everybody counts it.
"""

from __future__ import annotations

from collections.abc import Iterable

from tvm import relax, tirx

from motet.passes.op_kinds import op_name
from motet.targets.operators import attention, recurrence, vectors


def is_product(call: relax.Call) -> bool:
    """Whether ``call`` is a convolution (transposed ones included) or a matrix product.

    Those of vectors of integers are.
    """
    name = op_name(call)
    if name in vectors.PRODUCTS:
        return True
    return name == "relax.matmul" or name.startswith("relax.nn.conv")


def _product(sizes: Iterable[tirx.PrimExpr]) -> tirx.PrimExpr:
    result = tirx.IntImm("int64", 1)
    for size in sizes:
        result = result * size
    return result


def _sizes(tensor: relax.Expr) -> list[tirx.PrimExpr] | None:
    values = getattr(tensor.ty.shape, "values", None)
    return None if values is None else list(values)


def macs_of(call: relax.Call) -> tirx.PrimExpr:
    """MACs of a convolution or matrix product, of attention's, or a recurrence's with its state.

    0 for every other operator, and where a shape depends on data. Each element of a
    convolution's output, or of a transposed convolution's input, meets the weights of
    one of its channels: the kernel and the channels of the group on the other side.
    """
    if op_name(call) == recurrence.NAME:
        return recurrence.multiply_accumulates(call)
    if op_name(call) == attention.NAME:
        return attention.multiply_accumulates(call)
    if op_name(call) in vectors.PRODUCTS:
        return _of_vectors(call)
    if not is_product(call):
        return tirx.IntImm("int64", 0)
    data, weight, output = (_sizes(tensor) for tensor in (*call.args[:2], call))
    if data is None or weight is None or output is None:
        return tirx.IntImm("int64", 0)
    if op_name(call) == "relax.matmul":
        return _product(output) * data[-1]
    transposed = op_name(call).endswith("_transpose")
    own = str(call.attrs.kernel_layout).index("I" if transposed else "O")
    per_element = _product(size for axis, size in enumerate(weight) if axis != own)
    return _product(data if transposed else output) * per_element


def _of_vectors(call: relax.Call) -> tirx.PrimExpr:
    """Each output meets all taps, and of each the depth: G V where nothing else is said."""
    weight, output = _sizes(call.args[2]), _sizes(call)
    if weight is None or output is None:
        return tirx.IntImm("int64", 0)
    taps = weight[1:-2] if op_name(call) == vectors.VECTOR_CONV else []
    depth = vectors.VectorProduct.of(call).depth or _product(weight[-2:])
    return _product([*output, *taps]) * depth


def integer_macs_of(call: relax.Call) -> tirx.PrimExpr:
    """Those of ``macs_of`` that multiply integers."""
    operand = call.args[0] if call.args else None
    dtype = str(getattr(getattr(operand, "ty", None), "dtype", ""))
    return macs_of(call) if dtype.startswith(("int", "uint")) else tirx.IntImm("int64", 0)
