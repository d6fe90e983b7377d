"""Softmax, normalisations and statistics of rows against numpy in double precision."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runner import Array, run_unit, unit_of
from tvm import relax

from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import Machine

R = relax.op
TWO_CORES = Machine("x86-64-v3", 2, 32, ())
EPSILON = 1e-5


def softmax(x: Array, axis: int = -1) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def normalized(x: Array, axes: tuple[int, ...]) -> Array:
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + EPSILON))


def layer_norm(x: Array) -> Array:
    return normalized(x, (-1,))


CASES: dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array]]] = {
    "softmax": (lambda x: R.nn.softmax(x, -1), softmax),
    "softmax then scale": (lambda x: R.multiply(R.nn.softmax(x, -1), relax.const(3.0, "float32")),
                           lambda x: 3 * softmax(x)),
    "log_softmax": (lambda x: R.nn.log_softmax(x, -1), lambda x: np.log(softmax(x))),
    "variance": (lambda x: R.variance(x, -1), lambda x: x.var(-1)),
    "deviation": (lambda x: R.std(x, -1, True), lambda x: x.std(-1, keepdims=True)),
    "mean": (lambda x: R.mean(x, -1, True), lambda x: x.mean(-1, keepdims=True)),
    "centred": (lambda x: R.subtract(x, R.mean(x, -1, True)),
                lambda x: x - x.mean(-1, keepdims=True)),
    "range": (lambda x: R.subtract(R.max(x, -1), R.min(x, -1)), lambda x: x.max(-1) - x.min(-1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=5, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    lead=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    length=st.integers(1, 150),
    open_rows=st.booleans(),
    open_length=st.booleans(),
)
def test_along_the_last_axis(
    name: str, lead: list[int], length: int, open_rows: bool, open_length: bool, tmp_path: Path
):
    build, reference = CASES[name]
    x = (np.random.default_rng(length).standard_normal((*lead, length)) * 4 + 7).astype(np.float32)
    expected = reference(x.astype(np.float64))
    names = [f"d{i}" for i in range(len(lead))]
    shape = [*(names if open_rows else lead), "n" if open_length else length]
    folder = Path(tempfile.mkdtemp(dir=tmp_path))  # a loaded library must not be overwritten
    (y,) = run_unit(folder, build, [x], [expected.astype(np.float32)], (), [shape])
    assert np.abs(y - expected).max() <= 2e-5


@pytest.mark.parametrize("shape", [(2, 9, 5, 7), (1, 3, 8), (2, 5, 1, 1), (1, 4, 3, 6, 3)])
@pytest.mark.parametrize("far", [0.0, 300.0])
def test_instance_norm(shape: tuple[int, ...], far: float, tmp_path: Path):
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(shape) + far).astype(np.float32)
    scale, shift = rng.standard_normal((2, shape[1])).astype(np.float32)
    axes = tuple(range(2, len(shape)))
    wide = (-1, *[1] * len(axes))
    expected = normalized(x.astype(np.float64), axes) * scale.reshape(wide) + shift.reshape(wide)

    def build(x, scale, shift):
        return R.nn.instance_norm(x, scale, shift, 1, list(axes), EPSILON)

    (y,) = run_unit(tmp_path, build, [x, scale, shift], [expected.astype(np.float32)], (1, 2))
    assert np.abs(y - expected).max() <= (2e-5 if far == 0 else 1e-3)


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (8, 8), (6, 1), (12, 4)])
@pytest.mark.parametrize("plane", [(5, 7), (4, 8), (1, 1), (11,)])
def test_group_norm(channels: int, groups: int, plane: tuple[int, ...], tmp_path: Path):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, channels, *plane)).astype(np.float32)
    scale, shift = rng.standard_normal((2, channels)).astype(np.float32)
    apart = x.astype(np.float64).reshape(2, groups, -1)
    wide = (-1, *[1] * len(plane))
    expected = normalized(apart, (-1,)).reshape(x.shape) * scale.reshape(wide)
    expected = expected + shift.reshape(wide)

    def build(x, scale, shift):
        axes = list(range(2, 2 + len(plane)))
        return R.nn.group_norm(x, scale, shift, groups, 1, axes, EPSILON)

    (y,) = run_unit(tmp_path, build, [x, scale, shift], [expected.astype(np.float32)])
    assert np.abs(y - expected).max() <= 2e-5


@pytest.mark.parametrize("shape", [(3, 37), (2, 5, 64), (1, 1, 7), (4, 9, 6)])
@pytest.mark.parametrize("axes", [(-1,), (-2, -1)])
def test_layer_norm_with_residual_and_activation(
    shape: tuple[int, ...], axes: tuple[int, ...], tmp_path: Path
):
    rng = np.random.default_rng(3)
    x, r = rng.standard_normal((2, *shape)).astype(np.float32)
    g, b = rng.standard_normal((2, *shape[len(shape) - len(axes) :])).astype(np.float32)
    total = x.astype(np.float64) + r
    expected = np.maximum(normalized(total, axes) * g + b, 0)

    def build(x, r, g, b):
        return R.nn.relu(R.nn.layer_norm(R.add(x, r), g, b, list(axes), EPSILON))

    (y,) = run_unit(tmp_path, build, [x, r, g, b], [expected.astype(np.float32)], (2, 3))
    assert np.abs(y - expected).max() <= 2e-5


def test_rms_norm(tmp_path: Path):
    rng = np.random.default_rng(4)
    x, g = rng.standard_normal((5, 45)).astype(np.float32), rng.standard_normal(45)
    expected = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + EPSILON) * g

    def build(x, g):
        return R.nn.rms_norm(x, g, [-1], EPSILON)

    inputs = [x, g.astype(np.float32)]
    (y,) = run_unit(tmp_path, build, inputs, [expected.astype(np.float32)])
    assert np.abs(y - expected).max() <= 2e-5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_along_any_axis(axis: int, tmp_path: Path):
    x = np.random.default_rng(5).standard_normal((9, 21, 13)).astype(np.float32)
    expected = softmax(x.astype(np.float64), axis)
    (y,) = run_unit(tmp_path, lambda x: R.nn.softmax(x, axis), [x], [x])
    assert np.abs(y - expected).max() <= 1e-6


def test_masked_places_of_a_softmax_are_exactly_0_and_nan_stays(tmp_path: Path):
    x = np.random.default_rng(6).standard_normal((4, 21)).astype(np.float32)
    x[0, 3:] = -np.inf
    x[1, ::2] = -np.finfo(np.float32).max
    x[2, 5] = np.nan
    x[3, 20] = 3e38
    (y,) = run_unit(tmp_path, lambda x: R.nn.softmax(x, -1), [x], [x])
    assert not y[0, 3:].any()
    assert abs(y[0].sum() - 1) < 1e-6
    assert not y[1, ::2].any()
    assert abs(y[1].sum() - 1) < 1e-6
    assert np.isnan(y[2]).all()
    assert y[3, 20] == 1
    assert not y[3, :20].any()


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types(dtype: str, tmp_path: Path):
    x = np.random.default_rng(7).standard_normal((3, 45)).astype(dtype)
    expected = softmax(x.astype(np.float64))
    (y,) = run_unit(tmp_path, lambda x: R.nn.softmax(x, -1), [x], [x])
    assert np.abs(y - expected).max() <= (1e-3 if dtype == "float16" else 1e-12)


def parallel_loops(shape: tuple[int | str, ...], axis: int) -> int:
    unit = unit_of([shape], ["float32"], lambda x: R.nn.softmax(x, axis))
    return str(lower_unit(unit, frozenset(), TWO_CORES).func.script()).count("T.parallel(")


def test_softmax_is_one_loop_over_rows():
    assert parallel_loops((64, 1000), -1) == parallel_loops(("n", 1000), -1) == 1
    assert parallel_loops((64, 1000), 0) > 1
    assert parallel_loops((1, 100_000), -1) >= 1
