"""Rounding weights so that products, not weights, are near: GPTQ, and descent after it.

Of a product with weights W [outputs, K] and columns x, the steps D of whose integers Q are
fixed, what counts is

    |W X - (Q D) X|^2 = sum over outputs of e H e^T,    e = w - q d,   H = X X^T

H comes from calibration. Columns of W are rounded one after another, those whose inputs are
largest first; what each loses is taken up by those that are not rounded yet, by the rows of the
Cholesky factor of H's inverse (GPTQ). Then, element by element, each integer goes to the best
one given all others, which can only gain. An output whose error is less with weights rounded
to nearest keeps those. With vectors the steps are fixed before, so that the order is free.

Source: Frantar et al., "GPTQ" (ICLR 2023, arXiv 2210.17323), section 3, algorithm 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motet.targets.quantized.types import QuantType

Reals64 = NDArray[np.float64]

DAMPING = 0.01
"""Of the mean diagonal, added to it: the paper's (section 3, step 3)."""

SWEEPS = 4
"""Most rounds of descent."""

LARGEST_DEPTH = 8192
"""Deepest sum that is rounded so: H takes 512 MB."""


def rounded(
    weights: Reals64, steps: Reals64, second: Reals64, kind: QuantType, sweeps: int = SWEEPS
) -> Reals64:
    """Integers for ``weights``, whose products err less on the data than those of the nearest.

    Parameters
    ----------
    weights, steps: [groups, outputs, K]; a step of 0 has the integer 0.
    second: H, [groups, K, K]: the mean of x x^T, or the covariance of x where the mean is made
        right by a bias. kind: whose range the integers keep to.

    Returns
    -------
    [groups, outputs, K], whole numbers.
    """
    nearest = _to_range(weights, steps, kind)
    greedy = _greedy(weights, steps, second, kind)
    worse = errors(weights, greedy * steps, second) > errors(weights, nearest * steps, second)
    integers = np.where(worse[..., None], nearest, greedy)
    for _ in range(sweeps):
        if not _descend(integers, weights, steps, second, kind):
            break
    return integers


def errors(weights: Reals64, kept: Reals64, second: Reals64) -> Reals64:
    """The error e H e^T of every output, [groups, outputs]."""
    lost = weights - kept
    return np.asarray(((lost @ second) * lost).sum(-1))


def _greedy(weights: Reals64, steps: Reals64, second: Reals64, kind: QuantType) -> Reals64:
    depth = weights.shape[-1]
    diagonal = np.einsum("gkk->gk", second)
    order = np.argsort(-diagonal, axis=-1, kind="stable")
    factor = _factor(np.take_along_axis(
        np.take_along_axis(second, order[:, :, None], 1), order[:, None, :], 2
    ))  # fmt: skip
    left = np.take_along_axis(weights, order[:, None, :], 2)
    ordered = np.take_along_axis(steps, order[:, None, :], 2)
    found = np.zeros_like(left)
    for k in range(depth):
        found[..., k] = _to_range(left[..., k], ordered[..., k], kind)
        lost = (left[..., k] - found[..., k] * ordered[..., k]) / factor[:, k, k][:, None]
        left[..., k + 1 :] -= lost[..., None] * factor[:, None, k, k + 1 :]
    result = np.empty_like(found)
    np.put_along_axis(result, np.broadcast_to(order[:, None, :], found.shape), found, 2)
    return result


def _factor(second: Reals64) -> Reals64:
    """The upper Cholesky factor U of the damped inverse, U^T U."""
    depth = second.shape[-1]
    mean = np.einsum("gkk->g", second) / depth
    damping = np.where(mean > 0, DAMPING * mean, 1.0)
    while True:
        inverse = np.linalg.inv(second + damping[:, None, None] * np.eye(depth))
        inverse = (inverse + inverse.transpose(0, 2, 1)) / 2
        try:
            return np.asarray(np.linalg.cholesky(inverse).transpose(0, 2, 1))
        except np.linalg.LinAlgError:  # a covariance of few samples, to rounding
            damping *= 10


def _descend(
    integers: Reals64, weights: Reals64, steps: Reals64, second: Reals64, kind: QuantType
) -> bool:
    """One round over all elements, in place; whether any integer changed."""
    pull = (weights - integers * steps) @ second  # e H
    changed = False
    for k in range(weights.shape[-1]):
        own = second[:, k, k][:, None]
        step = steps[..., k]
        gain = np.divide(pull[..., k], own, out=np.zeros_like(step), where=own > 0)
        best = _to_range(integers[..., k] * step + gain, step, kind)
        moved = best - integers[..., k]
        # Halves may go either way for ever; only what gains is taken.
        better = np.abs(gain - moved * step) < np.abs(gain) * (1 - 1e-12)
        moved = np.where(better, moved, 0.0)
        if moved.any():
            changed = True
            integers[..., k] += moved
            pull -= (moved * step)[..., None] * second[:, None, k, :]
    return changed


def _to_range(values: Reals64, steps: Reals64, kind: QuantType) -> Reals64:
    ratio = np.divide(values, steps, out=np.zeros_like(values), where=steps > 0)
    return np.clip(np.rint(ratio), kind.least, kind.largest)
