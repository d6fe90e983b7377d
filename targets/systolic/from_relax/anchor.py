"""A Relax call as a layer of the array, with what its operands are."""

from __future__ import annotations

from dataclasses import dataclass, field

from motet.targets.systolic.formats import VectorFormat
from motet.targets.systolic.workload.graph import Epilogue
from motet.targets.systolic.workload.layers import Layer


@dataclass(frozen=True)
class Anchor:
    """A call as a layer.

    operands: which arguments of the call (``operands_of``) the layer reads, in the layer's order.
    vectors: which of the operands are vectors over the last axis, kept in fp32 always.
    epilogue: what the call itself does to the layer's output (an activation alone is
        the identity with an epilogue); it names no tensors.
    product: of vectors; then each of ``operands`` has its scales in the argument behind it.
    is_integer: whether it is a product of signed bytes, with sums in int32.
    """

    layer: Layer
    operands: tuple[int, ...]
    epilogue: Epilogue = field(default=Epilogue())
    vectors: tuple[int, ...] = ()
    product: ProductOfVectors | None = None
    is_integer: bool = False


@dataclass(frozen=True)
class ProductOfVectors:
    """words: the format. factor: the argument that makes floats of the sums; None: they stay."""

    words: VectorFormat
    factor: int | None
