"""The count of ulps, and its claim on a coarse sample."""

from __future__ import annotations

import numpy as np

from motet.benchmarks.fast_math_ulp import errors, measure

STRIDE = 65_537  # one chunk: every exponent, and other last bits each time


def test_an_ulp_is_the_distance_of_neighbours():
    x = np.ones(3, np.float32)
    y = np.array([1.0, np.nextafter(np.float32(1), np.float32(2)), 0.0], np.float32)
    ulp, wrong = errors(x, y, np.array([1.0, 1.0, 1e-40]))
    assert ulp[:2].tolist() == [0, 1]
    assert ulp[2] < 1
    assert wrong == 0


def test_wrong_kinds_of_value_are_counted():
    x = np.ones(3, np.float32)
    y = np.array([np.nan, np.inf, 1.0], np.float32)
    assert errors(x, y, np.array([1.0, 1.0, np.nan]))[1] == 3


def test_claimed_errors():
    limits = {"exp": 2.0, "log": 1.0, "sigmoid": 3.0, "tanh": 4.0, "erf": 6.0}
    for name, limit in limits.items():
        found = measure(name, STRIDE, lambda _: None)
        assert found.ulp <= limit, name
        assert found.ulp_near_zero <= 4
        assert not found.wrong
