"""Matrix products against numpy."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runner import Array, run_unit
from tvm import relax

from motet.targets.host.kernels.matmul.points import DOTS, describe
from motet.targets.host.machine import Machine, native_machine
from motet.targets.host.space import Family, Point, Problem, forced, selecting

SHAPES = [
    ((37, 29), (29, 45)),
    ((1, 64), (64, 100)),
    ((5, 64), (64, 1)),
    ((3, 37, 29), (29, 16)),
    ((2, 3, 17, 8), (2, 3, 8, 33)),
    ((2, 1, 7, 8), (1, 3, 8, 9)),
    ((29,), (29, 45)),
    ((4, 29), (29,)),
    ((96, 128), (128, 256)),
]


def normal(shape: tuple[int, ...], seed: int, dtype: str = "float32") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_product(left: tuple[int, ...], right: tuple[int, ...], constant: bool, tmp_path: Path):
    a, b = normal(left, 1), normal(right, 2)
    expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
    like = expected.astype(np.float32)
    (y,) = run_unit(tmp_path, relax.op.matmul, [a, b], [like], (1,) if constant else ())
    assert np.abs(y - expected).max() <= 5e-5


@pytest.mark.parametrize("rows", [1, 5, 6, 7, 40])
def test_open_row_count_with_bias_and_activation(rows: int, tmp_path: Path):
    a, b, c = normal((2, rows, 33), 1), normal((33, 50), 2), normal((50,), 3)
    expected = np.maximum(a @ b + c, 0)

    def build(a, b, c):
        return relax.op.nn.relu(relax.op.add(relax.op.matmul(a, b), c))

    shapes = [("n", "m", 33), (33, 50), (50,)]
    (y,) = run_unit(tmp_path, build, [a, b, c], [expected], (1, 2), shapes)
    assert np.abs(y - expected).max() <= 5e-5


def test_all_sizes_open_as_in_attention(tmp_path: Path):
    q, k = normal((2, 3, 13, 8), 1), normal((2, 3, 21, 8), 2)
    expected = q @ k.swapaxes(-1, -2) * np.float32(0.25)

    def build(q, k):
        scores = relax.op.matmul(q, relax.op.permute_dims(k, [0, 1, 3, 2]))
        return relax.op.multiply(scores, relax.const(0.25, "float32"))

    shapes = [("b", "h", "m", "k"), ("b", "h", "n", "k")]
    (y,) = run_unit(tmp_path, build, [q, k], [expected], (), shapes)
    assert np.abs(y - expected).max() <= 2e-5


@pytest.mark.parametrize("constant", [False, True])
def test_transposed_weights(constant: bool, tmp_path: Path):
    a, b = normal((20, 33), 1), normal((50, 33), 2)

    def build(a, b):
        return relax.op.matmul(a, relax.op.permute_dims(b, [1, 0]))

    (y,) = run_unit(tmp_path, build, [a, b], [a @ b.T], (1,) if constant else ())
    assert np.abs(y - a @ b.T).max() <= 5e-5


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 5e-2), ("float64", 1e-12)])
def test_other_types(dtype: str, tolerance: float, tmp_path: Path):
    a, b = normal((20, 33), 1, dtype), normal((33, 18), 2, dtype)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    (y,) = run_unit(tmp_path, relax.op.matmul, [a, b], [expected.astype(dtype)])
    assert np.abs(y - expected).max() <= tolerance


def test_integers_are_exact(tmp_path: Path):
    rng = np.random.default_rng(0)
    a = rng.integers(-1000, 1000, (7, 33)).astype(np.int32)
    b = rng.integers(-1000, 1000, (33, 9)).astype(np.int32)
    (y,) = run_unit(tmp_path, relax.op.matmul, [a, b], [a @ b])
    assert np.array_equal(y, a @ b)


@pytest.mark.parametrize("rows", [1, 3, 4])
@pytest.mark.parametrize("columns", [64, 97, 203])
def test_few_rows_read_the_right_operand_in_place(rows: int, columns: int, tmp_path: Path):
    rng = np.random.default_rng(rows)
    a = rng.standard_normal((2, 3, rows, 31)).astype(np.float32)
    b = rng.standard_normal((3, 31, columns)).astype(np.float32)
    c = rng.standard_normal(columns).astype(np.float32)
    expected = np.maximum(a.astype(np.float64) @ b + c, 0)

    def build(a, b, c):
        return relax.op.nn.relu(relax.op.add(relax.op.matmul(a, b), c))

    (y,) = run_unit(tmp_path, build, [a, b, c], [expected.astype(np.float32)])
    assert np.abs(y - expected).max() <= 2e-5


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("depth", "columns"), [(64, 40), (37, 21), (5, 1)])
def test_few_rows_of_a_transposed_operand_are_dot_products(
    rows: int, depth: int, columns: int, tmp_path: Path
):
    a, b = normal((2, rows, depth), 1), normal((2, columns, depth), 2)
    expected = a.astype(np.float64) @ b.swapaxes(-1, -2)

    def build(a, b):
        return relax.op.matmul(a, relax.op.permute_dims(b, [0, 2, 1]))

    (y,) = run_unit(tmp_path, build, [a, b], [expected.astype(np.float32)])
    assert np.abs(y - expected).max() <= 2e-5


BATCHED_LEFT = [
    ((5, 1, 29), (29, 45), ("s", 1, 29)),
    ((2, 3, 1, 29), (29, 45), ("b", "s", 1, 29)),
    ((2, 4, 7, 8), (2, 1, 8, 33), (2, 4, "m", 8)),
    ((3, 4, 1, 8), (1, 1, 8, 33), ("a", "b", "c", 8)),
]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(("left", "right", "names"), BATCHED_LEFT)
def test_batch_axes_of_the_left_side_alone_count_as_rows(
    left: tuple[int, ...], right: tuple[int, ...], names: tuple[int | str, ...], is_open: bool,
    constant: bool, tmp_path: Path,
):  # fmt: skip
    a, b, c = normal(left, 1), normal(right, 2), normal((*left[:-1], right[-1]), 3)
    expected = a.astype(np.float64) @ b + c

    def build(a, b, c):
        return relax.op.add(relax.op.matmul(a, b), c)

    shapes = [names, right, (*names[:-1], right[-1])] if is_open else None
    like = expected.astype(np.float32)
    (y,) = run_unit(tmp_path, build, [a, b, c], [like], (1,) if constant else (), shapes)
    assert np.abs(y - expected).max() <= 5e-5


class _Collected:
    """A selector that keeps what it was asked, and takes the first point."""

    def __init__(self) -> None:
        self.problem: Problem | None = None
        self.points: Sequence[Point] = ()

    def __call__(
        self, family: Family, problem: Problem, points: Sequence[Point], machine: Machine
    ) -> Point:
        self.problem, self.points = problem, points
        return points[0]


@settings(max_examples=12, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(data=st.data())
def test_every_point_gives_the_same_product(data: st.DataObject, tmp_path: Path):
    size = st.integers(1, 70)
    m, k, n, batch = data.draw(size), data.draw(size), data.draw(size), data.draw(st.integers(1, 3))
    constant, transposed, relu = (data.draw(st.booleans()) for _ in range(3))
    is_open = data.draw(st.booleans())
    a, w = normal((batch, m, k), 1), normal((batch, n, k) if transposed else (batch, k, n), 2)
    expected = a.astype(np.float64) @ (w.swapaxes(-1, -2) if transposed else w)
    expected = np.maximum(expected, 0) if relu else expected

    def build(a, w):
        y = relax.op.matmul(a, relax.op.permute_dims(w, [0, 2, 1]) if transposed else w)
        return relax.op.nn.relu(y) if relu else y

    def run() -> Array:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        shapes = [(batch, "m", k), w.shape] if is_open else None
        fixed = (1,) if constant else ()
        return run_unit(folder, build, [a, w], [expected.astype(np.float32)], fixed, shapes)[0]

    collected = _Collected()
    with selecting(collected):
        assert np.abs(run() - expected).max() <= 1e-4
    assert collected.problem is not None
    assert len(set(collected.points)) == len(collected.points) <= 64
    dots = [p for p in collected.points if p["right"] == DOTS]
    for point in [data.draw(st.sampled_from(collected.points)), *dots[:1]]:
        with forced({collected.problem: point}):
            assert np.abs(run() - expected).max() <= 1e-4, point.key
        nest = describe(collected.problem, point, native_machine())
        assert nest.executed_flops >= nest.flops > 0
        assert nest.tasks >= 1


@pytest.mark.parametrize("columns", [40, 203])
def test_long_sums_are_cut_into_blocks(columns: int, tmp_path: Path):
    a, w, c = normal((2, 133, 1100), 1), normal((2, 1100, columns), 2), normal((columns,), 3)
    expected = np.maximum(a.astype(np.float64) @ w + c, 0)

    def build(a, w, c):
        return relax.op.nn.relu(relax.op.add(relax.op.matmul(a, w), c))

    def run(constants: Sequence[int]) -> Array:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        return run_unit(folder, build, [a, w, c], [expected.astype(np.float32)], constants)[0]

    collected = _Collected()
    with selecting(collected):
        assert np.abs(run(()) - expected).max() <= 3e-4
    assert collected.problem is not None
    deep = [p for p in collected.points if p["depth"]]
    assert deep
    for point in deep[::4]:
        with forced({collected.problem: point}):
            assert np.abs(run(()) - expected).max() <= 3e-4, point.key
    assert np.abs(run((1, 2)) - expected).max() <= 3e-4
