"""Winograd's convolution of bytes: equal to int64 sums, up to the largest that it may be given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cost_model import assert_measured, convolution
from test_host_blocked_integers import Case, check

from motet.targets.host.cost_model.unit_builders import measurable
from motet.targets.host.families import families
from motet.targets.host.kernels.blocked_conv import integer_family, integer_winograd
from motet.targets.host.kernels.blocked_conv.integer_groups import fit_fours
from motet.targets.host.kernels.blocked_conv.winograd_matrices import integer_matrices
from motet.targets.host.machine import Machine, machine_for, native_machine
from motet.targets.host.space import Point, Problem

pytestmark = pytest.mark.skipif(
    native_machine().multiplies_bytes or native_machine().arch != "x86_64",
    reason="fours are for x86 without VNNI",
)
EVERY = [(size, order) for size in (2, 4) for order in (0, 1)]
CASES = {
    "inside": Case((1, 16, 12, 16), 32, (3, 3)),
    "odd extents": Case((2, 24, 13, 11), 40, (3, 3), pad=1),
    "much padding": Case((1, 16, 5, 6), 16, (3, 3), pad=3),
    "smaller than a tile": Case((1, 8, 1, 2), 8, (3, 3), pad=1),
    "plain output, open batch": Case(
        (3, 16, 9, 14), 21, (3, 3), pad=1, blocked=(True, False), symbolic=True
    ),
    "largest sums": Case((1, 224, 10, 9), 16, (3, 3), pad=1, extreme=True),
}


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(integer_winograd, "pays", lambda _problem: True)


def taking(size: int, order: int | None = None) -> Callable[[Sequence[Point]], Point]:
    """The first point of this tile, in this order of loops."""

    def pick(points: Sequence[Point]) -> Point:
        fitting = [p for p in points if p["algorithm"] == size]
        return next(p for p in fitting if order is None or p["order"] == order)

    return pick


@pytest.mark.parametrize("size", [2, 4])
def test_matrices_are_whole_and_compute_a_multiple_of_a_correlation(size: int):
    m, divisor = integer_matrices(size)
    inputs, weights, outputs = (np.array(x) for x in (m.inputs, m.weights, m.outputs))
    for matrix in (inputs, weights, outputs):
        assert np.array_equal(matrix, np.rint(matrix))
    chance = np.random.default_rng(size)
    d, g = chance.integers(0, 256, (size + 2, size + 2)), chance.integers(-128, 128, (3, 3))
    product = (weights @ g @ weights.T) * (inputs @ d @ inputs.T)
    expected = [
        [(d[i : i + 3, j : j + 3] * g).sum() for j in range(size)] for i in range(size)
    ]  # fmt: skip
    np.testing.assert_array_equal(outputs @ product @ outputs.T, divisor * np.array(expected))
    assert 255 * abs(inputs).sum(1).max() ** 2 < 2**15
    assert 128 * abs(weights).sum(1).max() ** 2 < 2**15


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("size", "order"), EVERY)
def test_convolution(name: str, size: int, order: int, tmp_path: Path):
    check(CASES[name], tmp_path, pick=taking(size, order))


@pytest.mark.parametrize("size", [2, 4])
def test_narrow_vectors(size: int, tmp_path: Path):
    check(CASES["odd extents"], tmp_path, machine_for("x86-64-v2"), taking(size))


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    case=st.builds(
        Case,
        st.tuples(st.integers(1, 2), st.just(16), st.integers(3, 19), st.integers(3, 19)),
        st.sampled_from((8, 24, 64)), st.just((3, 3)), pad=st.integers(0, 3),
        extreme=st.booleans(),
    ),
    pick=st.integers(0, 100),
)  # fmt: skip
def test_any_convolution_at_any_point(case: Case, pick: int, tmp_path: Path):
    check(case, tmp_path, pick=lambda points: points[pick % len(points)])


def test_weights_whose_sums_could_pass_26_bits_are_refused():
    weights = np.zeros((2, 2060, 8, 8), np.int8)
    weights[1] = -1
    assert not fit_fours(weights)
    weights[1, 2056:] = 0
    assert 255 * 2056 * 64 < 2**25 < 255 * 2057 * 64
    assert fit_fours(weights)
    large = np.full((8, 512, 3, 3), 64, np.int8)
    with pytest.raises(ValueError, match="25 bits"):
        integer_winograd.packed_weights(large, 4, 1, 16)


def test_points_are_tiles_first_and_all_can_be_described():
    ones = ("groups", "stride_h", "stride_w", "dilation_h", "dilation_w", "top", "left")
    sizes = {
        "batch": 1, "channels": 64, "outs": 64, "height": 28, "width": 28, "out_height": 28,
        "out_width": 28, "kernel_h": 3, "kernel_w": 3, "block": 8, "block_in": 8,
        "block_out": 8, "prologue": 0, "constant": 1, "reassociate": 1, **dict.fromkeys(ones, 1),
    }  # fmt: skip
    problem, machine = Problem.of(integer_family.TILED_NAME, **sizes), _avx2()
    points = integer_family.TILED.points(problem, machine)
    assert points[0]["algorithm"] == 4
    assert {p["algorithm"] for p in points} == {0, 2, 4}
    nests = [integer_family.TILED.describe(problem, p, machine) for p in points]
    assert all(nest.flops == nests[-1].flops * (4 if p["algorithm"] else 1)
               for p, nest in zip(points, nests, strict=True))  # fmt: skip


def _avx2() -> Machine:
    return machine_for("x86-64-v3")


def test_the_cost_models_unit_asks_for_its_problem():
    plain = convolution(channels=64, outs=64, height=28, width=28, out_height=28, out_width=28)
    sizes = {**dict(plain.sizes), "reassociate": 1}
    problem = Problem.of(integer_family.TILED_NAME, **sizes)
    assert integer_family.uncounted(integer_family.counted(problem)) == problem
    assert not measurable(integer_family.counted(problem))
    assert_measured(problem, families()[integer_family.TILED_NAME])
