"""Tile products in numpy that never wake BLAS's own threads.

OpenBLAS splits a product over its threads from a size that tiles often reach. For
so little work that gains next to nothing, and where other threads (the VM's, a
kernel's) want the cores, its threads wait for each other: a product of 0.1 ms was
seen to take 32 ms. So a large tile is cut into blocks below that size, which one
``np.matmul`` over stacked views multiplies one after the other. No setting of the
process is touched.
"""

from __future__ import annotations

from collections.abc import Iterator

from motet.runtime.device import Array

# OpenBLAS: interface/gemm.c and gemv.c, with GEMM_MULTITHREAD_THRESHOLD = 4.
MATRIX_LIMIT = 65536 * 4
VECTOR_LIMIT = 2304 * 4 - 1
BLOCK_COLUMNS = 64

Stacked = tuple[Array, Array, Array]


def is_single(columns: int, depth: int, rows: int) -> bool:
    """Whether BLAS computes [columns, depth] x [depth, rows] in the calling thread."""
    limit = VECTOR_LIMIT if min(columns, rows) == 1 else MATRIX_LIMIT
    return columns * depth * rows <= limit


def stacked_blocks(weights: Array, inputs: Array, product: Array) -> Iterator[Stacked]:
    """Views (w, x, p) for which ``np.matmul(w, x, out=p)`` together give the product.

    ``weights`` is [columns, depth], ``inputs`` [depth, rows], ``product`` [columns,
    rows]; the views are [a, 1, ., depth], [1, b, depth, .] and [a, b, ., .].
    """
    columns, depth = weights.shape
    rows = inputs.shape[1]
    widest = max(1, min(BLOCK_COLUMNS, VECTOR_LIMIT // depth))
    for across, width in _cut(columns, widest):
        limit = VECTOR_LIMIT if width == 1 else MATRIX_LIMIT
        for along, length in _cut(rows, max(1, limit // (width * depth))):
            yield (
                weights[across].reshape(-1, 1, width, depth),
                inputs[:, along].reshape(1, depth, -1, length).transpose(0, 2, 1, 3),
                product[across, along]
                .reshape(-1, width, _count(along, length), length)
                .transpose(0, 2, 1, 3),
            )


def _cut(size: int, block: int) -> Iterator[tuple[slice, int]]:
    """[0, size) as a run of whole blocks and a rest: (where, block size)."""
    whole = size - size % block
    if whole:
        yield slice(0, whole), block
    if whole < size:
        yield slice(whole, size), size - whole


def _count(where: slice, block: int) -> int:
    return int((where.stop - where.start) // block)
