"""Windows over spatial axes: explicit pads for ``auto_pad`` and for rounding up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import Dim, shape_value
from motet.passes.typing import with_type


@dataclass(frozen=True)
class Window:
    """Kernel, stride, dilation and pads of every spatial axis.

    ``before`` and ``after`` are the node's own pads; ``extra`` is what rounding the
    output size up adds after them.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]
    extra: list[int]

    @property
    def padding(self) -> list[int]:
        """Pads as Relax takes them: all before, then all after."""
        ends = [a + e for a, e in zip(self.after, self.extra, strict=True)]
        return [*self.before, *ends]

    def outputs(self, spatial: Sequence[int]) -> list[int]:
        """How many windows fit along every axis of ``spatial`` extents."""
        padding, rank = self.padding, len(self.kernel)
        return [
            (extent + padding[i] + padding[rank + i] - (self.kernel[i] - 1) * self.dilations[i] - 1)
            // self.strides[i]
            + 1
            for i, extent in enumerate(spatial)
        ]


def with_known_type(node: Node, call: relax.Expr, channels: Dim, win: Window) -> relax.Expr:
    """``call``, of a window over the node's input, with the type that it has where sizes are known.

    TVM would find the same, in a millisecond for each: it makes its layouts anew. What it would
    refuse is left to it.
    """
    batch, _, *spatial = node.shape()
    if not all(isinstance(dim, int) for dim in (batch, channels, *spatial)):
        return call
    shape = [batch, channels, *win.outputs(spatial)]
    if min(shape) < 1 or min(win.padding) < 0:
        return call
    return with_type(call, relax.TensorType(shape, node.x().ty.dtype))


def window(node: Node, kernel: list[int], spatial: list[Dim]) -> Window:
    """The window of a convolution or pooling node over ``spatial`` extents."""
    rank = len(kernel)
    strides = list(node.attr("strides") or [1] * rank)
    dilations = list(node.attr("dilations") or [1] * rank)
    before, after = _pads(node, kernel, strides, dilations, spatial)
    extra = [0] * rank
    if node.attr("ceil_mode", 0):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        for i in range(rank):
            extra[i] = _round_up(node, spatial[i], reach[i], strides[i], before[i], after[i])
    return Window(list(kernel), strides, dilations, before, after, extra)


def _pads(
    node: Node, kernel: list[int], strides: list[int], dilations: list[int], spatial: list[Dim]
) -> tuple[list[int], list[int]]:
    mode, rank = node.attr("auto_pad", "NOTSET"), len(kernel)
    if mode == "VALID":
        return [0] * rank, [0] * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        pads = list(node.attr("pads") or [0] * (2 * rank))
        if len(pads) != 2 * rank:
            node.refuse(f"{len(pads)} pads for {rank} spatial axes")
        return pads[:rank], pads[rank:]
    before, after = [], []
    for k, s, d, extent in zip(kernel, strides, dilations, spatial, strict=True):
        total = _same_total(node, extent, (k - 1) * d + 1, s)
        small = total // 2
        before.append(small if mode == "SAME_UPPER" else total - small)
        after.append(total - small if mode == "SAME_UPPER" else small)
    return before, after


def _same_total(node: Node, extent: Dim, reach: int, stride: int) -> int:
    """Pads that make the output ``ceil(extent / stride)``."""
    if isinstance(extent, int):
        return max((-(-extent // stride) - 1) * stride + reach - extent, 0)
    if stride == 1:
        return reach - 1
    return node.refuse(
        f"auto_pad SAME with stride {stride} over the symbolic size {extent}",
        shape_value([extent]),
    )


def _round_up(node: Node, extent: Dim, reach: int, stride: int, before: int, after: int) -> int:
    """Cells to add at the end so that rounding down gives ONNX's ``ceil_mode`` size.

    ONNX drops a last window that would start beyond the input and its leading pad.
    """
    if not isinstance(extent, int):
        if stride == 1:
            return 0
        node.refuse(
            f"ceil_mode with stride {stride} over the symbolic size {extent}",
            shape_value([extent]),
        )
    outputs = -(-(extent + before + after - reach) // stride) + 1
    if (outputs - 1) * stride >= extent + before:
        outputs -= 1
    return max((outputs - 1) * stride + reach - extent - before - after, 0)
