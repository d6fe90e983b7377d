"""MatMulNBits: a product with a weight of 2, 4 or 8 bits, packed in blocks along its depth.

The weight becomes the float matrix that it stands for when the model is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from motet.compiler.frontend.converters.quantization import cast
from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant


def mat_mul_n_bits(node: Node) -> relax.Expr:
    """MatMulNBits: the weight, packed in blocks along K, is unpacked and scaled at import."""
    if node.has(4) and node.constant(4) is None:
        node.refuse("a run-time g_idx")
    if node.attr("weight_prepacked", 0):
        node.refuse("a weight packed for another machine (weight_prepacked)")
    weight = cast(node, constant(_unpacked_weight(node)), node.dtype())
    result = relax.op.matmul(node.x(0), weight)
    if not node.has(5):
        return result
    return relax.op.add(node.emit(result), node.x(5))


def _unpacked_weight(node: Node) -> NDArray[np.float32]:
    """The weight [K, N]: ``(q - zero point) * scale`` of every block."""
    k, n, bits, block = (
        int(node.attr(a, d)) for a, d in (("K", 0), ("N", 0), ("bits", 4), ("block_size", 0))
    )
    if bits not in (2, 4, 8) or block < 1:
        node.refuse(f"weights of {bits} bits in blocks of {block}")
    blocks = -(-k // block)
    packed = node.needed_constant(1, "weight").reshape(n, blocks, -1)
    steps = _unpacked(packed, bits)[..., :block].astype(np.float32)
    scales = node.needed_constant(2, "scales").astype(np.float32).reshape(n, blocks)
    zeros = _zero_points(node, n, blocks, bits)
    if node.has(4):
        groups = node.needed_constant(4, "g_idx").reshape(-1)[:k]
        flat = steps.reshape(n, -1)[:, :k]
        real = (flat - zeros[:, groups]) * scales[:, groups]
    else:
        real = ((steps - zeros[..., None]) * scales[..., None]).reshape(n, -1)[:, :k]
    return np.ascontiguousarray(real.T.astype(np.float32))


def _zero_points(node: Node, n: int, blocks: int, bits: int) -> NDArray[np.float32]:
    """One zero point [N, blocks] for each block: packed like the weight, or floats."""
    if not node.has(3):
        return np.full((n, blocks), 1 << (bits - 1), np.float32)
    zeros = node.needed_constant(3, "zero_points")
    if zeros.dtype == np.uint8:
        zeros = _unpacked(zeros.reshape(n, -1), bits)[:, :blocks]
    return zeros.reshape(n, blocks).astype(np.float32)


def _unpacked(packed: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Values of ``bits`` bits, the lowest of a byte first, along the last axis."""
    per_byte, mask = 8 // bits, (1 << bits) - 1
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    values = (packed[..., None].astype(np.uint8) >> shifts) & mask
    return values.reshape(*packed.shape[:-1], -1).astype(np.uint8)


CONVERTERS: dict[str, Callable[[Node], Any]] = {"MatMulNBits": mat_mul_n_bits}
