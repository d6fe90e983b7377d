"""Two operators of the domain ``org.example``, for ``motet compile --operator-file``.

``SoftClip`` is Relax all the way, so passes fuse it with its neighbours. ``RunningMax`` has no
operator in Relax: it brings a kernel, which runs as it is written.
"""

from __future__ import annotations

from tvm import relax
from tvm.script import tirx as T  # noqa: N812 - as TVMScript is written

from motet.operators import Node, register


@register("SoftClip", domain="org.example")
def soft_clip(node: Node) -> relax.Expr:
    """SoftClip: limit x / (limit + |x|)."""
    x, limit = node.x(), node.scalar(float(node.attr("limit", 1.0)))
    return relax.op.divide(relax.op.multiply(x, limit), relax.op.add(relax.op.abs(x), limit))


@T.prim_func
def running_max_rows(x_: T.handle, y_: T.handle) -> None:
    """Row by row y[i, j] = max(x[i, 0], ..., x[i, j]), for any number of rows and columns."""
    rows = T.int64()
    columns = T.int64()
    x = T.match_buffer(x_, (rows, columns), "float32")
    y = T.match_buffer(y_, (rows, columns), "float32")
    for i in T.parallel(rows):
        y[i, 0] = x[i, 0]
        for j in range(columns - T.int64(1)):
            y[i, j + T.int64(1)] = T.max(y[i, j], x[i, j + T.int64(1)])


@register("RunningMax", domain="org.example")
def running_max(node: Node) -> relax.Expr:
    """RunningMax of ``[rows, columns]``, along the columns."""
    if node.dtype() != "float32" or node.rank() != 2:
        node.refuse("only float32 matrices are supported")
    return node.call_kernel(running_max_rows, [node.x()], node.shape(), "float32")
