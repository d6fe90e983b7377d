"""Extents of a convolution, and where its taps read in the padded workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.ir import TensorLoad

from motet.targets.host.exprs import is_axis
from motet.targets.host.kernels.operand import (
    Operand,
)  # fmt: skip
from motet.targets.host.loops import (
    Expr,
    constant_of,
    index,
    product,
    simplify,
)  # fmt: skip
from motet.targets.host.stages import Stage


@dataclass(frozen=True, eq=False)
class Convolution:
    """Extents of a convolution; lists are per spatial axis, outermost first.

    direct: a pointwise one, its spatial axes flattened to one; paired: ``ic`` counts pairs of
    the ``channels`` of a group (``pairs``), which the workspace holds as int32.
    lengths: of an axis of the workspace, in elements of one phase; pitches: distance of
    neighbours along an axis; phases: stride phases that some tap reads.
    """

    batch: Expr
    groups: int
    ic: int
    oc: int
    outputs: tuple[Expr, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    direct: bool
    dtype: str
    paired: bool
    channels: int

    @property
    def phases(self) -> tuple[int, ...]:
        """Stride phases in use, per axis."""
        return tuple(
            max(t * d % s for t in range(k)) + 1
            for k, s, d in zip(self.kernel, self.strides, self.dilation, strict=True)
        )

    @property
    def lengths(self) -> tuple[Expr, ...]:
        """Elements of one phase along an axis."""
        return tuple(
            simplify(o + (k - 1) * d // s)
            for o, k, s, d in zip(
                self.outputs, self.kernel, self.strides, self.dilation, strict=True
            )
        )

    @property
    def pitches(self) -> tuple[Expr, ...]:
        """Distance of neighbours along an axis, in elements."""
        lengths = self.lengths
        return tuple(product(lengths[i + 1 :]) for i in range(len(lengths)))

    @property
    def plane(self) -> Expr:
        """Elements of one channel in the workspace, all phases."""
        return product([*self.lengths, *self.phases])

    @property
    def in_place(self) -> bool:
        """Whether the input is read where it is, without a copy in the workspace."""
        return self.direct and not self.paired

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return int(np.prod(self.kernel))

    def row_span(self, rows: Expr) -> Expr:
        """Positions from the first to the last output of ``rows`` outermost rows."""
        inner = sum(
            ((o - 1) * p for o, p in zip(self.outputs[1:], self.pitches[1:], strict=True)),
            index(0),
        )
        return simplify((rows - 1) * self.pitches[0] + inner + 1)

    def tap_offset(self, taps: Sequence[Expr]) -> Expr:
        """Where a tap reads, relative to the position of its output."""
        phase: Expr = index(0)
        offset: Expr = index(0)
        for t, s, d, count, pitch in zip(
            taps, self.strides, self.dilation, self.phases, self.pitches, strict=True
        ):
            phase = phase * count + tirx.floormod(t * d, index(s))
            offset = offset + tirx.floordiv(t * d, index(s)) * pitch
        return simplify(phase * product(self.lengths) + offset)


def describe(
    anchor: Stage,
    x: Operand,
    weight_shape: Sequence[int],
    flatten: bool = True,
    paired: bool = False,
) -> Convolution:
    """The extents of ``anchor``; ``flatten`` lets a pointwise one take its spatial axes as one."""
    attrs = anchor.attrs
    groups = int(attrs["groups"])
    strides = tuple(int(s) for s in attrs["strides"])
    kernel = tuple(weight_shape[2:])
    outputs = tuple(a.extent for a in anchor.spatial[2:])
    direct = flatten and _reads_in_place(x) and set(kernel) == {1} and set(strides) == {1}
    if direct:
        outputs, kernel, strides = (product(outputs),), (1,), (1,)
    channels = constant_of(anchor.spatial[1].extent)
    assert channels is not None
    per_group = constant_of(anchor.reduction[0].extent) or 0
    return Convolution(
        anchor.spatial[0].extent, groups, -(-per_group // 2) if paired else per_group,
        channels // groups, outputs, kernel, strides,
        tuple(int(d) for d in attrs["dilation"])[: len(outputs)], direct, anchor.output.dtype,
        paired, per_group,
    )  # fmt: skip


def _reads_in_place(x: Operand) -> bool:
    if x.stage is None:
        return True
    value = x.stage.value
    return isinstance(value, TensorLoad) and all(
        is_axis(i, a.var) or constant_of(a.extent) == 1
        for i, a in zip(value.indices, x.stage.spatial, strict=True)
    )
