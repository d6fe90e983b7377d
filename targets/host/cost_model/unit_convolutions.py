"""Builds the units that ask for blocked convolutions, of float32 and of integers.

A float32 one comes with bias and ReLU; one of bytes with bias and the rounding to bytes behind
it, and with a zero point before it where its problem is one of pairs (``integer_groups``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from motet.targets.host.blocked import blocked_layout
from motet.targets.host.cost_model.unit_function import Unit, float_unit, size_of, unit_function
from motet.targets.host.kernels.blocked_conv import depthwise
from motet.targets.host.kernels.blocked_conv.integer_family import tiles_pay, uncounted
from motet.targets.host.kernels.blocked_conv.integer_groups import FOURS, PAIRS
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Problem

_ZERO_POINT = 120


def blocked_conv(problem: Problem) -> Unit:
    """[relu](x) convolved with W, plus bias, ReLU."""
    p = problem

    def build(data: Any, kernel: Any, bias: Any) -> Any:
        x = relax.op.nn.relu(data) if p["prologue"] else data
        conv = _conv(p, x, kernel, p["block_in"], "float32")
        return relax.op.nn.relu(relax.op.add(conv, bias))

    shapes = _shapes(p, p["channels"], p["block_in"])
    known = frozenset({1, 2} if p["constant"] else {2})
    return Unit(float_unit(shapes, build), known, KernelOptions(reassociate=bool(p["reassociate"])))


def blocked_conv_integer(problem: Problem) -> Unit:
    """(x - zero point) convolved with W, plus bias, scaled and rounded to bytes."""
    p = problem
    channels, block_in = _channels_and_block(p)

    def build(data: Any, kernel: Any, bias: Any, scale: Any) -> Any:
        op = relax.op
        x = data
        if p["prologue"]:
            x = op.subtract(op.astype(data, "int16"), relax.const(_ZERO_POINT, "int16"))
        sums = op.add(_conv(p, x, kernel, block_in, "int32"), bias)
        scaled = op.multiply(op.astype(sums, "float32"), scale)
        unit, middle = relax.const(np.float32(1)), relax.const(np.uint8(_ZERO_POINT))
        return op.quantize(scaled, unit, middle, -1, "uint8")

    x, weights, outs = _shapes(p, channels, block_in)
    function = unit_function([x, weights, outs, outs], ["uint8", "int8", "int32", "float32"], build)
    known = frozenset({1, 2, 3} if p["constant"] else {2, 3})
    # Which fours of channels are summed together depends on their weights (``chains``).
    values = {1: _typical(weights)} if dict(p.sizes).get("group") == FOURS.size else {}
    return Unit(function, known, KernelOptions(), values)


def _typical(shape: Sequence[int | str]) -> NDArray[np.int8]:
    """Normal weights of 7 bits, with as many deviations to the largest as a channel has."""
    drawn = np.random.default_rng(0).standard_normal(4093) * (63 / 3.5)
    sizes = [int(d) for d in shape]
    return np.resize(np.clip(np.rint(drawn), -63, 63).astype(np.int8), sizes)


def _channels_and_block(problem: Problem) -> tuple[int, int]:
    """Input channels, and those of a block, of an integer problem, which counts groups of them.

    Of channels in the plain layout the last pair is taken to have one, as those of colours do.
    """
    p = problem
    if depthwise.applies(p):
        return p["channels"], p["block_in"]
    size = dict(p.sizes)["group"]
    channels = p["channels"] * size
    return (channels if p["block_in"] else channels - p["groups"]), p["block_in"] * size


def measurable_integer(problem: Problem) -> bool:
    """Whether ``blocked_conv_integer`` makes a unit that asks for ``problem``."""
    p = problem
    if depthwise.applies(p):
        return True
    fours = dict(p.sizes)["group"] == FOURS.size
    # Bytes as they are by weights that a run computes are pairs without a zero point.
    # Plain fours, which only VNNI has, are units of that machine alone.
    # Fours for which tiles pay are a problem of another family.
    exists = p["constant"] and p["block_in"] and not (fours and tiles_pay(uncounted(p)))
    return bool(exists) if fours else dict(p.sizes)["group"] == PAIRS.size


def _shapes(p: Problem, channels: int, block_in: int) -> list[list[int | str]]:
    """Of the input, the weights, and a value for each output channel."""
    batch, plane, block_out = size_of(p, "batch"), [p["height"], p["width"]], p["block_out"]
    x = [batch, channels, *plane]
    if block_in:
        x = [batch, channels // block_in, *plane, block_in]
    weights = [p["outs"], channels // p["groups"], p["kernel_h"], p["kernel_w"]]
    outs = [1, p["outs"] // block_out, 1, 1, block_out] if block_out else [1, p["outs"], 1, 1]
    return [x, [*weights], [*outs]]


def _conv(p: Problem, x: Any, kernel: Any, block_in: int, dtype: str) -> Any:
    return relax.op.nn.conv2d(
        x,
        kernel,
        strides=[p["stride_h"], p["stride_w"]],
        padding=padding_of(p),
        dilation=[p["dilation_h"], p["dilation_w"]],
        groups=p["groups"],
        data_layout=blocked_layout(block_in),
        kernel_layout="OIHW",
        out_layout=blocked_layout(p["block_out"]),
        out_dtype=dtype,
    )


def padding_of(p: Problem) -> Sequence[int]:
    """(top, left, bottom, right): the far sides pad what the output's size needs."""
    far = []
    for size, out, kernel, stride, dilation, near in (
        (p["height"], p["out_height"], p["kernel_h"], p["stride_h"], p["dilation_h"], p["top"]),
        (p["width"], p["out_width"], p["kernel_w"], p["stride_w"], p["dilation_w"], p["left"]),
    ):
        reach = (out - 1) * stride + (kernel - 1) * dilation + 1
        far.append(max(0, reach - size - near))
    return [p["top"], p["left"], *far]
