"""Element-wise operators, reductions, pooling, normalisation and data movement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_runner import Array, run_unit
from tvm import relax

from motet.runtime.errors import UnsupportedOperatorError
from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import native_machine

R = relax.op
X = np.random.default_rng(0).standard_normal((2, 5, 33, 37)).astype(np.float32)


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def pooled(x: Array, stride: int, reduce: Callable[..., Array], fill: float) -> Array:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return reduce(windows[:, :, ::stride, ::stride], (-1, -2)).astype(np.float32)


Case = tuple[Callable[..., Any], Array | list[Array]]
ONE_INPUT: dict[str, Case] = {
    "sum_of_rows": (lambda x: R.sum(x, axis=[3]), X.sum(3)),
    "sum_of_planes": (
        lambda x: R.mean(x, axis=[2, 3], keepdims=True),
        X.mean((2, 3), keepdims=True),
    ),
    "sum_of_outer_axis": (lambda x: R.sum(x, axis=[0]), X.sum(0)),
    "maximum_of_channels": (lambda x: R.max(x, axis=[1]), X.max(1)),
    "product_of_rows": (lambda x: R.prod(x, axis=[-1]), X.prod(-1)),
    "softmax_of_rows": (R.nn.softmax, softmax(X)),
    "softmax_of_channels": (lambda x: R.nn.softmax(x, axis=1), softmax(X, 1)),
    "log_softmax": (R.nn.log_softmax, np.log(softmax(X))),
    "max_pool_stride_2": (
        lambda x: R.nn.max_pool2d(x, (3, 3), (2, 2), (1, 1)),
        pooled(X, 2, np.max, -np.inf),
    ),
    "max_pool_stride_1": (
        lambda x: R.nn.max_pool2d(x, (3, 3), (1, 1), (1, 1)),
        pooled(X, 1, np.max, -np.inf),
    ),
    "average_pool": (
        lambda x: R.nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1), count_include_pad=True),
        pooled(X, 2, np.mean, 0),
    ),
    "clip": (lambda x: R.clip(x, 0.0, 0.5), np.clip(X, 0, 0.5)),
    "swish": (R.nn.silu, X / (1 + np.exp(-X))),
    "sqrt": (lambda x: R.sqrt(R.add(R.multiply(x, x), relax.const(1.0))), np.sqrt(X * X + 1)),
    "transpose": (lambda x: R.permute_dims(x, [0, 2, 3, 1]), X.transpose(0, 2, 3, 1)),
    "slice": (lambda x: R.strided_slice(x, [2], [1], [30], [3]), X[:, :, 1:30:3]),
    "pad": (
        lambda x: R.nn.pad(x, [0, 0, 0, 0, 1, 1, 2, 2]),
        np.pad(X, ((0, 0), (0, 0), (1, 1), (2, 2))),
    ),
    "argmax": (lambda x: R.argmax(x, axis=3), X.argmax(3)),
    "cumulative_sum": (lambda x: R.cumsum(x, axis=2), X.cumsum(2)),
    "sort": (lambda x: R.sort(x, axis=2, descending=True), -np.sort(-X, 2)),
    "argsort": (lambda x: R.argsort(x, axis=3), X.argsort(3).astype(np.int32)),
    "top_k": (
        lambda x: R.topk(x, 5),
        [-np.sort(-X, 3)[..., :5], np.argsort(-X, 3)[..., :5].astype(np.int32)],
    ),
    "split": (lambda x: R.split(x, [2, 3], axis=1), [X[:, :2], X[:, 2:3], X[:, 3:]]),
    "cast": (
        lambda x: R.astype(R.multiply(x, relax.const(10.0)), "int8"),
        (X * 10).astype(np.int8),
    ),
    "concatenation": (
        lambda x: R.concat([x, R.nn.relu(x)], axis=1),
        np.concatenate([X, np.maximum(X, 0)], 1),
    ),
}


@pytest.mark.parametrize("batch", ["n", 2])
@pytest.mark.parametrize("name", ONE_INPUT)
def test_operator(name: str, batch: int | str, tmp_path: Path):
    build, expected = ONE_INPUT[name]
    outputs = expected if isinstance(expected, list) else [expected]
    got = run_unit(tmp_path, build, [X], outputs, shapes=[(batch, 5, 33, 37)])
    for y, e in zip(got, outputs, strict=True):
        assert np.allclose(y, e, rtol=2e-5, atol=1e-5)


def test_layer_norm(tmp_path: Path):
    rng = np.random.default_rng(1)
    x, g, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, 33, 70), (70,), (70,)))
    spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    expected = (x - x.mean(-1, keepdims=True)) / spread * g + b

    def build(x, g, b):
        return R.nn.layer_norm(x, g, b, axes=[-1])

    shapes = [("n", 33, 70), (70,), (70,)]
    (y,) = run_unit(tmp_path, build, [x, g, b], [expected], (1, 2), shapes)
    assert np.abs(y - expected).max() <= 1e-5


def test_arguments_in_the_order_of_the_unit(tmp_path: Path):
    a, b = X, X[::-1].copy()
    (y,) = run_unit(tmp_path, lambda a, b: R.subtract(b, a), [a, b], [a])
    assert np.array_equal(y, b - a)


def test_parameter_that_is_not_read(tmp_path: Path):
    (y,) = run_unit(tmp_path, lambda a, b: R.nn.relu(b), [X[:1], X], [X])
    assert np.array_equal(y, np.maximum(X, 0))


def test_gather_rows(tmp_path: Path):
    table, rows = X[0, 0], np.array([3, 0, 32, 7])
    (y,) = run_unit(tmp_path, lambda t, i: R.take(t, i, axis=0), [table, rows], [table[rows]])
    assert np.array_equal(y, table[rows])


def test_equal_elements_keep_their_order(tmp_path: Path):
    x = np.array([[1, 3, 3, 2, 3, 1]], np.float32)
    like = [np.zeros((1, 4), np.float32), np.zeros((1, 4), np.int32)]
    values, indices = run_unit(tmp_path, lambda x: R.topk(x, 4), [x], like)
    assert values.tolist() == [[3, 3, 3, 2]]
    assert indices.tolist() == [[1, 2, 4, 3]]


def test_size_that_occurs_only_in_an_expression(tmp_path: Path):
    from tvm import tirx

    x = X[0, :, :7, :8].copy()
    batch, tokens = tirx.Var("b", "int64"), tirx.Var("t", "int64")
    length = tirx.floordiv(tokens - 1, 2) * 3 + 1

    def build(p):
        return R.permute_dims(p, [1, 0, 2])

    (y,) = run_unit(tmp_path, build, [x], [x.transpose(1, 0, 2)], shapes=[(batch, length, 8)])
    assert np.array_equal(y, x.transpose(1, 0, 2))


def test_operator_without_a_kernel_is_named():
    from kernel_runner import unit_of

    unit = unit_of([(3, 4)], ["float32"], lambda x: R.nonzero(x))
    with pytest.raises(UnsupportedOperatorError, match="nonzero"):
        lower_unit(unit, frozenset(), native_machine())
