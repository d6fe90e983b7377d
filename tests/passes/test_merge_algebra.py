"""Convolutions in a row as one, in numbers: formulas worked out, and random pairs against a run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from motet.passes.merging.algebra import (
    Refusal,
    add_identity,
    chain,
    compose,
    outline,
    strips,
)
from motet.passes.merging.border import reach
from motet.passes.merging.convolution import Conv, affine, batch_norm, conv, pad

RNG = np.random.default_rng(3)


def random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def composed(first: Conv, second: Conv, spatial: tuple[int, ...] | None = None) -> Conv:
    made = compose(first, second, spatial)
    assert isinstance(made, Conv)
    return made


def test_the_formula_of_an_inverted_residual_block() -> None:
    e, d, p = random(12, 4, 1, 1), random(12, 1, 3, 3), random(5, 12, 1, 1)
    be, bd, bp = random(12), random(12), random(5)
    made = chain((conv(e, be), conv(d, bd, groups=12), conv(p, bp)))
    assert isinstance(made, Conv)
    e, d, p = e[:, :, 0, 0], d[:, 0], p[:, :, 0, 0]
    np.testing.assert_allclose(made.weight, np.einsum("om,muv,mi->oiuv", p, d, e), atol=1e-12)
    np.testing.assert_allclose(made.bias, bp + p @ (bd + be * d.sum(axis=(1, 2))), atol=1e-12)


def test_the_bias_map_of_a_padded_one() -> None:
    blocks = (
        conv(random(12, 4, 1, 1), random(12)),
        conv(random(12, 1, 3, 3), random(12), padding=(1,) * 4, groups=12),
        conv(random(4, 12, 1, 1), random(4)),
    )
    made = chain(blocks, (7, 6))
    assert isinstance(made, Conv)
    assert made.bias.shape == (4, 7, 6)
    x = random(2, 4, 7, 6)
    want = blocks[2](blocks[1](blocks[0](x)))
    np.testing.assert_allclose(made(x), want, atol=1e-12)
    with_shortcut = add_identity(made)
    assert isinstance(with_shortcut, Conv)
    np.testing.assert_allclose(with_shortcut(x), want + x, atol=1e-12)


def test_geometry_of_strided_and_dilated_ones() -> None:
    first = conv(random(3, 2, 3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    made = composed(first, conv(random(4, 3, 2, 2), stride=(2, 2)))
    assert (made.kernel, made.stride, made.padding) == ((5, 5), (4, 4), (1, 1, 1, 1))
    sparse = conv(random(3, 2, 3, 1), dilation=(2, 1))
    made = composed(sparse, conv(random(4, 3, 3, 1), dilation=(2, 1)))
    assert (made.kernel, made.dilation) == ((5, 1), (2, 1))


@pytest.mark.parametrize(
    ("groups", "result"),
    [((1, 1), 1), ((4, 1), 1), ((1, 4), 1), ((4, 4), 4), ((12, 4), 4), ((4, 6), 2)],
)
def test_groups(groups: tuple[int, int], result: int) -> None:
    first, second = (conv(random(12, 12 // g, 2, 2), groups=g) for g in groups)
    made = composed(first, second)
    assert made.groups == result
    x = random(1, 12, 5, 5)
    np.testing.assert_allclose(made(x), second(first(x)), atol=1e-10)


def test_batch_norm_and_padding_are_convolutions() -> None:
    gamma, beta, mean, variance = random(3), random(3), random(3), RNG.uniform(0.5, 2, 3)
    norm = batch_norm(gamma, beta, mean, variance, 1e-5)
    x = random(1, 3, 4, 4)
    scale = gamma / np.sqrt(variance + 1e-5)
    want = (x - mean[:, None, None]) * scale[:, None, None] + beta[:, None, None]
    np.testing.assert_allclose(norm(x), want, atol=1e-12)
    np.testing.assert_array_equal(
        pad((1, 0, 2, 0), 3)(x), np.pad(x, [(0, 0), (0, 0), (1, 2), (0, 0)])
    )


def test_a_shift_before_padding_becomes_a_map() -> None:
    made = chain(
        (affine(np.ones(2), np.arange(2.0), 2), conv(random(3, 2, 3, 3), padding=(1,) * 4)), (5, 5)
    )
    assert isinstance(made, Conv)
    assert made.bias.shape == (3, 5, 5)
    without = compose(
        affine(np.ones(2), np.zeros(2), 2), conv(random(3, 2, 3, 3), padding=(1,) * 4)
    )
    assert isinstance(without, Conv)
    assert without.bias.shape == (3,)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (conv(np.ones((2, 1, 1, 1))), conv(np.ones((2, 3, 1, 1))), "2 channels meet 3"),
        (
            conv(np.ones((1, 1, 3, 3)), padding=(1,) * 4),
            conv(np.ones((1, 1, 3, 3)), padding=(1,) * 4),
            "they differ at the border",
        ),
        (conv(np.ones((1, 1, 1, 1))), conv(np.ones((1, 1, 1, 1)), padding=(-1,) * 4), "crops"),
    ],
)
def test_refusals(first: Conv, second: Conv, reason: str) -> None:
    made = compose(first, second, (8, 8))
    assert isinstance(made, Refusal)
    assert reason in made.reason


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (conv(np.ones((2, 2, 3, 3)), padding=(1,) * 4, stride=(2, 2)), "stride 1"),
        (conv(np.ones((2, 2, 3, 3))), "the operand's size"),
        (conv(np.ones((2, 2, 2, 1)), padding=(1, 0, 1, 0), dilation=(2, 1)), "no tap"),
    ],
)
def test_a_shortcut_that_does_not_fit(made: Conv, reason: str) -> None:
    found = add_identity(made)
    assert isinstance(found, Refusal)
    assert reason in found.reason


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Conv, Conv, tuple[int, ...]]:
    rank = draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 999)))

    def one(groups: int) -> Conv:
        def each(low: int, high: int, count: int = rank) -> tuple[int, ...]:
            return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

        bias = rng.normal(size=12) if draw(st.booleans()) else None
        padding = each(0, 2, 2 * rank) if draw(st.booleans()) else (0,) * 2 * rank
        weight = rng.normal(size=(12, 12 // groups, *each(1, 3)))
        return conv(weight, bias, each(1, 3), padding, each(1, 2), groups)

    groups = st.sampled_from((1, 2, 3, 4, 6, 12))
    spatial = tuple(draw(st.integers(5, 12)) for _ in range(rank))
    first, second = one(draw(groups)), one(draw(groups))
    assume(min(first.sizes(spatial)) > 0)
    assume(min(second.sizes(first.sizes(spatial))) > 0)
    return first, second, spatial


@settings(max_examples=200, deadline=None)
@given(pairs())
def test_random_pairs(pair: tuple[Conv, Conv, tuple[int, ...]]) -> None:
    """Right where it merges, and elsewhere wrong in the strips alone."""
    first, second, spatial = pair
    x = np.random.default_rng(1).normal(size=(2, 12, *spatial))
    want = second(first(x))
    made = compose(first, second, spatial)
    if isinstance(made, Conv):
        np.testing.assert_allclose(made(x), want, atol=1e-9)
        shape = compose(outline(first), outline(second), spatial, values=False)
        assert isinstance(shape, Conv)
        assert shape.weight.shape == made.weight.shape
        assert shape.bias.shape in (made.bias.shape, want.shape[1:])
        return
    assert made.border
    inexact = compose(first, second, spatial, ignore_border=True)
    assert isinstance(inexact, Conv)
    widths, rank = strips((first, second), spatial), len(spatial)
    inner = tuple(
        slice(widths[a], max(widths[a], n - widths[rank + a])) for a, n in enumerate(want.shape[2:])
    )
    inside = (slice(None), slice(None), *inner)
    np.testing.assert_allclose(inexact(x)[inside], want[inside], atol=1e-9)
    near, far = reach(first, second, spatial)
    assert any(near) or any(far)
