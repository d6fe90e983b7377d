"""One ONNX node as a converter sees it: what users' converters build on too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax, tirx

from .kernel_call import call_kernel
from .late import dims_of
from .node_view import LEAVES, NodeView, RefusedNodeError, is_float
from .values import Constant, Dim, Symbolic, Tensor, as_dim


class Node(NodeView):
    """A node's operator, attributes and input values, and the builder to emit into."""

    def call_kernel(
        self,
        kernel: tirx.PrimFunc,
        args: Sequence[relax.Expr],
        shape: Sequence[Any],
        dtype: str | Sequence[str],
    ) -> Any:
        """A call of a kernel of your own: the last resort, for no pass can look into it.

        Parameters
        ----------
        kernel: a TVMScript ``prim_func`` whose buffers are the inputs, then the outputs; it
            runs on the host, scheduled as it is, and calls nothing outside itself.
        args: the inputs, as Relax tensors.
        shape, dtype: of the output: dimensions (integers, or those that ``shape`` gave) and
            element type. For several outputs, a sequence of each.

        Returns the output, or a list of the outputs.
        """
        return call_kernel(self, kernel, args, shape, dtype)

    def dims(self, index: int, what: str) -> list[Dim]:
        """Input ``index`` (rank 0 or 1) as dimensions: constant, symbolic, or bound to data."""
        value = self.value(index)
        if isinstance(value, Constant):
            return [int(v) for v in value.array.reshape(-1)]
        if isinstance(value, Symbolic):
            return [as_dim(v) for v in value.dims.reshape(-1)]
        late = dims_of(self, value, what) if isinstance(value, Tensor) else None
        if late is None:
            self.refuse(f"its {what} (input {index}) is only known at run time", value)
        return late


__all__ = ["LEAVES", "Node", "RefusedNodeError", "is_float"]
