"""A user's kernel as a call in the graph, checked against what it is called with.

``register`` (``registry``) adds converters; one whose operator Relax cannot express gives
its kernel here, the one exception to the rule that the front end emits no kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax, tirx

from motet.targets.host.user_kernel import kernel_call

from .limits import RUNNABLE
from .node_view import LEAVES, NodeView
from .values import Dim, as_dim


def call_kernel(
    node: NodeView,
    kernel: tirx.PrimFunc,
    args: Sequence[relax.Expr],
    shape: Sequence[Any],
    dtype: str | Sequence[str],
) -> Any:
    """See ``Node.call_kernel``."""
    if not isinstance(kernel, tirx.PrimFunc):
        node.refuse(f"a kernel is a TVMScript prim_func, not a {type(kernel).__name__}")
    several = not isinstance(dtype, str)
    shapes = [tuple(one) for one in shape] if several else [tuple(shape)]
    dtypes = [dtype] if isinstance(dtype, str) else list(dtype)
    bound = [arg if isinstance(arg, LEAVES) else node.emit(arg) for arg in args]
    name = _name(kernel)
    _check(node, kernel, name, bound, list(zip(shapes, dtypes, strict=True)))
    outputs = [
        relax.TensorType(relax.ShapeExpr(list(one)), kind)
        for one, kind in zip(shapes, dtypes, strict=True)
    ]
    result = node.emit(kernel_call(kernel, name, bound, outputs if several else outputs[0]))
    if not several:
        return result
    return [node.emit(relax.TupleGetItem(result, i)) for i in range(len(outputs))]


def _name(kernel: tirx.PrimFunc) -> str:
    attributes = kernel.attrs
    found = attributes.get("global_symbol") if attributes else None
    return str(found) if found else "kernel"


def _check(
    node: NodeView,
    kernel: tirx.PrimFunc,
    name: str,
    args: Sequence[relax.Expr],
    outputs: Sequence[tuple[tuple[Dim, ...], str]],
) -> None:
    """Refuse a kernel whose buffers do not fit, in number, type, rank or fixed extents."""
    given = [(node.shape(arg), node.dtype(arg)) for arg in args] + list(outputs)
    buffers = list(kernel.params)
    if not all(isinstance(buffer.ty, tirx.BufferType) for buffer in buffers):
        node.refuse(f"kernel '{name}' takes more than buffers")
    if len(buffers) != len(given):
        node.refuse(
            f"kernel '{name}' takes {len(buffers)} buffers, but is called with {len(args)} "
            f"inputs and {len(outputs)} outputs"
        )
    sizes: dict[Any, Dim] = {}
    for buffer, (dims, dtype) in zip(buffers, given, strict=True):
        shown = f"kernel '{name}', buffer '{buffer.name}'"
        if dtype not in RUNNABLE or str(buffer.dtype) != dtype:
            node.refuse(f"{shown}: is {buffer.dtype}, but is given {dtype}")
        if len(buffer.shape) != len(dims):
            node.refuse(f"{shown}: has rank {len(buffer.shape)}, but is given rank {len(dims)}")
        for axis, (extent, dim) in enumerate(zip(buffer.shape, dims, strict=True)):
            if not _fits(extent, as_dim(dim), sizes):
                node.refuse(f"{shown}: axis {axis} is {extent}, but is given {dim}")


def _fits(extent: Any, dim: Dim, sizes: dict[Any, Dim]) -> bool:
    """Whether a kernel's extent can be ``dim``; a plain size is bound where it first occurs.

    Extents that are computed from sizes are left to the check that the kernel itself makes.
    """
    if isinstance(extent, tirx.IntImm):
        return bool(isinstance(dim, int) and int(extent.value) == dim)
    if not isinstance(extent, tirx.Var):
        return True
    known = sizes.setdefault(extent, dim)
    if isinstance(known, int) or isinstance(dim, int):
        return bool(isinstance(known, int) and isinstance(dim, int) and known == dim)
    return True
