"""Shape arithmetic on symbolic dimensions, done at import.

``Shape`` of a tensor with a symbolic batch gives symbolic integers; the operators that
exporters use on them (Gather, Slice, Concat, arithmetic, ...) are evaluated here on
numpy object arrays of ``tirx`` expressions, so that a Reshape ends up with a shape
expression instead of a computation at run time. A node that this file cannot evaluate
is converted like any other, on an int tensor made of the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import sym, tirx
from tvm.ir import Range
from tvm_ffi import structural_equal

from .node import Node
from .values import Constant, Symbolic, Value, as_dim, as_expr, object_array, shape_value

Objects = NDArray[Any]
_MAX_LENGTH = 64
_MAX_EXTENT = 1 << 48


def shape_of(node: Node) -> Value | None:
    """The value of ``Shape`` or ``Size``; None where the tensor's shape is unknown."""
    dims = list(node.shape())
    if node.op_type == "Size":
        return shape_value([product(dims)], scalar=True)
    return shape_value(dims[slice(node.attr("start", 0), node.attr("end"))])


def evaluate(node: Node) -> list[Value] | None:
    """Outputs of a node on shape data; None where it is not shape arithmetic."""
    rule = _RULES.get(node.op_type)
    inputs = [None if v is None else _objects(v) for v in node.inputs]
    if any(a is not None and a.ndim > 1 for a in inputs) and node.op_type not in _TABLES:
        return None
    if rule is None or any(
        v is not None and a is None for v, a in zip(node.inputs, inputs, strict=True)
    ):
        return None
    try:
        result = rule(node, inputs)
    except (_NotShapeDataError, IndexError, ValueError, ZeroDivisionError):
        return None
    if result is None or result.ndim > 2:
        return None
    dtype = "bool" if node.op_type == "Equal" else _dtype(node)
    if dtype is None:
        return None
    items = [simplify(item) for item in result.reshape(-1)]
    if dtype == "bool" and not all(isinstance(item, (bool, np.bool_, int)) for item in items):
        return None
    return [_shaped(shape_value(items, dtype), result.shape)]


def _shaped(value: Value, shape: tuple[int, ...]) -> Value:
    """A list of shape data in another shape."""
    if isinstance(value, Symbolic):
        return Symbolic(value.dims.reshape(shape), value.dtype)
    return Constant(value.array.reshape(shape)) if isinstance(value, Constant) else value


def simplify(dim: Any) -> Any:
    """A dimension in simplest form, as int where it is one."""
    if isinstance(dim, (bool, np.bool_)):
        return bool(dim)
    dim = as_dim(dim)
    return dim if isinstance(dim, int) else as_dim(_analyzer(dim).simplify(dim))


def is_non_negative(dim: Any) -> bool:
    """Whether a dimension is provably not negative, as every plain symbol is."""
    dim = as_dim(dim)
    return dim >= 0 if isinstance(dim, int) else bool(_analyzer(dim).can_prove(dim >= 0))


def _analyzer(dim: tirx.Expr) -> sym.Analyzer:
    """An analyzer that knows the symbols of ``dim`` as extents."""
    analyzer = sym.Analyzer()
    for symbol in tirx.analysis.undefined_vars(dim):
        analyzer.bind(symbol, Range(as_expr(0), as_expr(_MAX_EXTENT)))
    return analyzer


def product(dims: Sequence[Any]) -> Any:
    """Product of dimensions, simplified."""
    total: Any = 1
    for dim in dims:
        total = total * dim
    return simplify(total)


def same(a: Any, b: Any) -> bool:
    """Whether two dimensions are provably equal."""
    a, b = as_dim(a), as_dim(b)
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    if not isinstance(a, int) and not isinstance(b, int) and structural_equal(a, b):
        return True
    difference = simplify(a - b)
    return isinstance(difference, int) and difference == 0


class _NotShapeDataError(Exception):
    """The node's operands are not what shape arithmetic knows."""


def _objects(value: Value) -> Objects | None:
    if isinstance(value, Symbolic):
        return value.dims
    if not isinstance(value, Constant) or value.array.ndim > 1 or value.array.size > _MAX_LENGTH:
        return None
    if value.array.dtype.kind == "f" and not _is_whole(value.array):
        return None
    if value.array.dtype.kind not in "iubf":
        return None
    items = [v.item() for v in value.array.reshape(-1)]
    items = [int(v) if isinstance(v, float) else v for v in items]
    return object_array(items, value.array.ndim == 0)


def _is_whole(array: NDArray[Any]) -> bool:
    return bool(np.isfinite(array).all() and (array == np.rint(array)).all())


def _dtype(node: Node) -> str | None:
    """Dtype of the result; None where it is none that holds extents.

    Exporters pass through floats (``floor(2.0 * height)``): those stay whole numbers here.
    """
    if node.op_type == "Cast":
        import onnx

        name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(node.attr("to"))).name
        return name if name in ("int64", "int32", "float32", "float64") else None
    values = [v for v in node.inputs if v is not None]
    index = 1 if node.op_type == "Where" else 0
    value = values[index]
    if isinstance(value, Symbolic):
        return value.dtype
    return str(value.array.dtype) if isinstance(value, Constant) else None


def _ints(array: Objects) -> list[int]:
    values = [as_dim(v) for v in array.reshape(-1)]
    if not all(isinstance(v, int) for v in values):
        raise _NotShapeDataError
    return values


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Node, list[Any]], Objects]:
    def rule(node: Node, arrays: list[Any]) -> Objects:
        a, b = np.broadcast_arrays(arrays[0], arrays[1])
        items = [function(x, y) for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True)]
        return object_array(items).reshape(a.shape)

    return rule


def _equal(a: Any, b: Any) -> bool:
    if same(a, b):
        return True
    difference = simplify(a - b)
    if isinstance(difference, int) or _never_negative_against(a, b):
        return False
    raise _NotShapeDataError


def _never_negative_against(a: Any, b: Any) -> bool:
    """A symbolic extent never equals a negative constant (exporters compare with -1)."""
    a, b = as_dim(a), as_dim(b)
    if isinstance(a, int) == isinstance(b, int):
        return False
    number, extent = (a, b) if isinstance(a, int) else (b, a)
    return bool(number < 0) and is_non_negative(extent)


def _divide(a: Any, b: Any) -> Any:
    a, b = as_dim(a), as_dim(b)
    if isinstance(a, int) and isinstance(b, int):
        return int(np.trunc(a / b)) if abs(a) < 2**52 else a // b
    return a // b  # extents are not negative, so floor and truncation agree


def _quotient(node: Node, arrays: list[Any]) -> Objects:
    if str(_dtype(node)).startswith("float"):  # rarely whole
        raise _NotShapeDataError
    return _binary(_divide)(node, arrays)


def _minmax(name: str) -> Callable[[Any, Any], Any]:
    def pick(a: Any, b: Any) -> Any:
        a, b = as_dim(a), as_dim(b)
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b) if name == "min" else max(a, b)
        a, b = (tirx.const(v, "int64") if isinstance(v, int) else v for v in (a, b))
        return tirx.min(a, b) if name == "min" else tirx.max(a, b)

    return pick


def _gather(node: Node, arrays: list[Any]) -> Objects:
    indices = _ints(arrays[1])
    return object_array([arrays[0][i] for i in indices]).reshape(arrays[1].shape)


def _slice(node: Node, arrays: list[Any]) -> Objects:
    if node.opset < 10:
        starts, ends = node.attr("starts"), node.attr("ends")
        steps = [1]
    else:
        starts, ends = _ints(arrays[1]), _ints(arrays[2])
        steps = _ints(arrays[4]) if len(arrays) > 4 and arrays[4] is not None else [1]
    if node.opset < 10:
        axes = node.attr("axes", [0])
    else:
        axes = _ints(arrays[3]) if len(arrays) > 3 and arrays[3] is not None else [0]
    if len(starts) != 1 or arrays[0].ndim < 1 or axes[0] not in (0, -arrays[0].ndim):
        raise _NotShapeDataError
    end = None if steps[0] < 0 and ends[0] < -(2**31) else ends[0]
    result: Objects = arrays[0][starts[0] : end : steps[0]]
    return result


def _transpose(node: Node, arrays: list[Any]) -> Objects:
    result: Objects = arrays[0].transpose(node.attr("perm"))
    return result


def _concat(node: Node, arrays: list[Any]) -> Objects:
    return np.concatenate(arrays)


def _reshape(node: Node, arrays: list[Any]) -> Objects:
    result: Objects = arrays[0].reshape(_ints(arrays[1]))
    return result


def _unsqueeze(node: Node, arrays: list[Any]) -> Objects:
    axes = node.attr("axes") if node.opset < 13 else _ints(arrays[1])
    return np.expand_dims(arrays[0], tuple(axes))


def _squeeze(node: Node, arrays: list[Any]) -> Objects:
    if arrays[0].size != 1:
        raise _NotShapeDataError
    result: Objects = arrays[0].reshape(())
    return result


def _same_value(node: Node, arrays: list[Any]) -> Objects:
    result: Objects = arrays[0]
    return result


def _where(node: Node, arrays: list[Any]) -> Objects:
    condition = np.array(_ints(arrays[0])).reshape(arrays[0].shape)
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    picked = [np.broadcast_to(a, shape).reshape(-1) for a in (condition, *arrays[1:])]
    items = [x if c else y for c, x, y in zip(*picked, strict=True)]
    return object_array(items).reshape(shape)


def _negative(node: Node, arrays: list[Any]) -> Objects:
    return object_array([0 - v for v in arrays[0].reshape(-1)]).reshape(arrays[0].shape)


def _reduce_prod(node: Node, arrays: list[Any]) -> Objects:
    keep = bool(node.attr("keepdims", 1)) and arrays[0].ndim == 1
    return object_array([product(list(arrays[0].reshape(-1)))], scalar=not keep)


def _expand(node: Node, arrays: list[Any]) -> Objects:
    shape = np.broadcast_shapes(arrays[0].shape, tuple(_ints(arrays[1])))
    return np.broadcast_to(arrays[0], shape)


def _scatter(node: Node, arrays: list[Any]) -> Objects:
    if node.attr("reduction", "none") != "none":
        raise _NotShapeDataError
    result: Objects = arrays[0].copy()
    result[_ints(arrays[1])] = arrays[2]
    return result


# Operators that also know tables (rank 2): exporters turn pads around in one.
_TABLES = frozenset({"Reshape", "Slice", "Transpose", "Identity", "Cast"})
_RULES: dict[str, Callable[[Node, list[Any]], Objects | None]] = {
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _quotient,
    "Mod": _binary(lambda a, b: a % b),
    "Min": _binary(_minmax("min")),
    "Max": _binary(_minmax("max")),
    "Equal": _binary(_equal),
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Identity": _same_value,
    "Floor": _same_value,
    "Ceil": _same_value,
    "Cast": _same_value,
    "Where": _where,
    "Neg": _negative,
    "ReduceProd": _reduce_prod,
    "Expand": _expand,
    "ScatterElements": _scatter,
}
