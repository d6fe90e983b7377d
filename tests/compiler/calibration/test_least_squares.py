"""Streamed fits equal numpy's over all samples, and never make the calibration error larger."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.compiler.calibration.least_squares import AffineFit, KernelFit, patches
from motet.passes.merging.convolution import Conv, conv

SEEDS = st.integers(0, 2**16)


@st.composite
def convolutions(draw: st.DrawFn) -> Conv:
    """Small convolutions of one or two axes, grouped, strided, dilated, unevenly padded."""
    rank, groups = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2]))
    random = np.random.default_rng(draw(SEEDS))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    channels = groups * draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return conv(
        random.standard_normal((channels[0], channels[1], *kernel)),
        random.standard_normal(channels[0]),
        [draw(st.integers(1, 2)) for _ in range(rank)],
        [draw(st.integers(0, 2)) for _ in range(2 * rank)],
        [draw(st.integers(1, 2)) for _ in range(rank)],
        groups,
    )


def _operands(of: Conv, seed: int, count: int = 3) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((count, of.in_channels, *(6, 7)[: of.rank]))


@given(convolutions(), SEEDS)
@settings(max_examples=50, deadline=None)
def test_patches_times_the_kernel_are_the_convolution(of: Conv, seed: int) -> None:
    x = _operands(of, seed)
    parts = []
    for group, operand in enumerate(np.split(x, of.groups, axis=1)):
        kernel = np.split(of.weight, of.groups)[group]
        flat = kernel.reshape(len(kernel), -1)
        parts.append(np.einsum("ok,nk...->no...", flat, patches(operand, of)))
    made = np.concatenate(parts, axis=1) + of.bias.reshape(-1, *(1,) * of.rank)
    np.testing.assert_allclose(made, of(x), atol=1e-10)


@given(convolutions(), SEEDS, st.floats(1e-8, 10.0))
@settings(max_examples=50, deadline=None)
def test_a_refit_never_increases_the_error(of: Conv, seed: int, ridge: float) -> None:
    x = _operands(of, seed)
    wanted = np.clip(of(x), 0, 1) + 0.1
    fit = KernelFit(of)
    for start in range(len(x)):
        fit.add(x[start : start + 1], wanted[start : start + 1])
    before, after = ((of(x) - wanted) ** 2).sum(), ((fit.refitted(ridge)(x) - wanted) ** 2).sum()
    assert after <= before * (1 + 1e-9)
    corrected = ((fit.bias_corrected()(x) - wanted) ** 2).sum()
    np.testing.assert_allclose(fit.bias_errors(), (before, corrected), rtol=1e-6, atol=1e-8)
    told = fit.errors(ridge)
    np.testing.assert_allclose(told, (before, after), rtol=1e-6, atol=1e-8)


@given(convolutions(), SEEDS)
@settings(max_examples=30, deadline=None)
def test_an_exact_kernel_is_left_as_it_is(of: Conv, seed: int) -> None:
    x = _operands(of, seed)
    fit = KernelFit(of)
    fit.add(x, of(x))
    made = fit.refitted()
    np.testing.assert_allclose(made.weight, of.weight, atol=1e-8)
    np.testing.assert_allclose(made.bias, of.bias, atol=1e-8)
    np.testing.assert_allclose(fit.bias_corrected().bias, of.bias, atol=1e-10)


@given(convolutions(), SEEDS)
@settings(max_examples=30, deadline=None)
def test_without_a_ridge_to_speak_of_it_is_numpys_least_squares(of: Conv, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = _operands(of, seed, 24)
    wanted = random.standard_normal(of(x).shape)
    fit = KernelFit(of)
    fit.add(x, wanted)
    made = fit.refitted(1e-13)
    rows = np.moveaxis(patches(np.split(x, of.groups, axis=1)[0], of), 1, -1)
    matrix = np.concatenate([rows.reshape(-1, rows.shape[-1]), np.ones((rows[..., 0].size, 1))], 1)
    target = np.moveaxis(np.split(wanted, of.groups, axis=1)[0], 1, -1)
    best, residual, rank, _ = np.linalg.lstsq(matrix, target.reshape(len(matrix), -1), rcond=None)
    if rank < matrix.shape[1] or not residual.size:
        return
    first = np.split(made.weight, of.groups)[0]
    np.testing.assert_allclose(first.reshape(len(first), -1), best[:-1].T, atol=1e-6)


def test_only_the_positions_that_count_are_fitted() -> None:
    of = conv(np.zeros((1, 1, 1)), padding=(0, 0))
    x = np.ones((1, 1, 4))
    fit = KernelFit(of, (slice(1, 3),))
    fit.add(x, np.array([[[9.0, 2.0, 2.0, 9.0]]]))
    made = fit.refitted(1e-9)
    np.testing.assert_allclose(made(x)[0, 0], 2.0, atol=1e-6)
    assert fit.errors(1e-9)[0] == pytest.approx(8.0)


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_the_affine_fit_is_numpys_however_samples_are_cut(seed: int, pieces: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((10, 3, 4)) + 100.0
    y = np.clip(x, 99.5, 101.0)
    fit = AffineFit(3)
    for part_x, part_y in zip(np.array_split(x, pieces), np.array_split(y, pieces), strict=True):
        fit.add(part_x, part_y)
    left, total = 0.0, 0.0
    for channel in range(3):
        one, other = x[:, channel].ravel(), y[:, channel].ravel()
        want = np.polyfit(one - 100, other, 1)
        scale, shift = fit.scale_and_shift[:, channel]
        np.testing.assert_allclose([scale, shift + 100 * scale], want, atol=1e-8)
        left += ((scale * one + shift - other) ** 2).sum()
        total += ((other - other.mean()) ** 2).sum()
    assert fit.error == pytest.approx(left / total, abs=1e-8)


def test_an_activation_that_did_nothing_is_exactly_the_identity() -> None:
    x = np.random.default_rng(0).random((4, 2, 3))
    fit = AffineFit(2)
    fit.add(x, np.clip(x, 0, 6))
    assert fit.scale_and_shift.tolist() == [[1, 1], [0, 0]]
    assert fit.error == 0


def test_an_operand_that_never_varies_gives_the_mean() -> None:
    fit = AffineFit(1)
    fit.add(np.full((2, 1, 3), -2.0), np.zeros((2, 1, 3)))
    assert fit.scale_and_shift.tolist() == [[0], [0]]
