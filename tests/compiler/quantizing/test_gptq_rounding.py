"""Rounding by products: never worse than to the nearest on the data, near the best there is."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from motet.compiler.calibration.moments import Moments
from motet.compiler.quantizing.rounding import errors, rounded
from motet.targets.quantized.types import QuantType

RNG = np.random.default_rng(0)


def problem(
    groups: int, outputs: int, depth: int, bits: int, columns: int = 200
) -> tuple[np.ndarray, np.ndarray, np.ndarray, QuantType, np.ndarray]:
    """Weights, steps, H and type of data whose elements depend on each other, and the data."""
    kind = QuantType(bits, granularity="channel")
    mixing = RNG.standard_normal((groups, depth, depth))
    data = mixing @ RNG.standard_normal((groups, depth, columns)) + 1
    weights = RNG.standard_normal((groups, outputs, depth))
    steps = np.abs(weights).max(-1, keepdims=True) / kind.largest
    steps = np.broadcast_to(steps, weights.shape)
    second = data @ data.transpose(0, 2, 1) / columns
    return weights, steps, second, kind, data


def nearest(weights: np.ndarray, steps: np.ndarray, kind: QuantType) -> np.ndarray:
    return np.clip(np.rint(weights / steps), kind.least, kind.largest)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 6, 40), (16, 1, 9), (4, 3, 1)])
def test_products_never_err_more_than_with_the_nearest(
    shape: tuple[int, int, int], bits: int
) -> None:
    weights, steps, second, kind, data = problem(*shape, bits)
    integers = rounded(weights, steps, second, kind)
    assert (integers == np.rint(integers)).all()
    assert np.abs(integers).max() <= kind.largest
    found = np.square((weights - integers * steps) @ data).sum(-1)
    plain = np.square((weights - nearest(weights, steps, kind) * steps) @ data).sum(-1)
    assert (found <= plain * (1 + 1e-9)).all()
    if shape[2] > 1:
        assert found.sum() < 0.8 * plain.sum()


def test_each_integer_is_the_best_given_the_others() -> None:
    weights, steps, second, kind, _ = problem(3, 4, 9, 4)
    integers = rounded(weights, steps, second, kind, sweeps=100)
    least = errors(weights, integers * steps, second)
    for place, move in product(range(9), (-1, 1)):
        other = integers.copy()
        other[..., place] = np.clip(other[..., place] + move, kind.least, kind.largest)
        assert (errors(weights, other * steps, second) >= least * (1 - 1e-9)).all()


def test_near_the_best_of_all_integers_where_they_can_be_tried() -> None:
    shares = []
    for _ in range(20):
        weights, steps, second, kind, _ = problem(1, 1, 4, 2)  # 3^4 choices
        tried = np.array(list(product((-1, 0, 1), repeat=4)), float)[None]
        best = errors(weights, tried * steps[:, :1], second).min()
        found = errors(weights, rounded(weights, steps, second, kind) * steps, second)
        plain = errors(weights, nearest(weights, steps, kind) * steps, second)
        assert best * (1 - 1e-9) <= found[0, 0] <= plain[0, 0] * (1 + 1e-9)
        shares.append((found[0, 0] - best) / max(plain[0, 0] - best, 1e-12))
    assert np.mean(np.array(shares) < 1e-6) >= 0.5  # the best itself, in most


def test_inputs_that_are_independent_leave_the_nearest() -> None:
    weights, steps, _, kind, _ = problem(2, 5, 12, 4)
    second = np.broadcast_to(np.diag(RNG.uniform(0.5, 2, 12)), (2, 12, 12))
    np.testing.assert_array_equal(
        rounded(weights, steps, second, kind), nearest(weights, steps, kind)
    )


def test_steps_of_zero_and_inputs_that_are_always_zero() -> None:
    weights, steps, second, kind, _ = problem(1, 3, 8, 4)
    steps, second = steps.copy(), second.copy()
    steps[:, 1] = 0
    second[:, 2], second[:, :, 2] = 0, 0
    integers = rounded(weights, steps, second, kind)
    assert not integers[:, 1].any()
    assert np.isfinite(integers).all()


def test_moments_are_those_of_all_columns_at_once() -> None:
    columns = (RNG.standard_normal((3, 5, 400)) + 2).astype(np.float32)
    moments = Moments(3, 5, with_gram=True)
    for piece in np.split(columns, 8, axis=-1):
        moments.add_sample(piece)
        moments.add_sum(piece.sum(-1, dtype=np.float64), piece.shape[-1])
    np.testing.assert_allclose(moments.mean, columns.mean(-1, dtype=np.float64), rtol=1e-6)
    wide = columns.astype(np.float64)
    whole = np.stack([each @ each.T / 400 for each in wide])
    np.testing.assert_allclose(moments.second(centred=False), whole, rtol=1e-5)
    covariance = np.stack([np.cov(each, bias=True) for each in wide])
    np.testing.assert_allclose(moments.second(centred=True), covariance, rtol=1e-4, atol=1e-4)
