"""Polynomials for exp, log, sigmoid, tanh and erf against double precision."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from kernel_runner import run_unit
from tvm import relax

GRID = np.concatenate([np.linspace(-100, 100, 20001), np.linspace(-4, 4, 20001)]).astype(np.float32)
SPECIAL = np.array([np.inf, -np.inf, np.nan, 0, 88.7, 88.8, -87.3, -1e9], np.float32)

FUNCTIONS = {
    "exp": (relax.op.exp, np.exp),
    "sigmoid": (relax.op.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (relax.op.tanh, np.tanh),
    "erf": (relax.op.erf, np.vectorize(math.erf)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_relative_error(name: str, tmp_path: Path):
    build, exact = FUNCTIONS[name]
    (y,) = run_unit(tmp_path, build, [GRID], [GRID])
    with np.errstate(over="ignore"):
        expected = exact(GRID.astype(np.float64))
    normal = (np.abs(expected) > 1.2e-38) & (np.abs(expected) < 3.4e38)
    error = np.abs(y[normal] / expected[normal] - 1)
    assert error.max() < 4e-7


def test_exp_at_the_ends(tmp_path: Path):
    (y,) = run_unit(tmp_path, relax.op.exp, [SPECIAL], [SPECIAL])
    assert y[0] == np.inf
    assert y[1] == 0
    assert np.isnan(y[2])
    assert y[3] == 1
    assert np.isfinite(y[4])
    assert y[5] == np.inf
    assert 0 < y[6] < 2e-38
    assert y[7] == 0


# One vector, vectors in fours, and what is left over of both.
@pytest.mark.parametrize("count", [1, 7, 8, 33, 64, 101])
def test_every_length(count: int, tmp_path: Path):
    x = np.linspace(-3, 3, count).astype(np.float32)
    (y,) = run_unit(tmp_path, relax.op.sigmoid, [x], [x])
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=4e-7)


def test_log_over_all_exponents(tmp_path: Path):
    x = np.arange(1, 0x7F800000, 65521, dtype=np.uint32).view(np.float32)
    x = np.concatenate([x, np.linspace(0.5, 2, 10001, dtype=np.float32)])
    (y,) = run_unit(tmp_path, relax.op.log, [x], [x])
    expected = np.log(x.astype(np.float64))
    assert (np.abs(y - expected) <= 1.0 * np.spacing(np.abs(expected).astype(np.float32))).all()


def test_log_at_the_ends(tmp_path: Path):
    x = np.array([0, -0.0, -1, -np.inf, np.inf, np.nan, 1, 1e-45], np.float32)
    (y,) = run_unit(tmp_path, relax.op.log, [x], [x])
    expected = np.array([-np.inf, -np.inf, np.nan, np.nan, np.inf, np.nan, 0, -103.27893])
    np.testing.assert_allclose(y, expected, rtol=1e-7)


def test_log_of_exp(tmp_path: Path):
    x = np.linspace(-10, 10, 999).astype(np.float32)
    (y,) = run_unit(tmp_path, relax.op.nn.softplus, [x], [x])
    np.testing.assert_allclose(y, np.log1p(np.exp(x.astype(np.float64))), atol=3e-7, rtol=4e-7)
