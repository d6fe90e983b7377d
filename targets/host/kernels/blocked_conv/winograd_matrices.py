"""The matrices of Winograd's convolutions F(2x2, 3x3) and F(4x4, 3x3), and their weights.

An output tile of ``m x m`` is ``A^T [(G g G^T) * (B^T d B)] A`` of an input tile ``d`` of
``m + 2`` squared and a kernel ``g`` (Lavin and Gray 2016, "Fast algorithms for convolutional
neural networks", section 4). The matrices are those of Toom and Cook for the interpolation
points 0, pairs ``+-p`` and infinity. Lavin and Gray take the pairs 1 and 2; their products of
large and small numbers cost digits (Barabasz et al. 2020, "Error analysis and improving the
accuracy of Winograd convolution for deep neural networks"). Pairs near ``+-c, +-1/c`` are the
better for being close together (Alam et al. 2022, "Winograd convolution for deep neural
networks: efficient point selection"): 5/8 and 3/2, whose powers up to the third are exact in
float32, make a third to a half of the error of 1 and 2, for the same number of operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = tuple[tuple[float, ...], ...]
_KERNEL = 3
_PAIRS = {2: (Fraction(1),), 4: (Fraction(5, 8), Fraction(3, 2))}


@dataclass(frozen=True)
class Matrices:
    """``A^T`` (outputs, tile), ``B^T`` (tile, tile) and ``G`` (tile, 3) of one dimension.

    Rows of ``B^T`` and ``G`` and columns of ``A^T`` belong to the points 0, p, -p, q, -q,
    infinity, in this order.
    """

    outputs: Matrix
    inputs: Matrix
    weights: Matrix

    @property
    def tile(self) -> int:
        """Positions of an input tile along one axis."""
        return len(self.inputs)


def _times(a: Sequence[Fraction], b: Sequence[Fraction]) -> list[Fraction]:
    """The product of two polynomials, lowest power first."""
    result = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            result[i + j] += x * y
    return result


def _vanishing(points: Sequence[Fraction]) -> list[Fraction]:
    """The monic polynomial with these roots."""
    result = [Fraction(1)]
    for point in points:
        result = _times(result, [-point, Fraction(1)])
    return result


def _floats(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(float(x) for x in row) for row in rows)


@cache
def matrices(tile: int) -> Matrices:
    """Those for output tiles of ``tile`` (2 or 4) and kernels of 3."""
    points = [Fraction(0)]
    for p in _PAIRS[tile]:
        points += [p, -p]
    others = [[q for q in points if q != p] for p in points]
    last = [Fraction(0)] * (_KERNEL - 1) + [Fraction(1)]
    scales = [sum(_power_terms(_vanishing(o), p)) for o, p in zip(others, points, strict=True)]
    weights = [[p**i / s for i in range(_KERNEL)] for p, s in zip(points, scales, strict=True)]
    inputs = [[*_vanishing(o), Fraction(0)] for o in others]
    outputs = [
        [*(p**i for p in points), Fraction(int(i == tile - 1))] for i in range(tile)
    ]  # fmt: skip
    return Matrices(
        _floats(outputs), _floats([*inputs, _vanishing(points)]), _floats([*weights, last])
    )


@cache
def integer_matrices(tile: int) -> tuple[Matrices, int]:
    """Whole numbers in all three, for output tiles of ``tile``, and what outputs must be
    divided by: the points 0, 1, -1, 2, -2 and infinity.

    ``G`` times the least common multiple of its denominators, but for infinity's row, for which
    ``A^T`` has it: transformed weights of 8 bits then have 16, and so have transformed bytes.
    """
    points = [Fraction(0)]
    for p in range(1, tile // 2 + 1):
        points += [Fraction(p), Fraction(-p)]
    others = [[q for q in points if q != p] for p in points]
    scales = [sum(_power_terms(_vanishing(o), p)) for o, p in zip(others, points, strict=True)]
    multiple = lcm(*[int(scale) for scale in scales])
    weights = [
        [Fraction(p**i) * multiple / s for i in range(_KERNEL)]
        for p, s in zip(points, scales, strict=True)
    ]
    inputs = [[*_vanishing(o), Fraction(0)] for o in others]
    outputs = [
        [*(p**i for p in points), Fraction(multiple * (i == tile - 1))] for i in range(tile)
    ]  # fmt: skip
    last = [Fraction(0)] * (_KERNEL - 1) + [Fraction(1)]
    made = Matrices(
        _floats(outputs), _floats([*inputs, _vanishing(points)]), _floats([*weights, last])
    )
    return made, multiple**2


def _power_terms(polynomial: Sequence[Fraction], at: Fraction) -> list[Fraction]:
    return [c * at**i for i, c in enumerate(polynomial)]


def transformed_weights(weights: NDArray[Any], matrix: Matrix) -> NDArray[np.float64]:
    """``G g G^T`` of weights (O, I, 3, 3): float64 of shape (tile + 2, tile + 2, O, I)."""
    g = np.asarray(matrix)
    half = np.tensordot(g, np.asarray(weights, np.float64), axes=(1, 2))
    whole = np.tensordot(g, half, axes=(1, 3))
    return whole.transpose(1, 0, 2, 3)


def pack_weights(
    weights: NDArray[Any], tile: int, panels: int, columns: int
) -> NDArray[np.float32]:
    """Transformed weights as the products read them.

    Parameters
    ----------
    weights : (O, I, 3, 3)
    tile : positions of an output tile along one axis, 2 or 4.
    panels : register tiles side by side in a sweep.
    columns : output channels of a register tile.

    Returns
    -------
    (sweeps, (tile + 2)**2, panels, I, columns) of float32; channels past O are zero.
    """
    points = (tile + 2) ** 2
    flat = transformed_weights(weights, matrices(tile).weights).astype(np.float32)
    return in_sweeps(flat.reshape(points, *weights.shape[:2]), panels, columns)


def in_sweeps(flat: NDArray[Any], panels: int, columns: int) -> NDArray[Any]:
    """(points, O, steps) as (sweeps, points, panels, steps, columns), zeros past O."""
    points, outs, ins = flat.shape
    sweeps = -(-outs // (panels * columns))
    padded = np.zeros((points, sweeps * panels * columns, ins), flat.dtype)
    padded[:, :outs] = flat
    split = padded.reshape(points, sweeps, panels, columns, ins)
    return np.ascontiguousarray(split.transpose(1, 0, 2, 4, 3))
