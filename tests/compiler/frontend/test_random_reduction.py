"""Reductions and normalisations over random shapes, axes and types; axes of no elements too."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_uses import Draw, Use, check_uses, drawn, int64, seeds

SUMS = ("ReduceSum", "ReduceProd", "ReduceL1", "ReduceSumSquare")
FLOATING = ("ReduceMean", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp")


def reduction(draw: Draw) -> Use:
    op = draw.of(*SUMS, *FLOATING, "ReduceMax", "ReduceMin")
    types = ["float32", "float64"] if op in FLOATING else ["float32", "float64", "int32", "int64"]
    low = 0.1 if op == "ReduceLogSum" else -2
    x = draw.tensor(draw.shape(1, 4), draw.of(*types), low, 2)
    axes = [a - draw.of(0, x.ndim) for a in draw.some(x.ndim)]
    given = {"keepdims": draw.int(0, 1)}
    if draw.int(0, 3) == 0:
        given["noop_with_empty_axes"] = draw.int(0, 1)
    return Use(op, {"x": x}, {"a": int64(*axes)} if axes else {}, given)


def of_nothing(draw: Draw) -> Use:
    """Over an axis without elements: what ONNX says, never what lay in memory."""
    op = draw.of("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
                 "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")  # fmt: skip
    dims = [draw.int(1, 3) for _ in range(draw.int(1, 3))]
    axis = draw.int(0, len(dims) - 1)
    dims[axis] = 0
    x = np.zeros(dims, "float32")
    return Use(op, {"x": x}, {"a": int64(axis)}, {"keepdims": draw.int(0, 1)})


def softmax(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 4), draw.of("float32", "float64"), -90, 90)
    op, axis = draw.of("Softmax", "LogSoftmax", "Hardmax"), draw.axis(x.ndim)
    given = {"axis": axis} if draw.flag() else {}
    if op != "LogSoftmax":
        return Use(op, {"x": x}, attributes=given)
    wide = x.astype("float64") - x.max(given.get("axis", -1), keepdims=True)
    # onnx's evaluator takes the logarithm of what has become 0.
    want = wide - np.log(np.exp(wide).sum(given.get("axis", -1), keepdims=True))
    return Use(op, {"x": x}, attributes=given, want=[want.astype(x.dtype)])


def layer_norm(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(2, 4))
    axis = draw.axis(x.ndim)
    shape = x.shape[axis:]
    constants = {"s": draw.tensor(shape)} | ({"b": draw.tensor(shape)} if draw.flag() else {})
    given = {"axis": axis, "epsilon": draw.of(1e-5, 1e-3)}
    return Use("LayerNormalization", {"x": x}, constants, given, outputs=draw.of(1, 3))


def batch_norm(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(2, 4))
    channels = x.shape[1]
    constants = {n: draw.tensor((channels,)) for n in ("s", "b", "m")}
    constants["v"] = draw.tensor((channels,), low=0.1)
    return Use("BatchNormalization", {"x": x}, constants, {"epsilon": draw.of(1e-5, 1e-2)})


def instance_norm(draw: Draw) -> Use:
    x = draw.tensor((draw.int(1, 2), draw.int(1, 4), *draw.shape(1, 2, 6)))
    constants = {"s": draw.tensor((x.shape[1],)), "b": draw.tensor((x.shape[1],))}
    return Use("InstanceNormalization", {"x": x}, constants)


def lp_norm(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 3))
    p, axis = draw.of(1, 2), draw.axis(x.ndim)
    norm = np.linalg.norm(x.astype("float64"), p, axis, keepdims=True)
    want = [(x / norm).astype("float32")]
    return Use("LpNormalization", {"x": x}, attributes={"axis": axis, "p": p}, want=want)


def response(draw: Draw) -> Use:
    """LRN, whose window is to the right of the middle where its size is even."""
    x = draw.tensor((1, draw.int(1, 7), draw.int(1, 3), draw.int(1, 3)))
    size, alpha, beta, bias = draw.int(1, 6), 0.3, draw.of(0.5, 0.75), draw.of(1.0, 2.0)
    total = np.zeros(x.shape)
    for c in range(x.shape[1]):
        near = slice(max(0, c - (size - 1) // 2), c + size // 2 + 1)
        total[:, c] = (x.astype("float64")[:, near] ** 2).sum(1)
    want = [(x / (bias + alpha / size * total) ** beta).astype("float32")]
    given = {"size": size, "alpha": alpha, "beta": beta, "bias": bias}
    return Use("LRN", {"x": x}, attributes=given, want=want)


def mean_variance(draw: Draw) -> Use:
    x = draw.tensor((draw.int(2, 3), draw.int(1, 3), draw.int(2, 4), draw.int(2, 4)))
    given: dict[str, Any] = {"axes": draw.of([0, 2, 3], [2, 3], [1, 2, 3])} if draw.flag() else {}
    return Use("MeanVarianceNormalization", {"x": x}, attributes=given)


def rms_norm(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(2, 4))
    axis = draw.axis(x.ndim)
    constants = {"s": draw.tensor(x.shape[axis:])}
    return Use("RMSNormalization", {"x": x}, constants, {"axis": axis})


def group_norm(draw: Draw) -> Use:
    groups = draw.int(1, 3)
    channels = groups * draw.int(1, 3)
    x = draw.tensor((draw.int(1, 2), channels, *draw.shape(1, 2, 5)))
    constants = {n: draw.tensor((channels,)) for n in ("s", "b")}
    return Use("GroupNormalization", {"x": x}, constants, {"num_groups": groups})


@seeds(3)
def test_reductions(seed: int) -> None:
    check_uses([*drawn(seed, 8, reduction), *drawn(seed, 4, of_nothing)])


@seeds(3)
def test_normalisations(seed: int) -> None:
    uses = drawn(
        seed, 2, softmax, layer_norm, batch_norm, instance_norm, lp_norm, response, mean_variance
    )
    check_uses(uses, rtol=1e-4, atol=1e-4)


@seeds(2)
def test_normalisations_of_opset_23(seed: int) -> None:
    check_uses(drawn(seed, 3, rms_norm, group_norm), opset=23, rtol=1e-4, atol=1e-4)
