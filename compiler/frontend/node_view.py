"""What a converter reads of an ONNX node, and what it needs again and again.

``node.Node`` is the whole of it; this part knows nothing of kernels and of shapes that depend
on data, which build on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import GenericConst

from motet.runtime.element_types import carrier_dtype

from .limits import RUNNABLE
from .types import dtype_of
from .values import (
    Constant,
    Dim,
    Dims,
    Symbolic,
    Tensor,
    TensorSequence,
    Value,
    as_dim,
    object_array,
    plain_text,
)

LEAVES = (relax.Var, GenericConst, relax.ShapeExpr)


class RefusedNodeError(Exception):
    """A use of an operator that cannot be lowered; the importer adds model and node.

    needs: the value that would have to be known at compile time, where that is why.
    """

    def __init__(self, reason: str, needs: Value | None = None) -> None:
        super().__init__(reason)
        self.needs = needs


class NodeView:
    """A node's operator, attributes and input values, and the builder to emit into.

    Parameters
    ----------
    op_type, domain, opset: the operator, and the version of its domain's operator set.
    attributes: by name; strings decoded, tensors as ``TensorProto``.
    inputs: values in ONNX order, None where an optional input was left out.
    outputs: number of outputs that the graph names.
    name: of the node, or ``<op_type>_<index>`` where it has none.
    """

    def __init__(
        self,
        builder: relax.BlockBuilder,
        op_type: str,
        opset: int,
        attributes: Mapping[str, Any],
        inputs: Sequence[Value | None],
        outputs: int,
        domain: str = "",
        name: str = "",
    ) -> None:
        self.builder = builder
        self.op_type = op_type
        self.opset = opset
        self.attributes = attributes
        self.inputs = tuple(inputs)
        self.given = self.inputs
        self.outputs = outputs
        self.domain = domain
        self.name = name

    def refuse(self, reason: str, needs: Value | None = None) -> NoReturn:
        """Stop: this use of the operator cannot be lowered, for ``reason``.

        needs: the value that is only known at run time, where the user may fix it.
        """
        raise RefusedNodeError(plain_text(reason), needs)

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute, or ``default`` where the node does not carry it."""
        return self.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether optional input ``index`` is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """Input ``index`` as a value; refuses where it is missing."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            self.refuse(f"input {index} is missing")
        return value

    def x(self, index: int = 0) -> relax.Expr:
        """Input ``index`` as a Relax tensor."""
        return self.tensor(self.value(index))

    def sequence(self, index: int = 0) -> TensorSequence:
        """Input ``index`` as a sequence; refuses anything else."""
        value = self.value(index)
        if not isinstance(value, TensorSequence):
            self.refuse(f"its input {index} is no sequence")
        return value

    def tensor(self, value: Value) -> relax.Expr:
        """A Relax tensor of ``value``; shape data becomes an int tensor at run time."""
        if isinstance(value, Constant):
            if carrier_dtype(value.array.dtype.name) not in RUNNABLE:
                self.refuse(f"a constant of element type {value.array.dtype.name}")
            return value.tensor()
        if isinstance(value, Tensor):
            return value.expr
        if not isinstance(value, Symbolic):
            kind = "a sequence" if isinstance(value, TensorSequence) else "an empty optional"
            self.refuse(f"it is given {kind} where it takes a tensor")
        dims = [tirx.const(d, "int64") if isinstance(d, int) else d for d in value.dims.flat]
        tensor = self.emit(relax.op.shape_to_tensor(relax.ShapeExpr(dims)))
        if value.dims.ndim == 0:
            tensor = self.emit(relax.op.squeeze(tensor, [0]))
        elif value.dims.ndim > 1:
            tensor = self.emit(relax.op.reshape(tensor, value.dims.shape))
        return tensor if value.dtype == "int64" else self.emit(relax.op.astype(tensor, value.dtype))

    def emit(self, expr: relax.Expr) -> relax.Expr:
        """Bind ``expr`` to a variable (leaves are returned as they are)."""
        if isinstance(expr, LEAVES):
            return expr
        return self.builder.emit(expr)

    def bound(self, expr: relax.Expr) -> Tensor:
        """``expr`` as a value, bound to a variable."""
        return Tensor(self.emit(expr))

    def constant(self, index: int) -> NDArray[Any] | None:
        """Input ``index`` as an array where it is known at compile time, else None."""
        value = self.inputs[index] if index < len(self.inputs) else None
        return value.array if isinstance(value, Constant) else None

    def needed_constant(self, index: int, what: str) -> NDArray[Any]:
        """Input ``index`` as an array; refuses a run-time one, called ``what``."""
        array = self.constant(index)
        if array is None:
            value = self.inputs[index] if index < len(self.inputs) else None
            self.refuse(f"its {what} (input {index}) must be known at compile time", value)
        return array

    def ints(self, index: int, name: str) -> list[int] | None:
        """A list of integers: attribute ``name`` (old opsets) or constant input ``index``."""
        if name in self.attributes:
            value = self.attributes[name]
            return [int(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
        if not self.has(index):
            return None
        return [int(v) for v in self.needed_constant(index, name).reshape(-1)]

    def shape(self, expr: relax.Expr | None = None) -> Dims:
        """Dimensions of ``expr`` (of input 0 where None); refuses an unknown shape."""
        expr = self.x(0) if expr is None else expr
        ty = expr.ty
        if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
            self.refuse("the shape of its input is only known at run time", Tensor(expr))
        return tuple(as_dim(dim) for dim in ty.shape.values)

    def static(self, dims: Sequence[Dim], what: str) -> list[int]:
        """``dims`` as ints; refuses symbolic ones."""
        if not all(isinstance(dim, int) for dim in dims):
            needs = Symbolic(object_array(list(dims)), "int64")
            self.refuse(f"{what} must be static, but {[str(d) for d in dims]} is symbolic", needs)
        return list(dims)

    def rank(self, expr: relax.Expr | None = None) -> int:
        """Rank of ``expr`` (of input 0 where None); refuses an unknown one."""
        expr = self.x(0) if expr is None else expr
        ty = expr.ty
        if not isinstance(ty, relax.TensorType) or ty.ndim < 0:
            self.refuse("the rank of its input is only known at run time", Tensor(expr))
        return int(ty.ndim)

    def axis(self, default: int = 0) -> int:
        """Attribute ``axis``, made non-negative and checked against input 0's rank."""
        return self.normal_axis(int(self.attr("axis", default)), self.rank())

    def normal_axis(self, axis: int, rank: int) -> int:
        """``axis`` made non-negative; refuses one out of range."""
        if not -rank <= axis < max(rank, 1):
            self.refuse(f"axis {axis} is out of range for rank {rank}")
        return axis + rank if axis < 0 else axis

    def dtype(self, expr: relax.Expr | None = None) -> str:
        """Element type of ``expr`` (of input 0 where None), e.g. ``float32``."""
        return str((self.x(0) if expr is None else expr).ty.dtype)

    def element_type(self, index: int = 0) -> str:
        """The ONNX element type of input ``index``, whatever it is computed in."""
        value = self.given[index] if index < len(self.given) else None
        return dtype_of(self.value(index) if value is None else value)

    def scalar(self, value: float, dtype: str | None = None) -> relax.Expr:
        """A scalar constant of ``dtype`` (of input 0's where None)."""
        return relax.const(np.array(value), dtype or self.dtype())


def is_float(dtype: str) -> bool:
    """Whether ``dtype`` is a floating-point type."""
    return dtype.startswith(("float", "bfloat"))
