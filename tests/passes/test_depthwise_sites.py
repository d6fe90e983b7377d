"""Which depthwise convolutions are found, and in which words others are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from relax_modules import named
from separable_networks import random
from tvm import relax

from motet.passes.separable.line_filters import assumed_moments, best_rank_one, crossed, mixed
from motet.passes.separable.sites import Site, sites_of


def site(body: Any, shape: tuple[Any, ...] = (1, 4, 9, 9), dtype: str = "float32") -> Site:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, dtype))
    weights = relax.Var("w", relax.TensorType((4, 1, 3, 3), "float32"))
    with builder.function("main", [x, weights]):
        with builder.dataflow():
            result = body(lambda call, name="n": builder.emit(call, name), x, weights)
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    (found,) = sites_of(named(builder.finalize())["main"])
    return found


def depthwise(emit: Any, x: Any, weight: Any = None, **options: Any) -> Any:
    weight = relax.const(random(4, 1, 3, 3)) if weight is None else weight
    return emit(relax.op.nn.conv2d(x, weight, **{"padding": 1, "groups": 4} | options), "dw")


def project(emit: Any, y: Any, channels: int = 4) -> Any:
    return emit(relax.op.nn.conv2d(y, relax.const(random(3, channels, 1, 1))), "p")


SYMBOL = tvm.tirx.Var("n", "int64")

REFUSED = [
    (lambda e, x, w: depthwise(e, x, w), "its weights are not constant"),
    (lambda e, x, w: depthwise(e, x, dilation=2), "it is dilated"),
    (
        lambda e, x, w: depthwise(e, x, relax.const(random(4, 1, 1, 1))),
        "its kernel is 1 x 1",
    ),
    (
        lambda e, x, w: depthwise(e, x, relax.const(random(4, 1, 1, 3))),
        "its kernel is of one dimension already (1 x 3)",
    ),
    (
        lambda e, x, w: depthwise(e, x, relax.const(random(4, 1, 4, 4))),
        "its kernel is even (4 x 4), so it has no middle",
    ),
    (
        lambda e, x, w: depthwise(e, x, relax.const(random(8, 1, 3, 3))),
        "it gives 2 channels for each that it reads",
    ),
]


@pytest.mark.parametrize(("body", "reason"), REFUSED)
def test_a_refusal_says_why(body: Any, reason: str) -> None:
    assert site(body).refusal == reason


def test_open_sizes_are_refused_only_where_the_input_would_be_cropped() -> None:
    padded = site(lambda e, x, w: project(e, depthwise(e, x)), (SYMBOL, 4, SYMBOL, 9))
    assert (padded.refusal, padded.full_refusal) == ("", "")
    cropped = site(lambda e, x, w: depthwise(e, x, padding=0), (1, 4, SYMBOL, 9))
    assert "its image's sizes are open" in cropped.refusal


FULL_REFUSED = [
    (lambda e, x, w: depthwise(e, x), "an output of the model has its channels"),
    (
        lambda e, x, w: e(relax.op.nn.relu(depthwise(e, x)), "act"),
        "an output of the model has its channels",
    ),
    (
        lambda e, x, w: e(relax.op.reshape(depthwise(e, x), (1, 324)), "flat"),
        "its channels are read by reshape (flat), which is no convolution of all",
    ),
    (
        lambda e, x, w: e(
            relax.op.nn.conv2d(depthwise(e, x), relax.const(random(4, 2, 1, 1)), groups=2), "g"
        ),
        "its channels are read by nn.conv2d (g), which is no convolution of all",
    ),
]


@pytest.mark.parametrize(("body", "reason"), FULL_REFUSED)
def test_full_says_what_reads_its_channels(body: Any, reason: str) -> None:
    found = site(body)
    assert found.refusal == ""
    assert found.full_refusal == reason


def test_float16_is_replaced_too() -> None:
    def body(e: Any, x: Any, w: Any) -> Any:
        weight = relax.const(random(4, 1, 3, 3).astype(np.float16))
        return depthwise(e, x, weight)

    assert site(body, dtype="float16").refusal == ""


def gated(e: Any, x: Any, w: Any) -> Any:
    """Squeeze-and-excitation, with a scale per channel behind it."""
    y = e(relax.op.nn.relu(depthwise(e, x)), "act")
    mean = e(relax.op.mean(y, axis=[2, 3], keepdims=True), "mean")
    gate = e(relax.op.nn.conv2d(mean, relax.const(random(4, 4, 1, 1))), "fc")
    y = e(relax.op.multiply(y, e(relax.op.sigmoid(gate), "gate")), "mul")
    y = e(relax.op.add(y, relax.const(random(1, 4, 1, 1))), "shift")
    return project(e, y)


def test_a_gate_and_a_constant_are_widened() -> None:
    found = site(gated)
    assert found.full_refusal == ""
    assert [layer.nodes for layer in found.readers] == [("fc",), ("p",)]
    assert found.widened_nodes == ("mul", "shift")
    assert found.producer is None


RNG = np.random.default_rng(2)


def test_lines_are_of_least_error_by_the_moments() -> None:
    """Against numpy's least squares on samples drawn with those moments."""
    kernels = RNG.standard_normal((3, 3, 3))
    moments = assumed_moments((3, 3))
    lines = mixed(kernels, moments)
    root = np.linalg.cholesky(moments.second[0])
    for channel, kernel in enumerate(kernels):
        wanted = root.T @ kernel.ravel()
        row = np.linalg.lstsq(root.T[:, 3:6], wanted, rcond=None)[0]
        column = np.linalg.lstsq(root.T[:, 1::3], wanted, rcond=None)[0]
        np.testing.assert_allclose(lines.row[channel], row, rtol=1e-3)
        np.testing.assert_allclose(lines.column[channel], column, rtol=1e-3)
        both = np.stack([root.T[:, 3:6] @ row, root.T[:, 1::3] @ column], 1)
        mix = np.linalg.lstsq(both, wanted, rcond=None)[0]
        np.testing.assert_allclose(lines.mix[channel], mix, rtol=1e-3)
        left = np.square(wanted - root.T[:, 3:6] @ row).sum()
        assert lines.row_error[channel] == pytest.approx(left, rel=1e-3)


def test_uncorrelated_values_leave_the_middle_as_it_is() -> None:
    kernels = RNG.standard_normal((2, 5, 5))
    lines = crossed(kernels, assumed_moments((5, 5), 0.0))
    cross = lines.shares()
    np.testing.assert_allclose(cross[:, 2], kernels[:, 2], rtol=1e-5)
    np.testing.assert_allclose(cross[:, :, 2], kernels[:, :, 2], rtol=1e-5)


def test_rank_one_is_the_nearest_separable_kernel() -> None:
    kernels = RNG.standard_normal((2, 3, 5))
    made = best_rank_one(kernels)
    sigma = np.linalg.svd(kernels, compute_uv=False)
    for kernel, near, values in zip(kernels, made, sigma, strict=True):
        assert np.linalg.matrix_rank(near) == 1
        assert np.linalg.norm(kernel - near) == pytest.approx(np.sqrt((values[1:] ** 2).sum()))
    moments = assumed_moments((3, 5))
    fit, separable = (mixed(kernels, moments, rank_one=one) for one in (False, True))
    assert (fit.row_error <= separable.row_error + 1e-9).all()
