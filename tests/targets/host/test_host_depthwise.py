"""Depthwise convolution in the blocked layout against a sum over taps in float64."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runner import Array, run_unit
from tvm import relax

from motet.targets.host.kernels.blocked_conv import depthwise
from motet.targets.host.machine import machine_for, native_machine
from motet.targets.host.space import Family, Point, Problem, selecting

R = relax.op
BLOCK = 8
Pair = tuple[int, int]


def blocked(x: Array) -> Array:
    n, c, h, w = x.shape
    return np.ascontiguousarray(x.reshape(n, c // BLOCK, BLOCK, h, w).transpose(0, 1, 3, 4, 2))


def reference(x: Array, w: Array, strides: Pair, dilation: Pair, pads: list[int]) -> Array:
    top, left, bottom, right = pads
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    kernel = w.shape[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]
    return np.einsum("nchwij,cij->nchw", windows, w[:, 0].astype(np.float64))


def run(
    folder: Path, x: Array, w: Array, strides: Pair, dilation: Pair, pads: list[int],
    prologue: bool = False, constant: bool = True, symbolic: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """(result, expected) of the convolution between |x| or x, and a bias and ReLU6."""
    channels = x.shape[1]
    bias = np.linspace(-1, 1, channels, dtype=np.float32)

    def build(x: Any, w: Any, b: Any) -> Any:
        x = R.abs(x) if prologue else x
        y = R.nn.conv2d(
            x, w, strides, pads, dilation, groups=channels, data_layout="NCHW8c",
            kernel_layout="OIHW", out_layout="NCHW8c",
        )  # fmt: skip
        return R.clip(R.add(y, b), 0, 6)

    want = reference(np.abs(x) if prologue else x, w, strides, dilation, pads)
    want = blocked(np.clip(want + bias[:, None, None], 0, 6))
    b = bias.reshape(1, channels // BLOCK, 1, 1, BLOCK)
    xb = blocked(x)
    shapes: Any = [("n", *xb.shape[1:]), w.shape, b.shape] if symbolic else None
    like = want.astype(np.float32)
    (got,) = run_unit(folder, build, [xb, w, b], [like], (1, 2) if constant else (), shapes)
    return got, want


def normal(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_any_window(data: st.DataObject) -> None:
    def pair(values: Any) -> Pair:
        return data.draw(values), data.draw(values)

    kernel, strides = pair(st.integers(1, 5)), pair(st.integers(1, 3))
    dilation = pair(st.sampled_from([1, 1, 2, 4]))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = [data.draw(st.integers(0, r)) for r in reach * 2]
    height, width = (max(s, r) for s, r in zip(pair(st.integers(1, 24)), reach, strict=True))
    batch, blocks = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    prologue, constant, symbolic = (data.draw(st.booleans()) for _ in range(3))
    x = normal((batch, blocks * BLOCK, height, width), 1)
    w = normal((blocks * BLOCK, 1, *kernel), 2)
    with tempfile.TemporaryDirectory() as folder:
        got, want = run(Path(folder), x, w, strides, dilation, pads, prologue, constant, symbolic)
    np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize("columns", [1, 3, 8])
@pytest.mark.parametrize("copy", [0, 1])
def test_any_tile(columns: int, copy: int, tmp_path: Path) -> None:
    x, w = normal((1, 16, 13, 19), 3), normal((16, 1, 3, 3), 4)
    point = Point.of(algorithm=1, columns=columns, rows=4, copy=copy)

    def select(_f: Family, _p: Problem, _points: object, _m: object) -> Point:
        return point

    with selecting(select):
        got, want = run(tmp_path, x, w, (1, 2), (1, 1), [1, 1, 1, 1])
    np.testing.assert_allclose(got, want, atol=2e-5)


def problem(**changes: int) -> Problem:
    sizes = {
        "batch": 1, "channels": 64, "outs": 64, "groups": 64, "height": 14, "width": 14,
        "out_height": 14, "out_width": 14, "kernel_h": 3, "kernel_w": 3, "stride_h": 1,
        "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "top": 1, "left": 1, "block": 8,
        "block_in": 8, "block_out": 8, "prologue": 0, "constant": 1, "reassociate": 1,
    }  # fmt: skip
    return Problem.of("blocked_conv", **{**sizes, **changes})


@pytest.mark.parametrize("changes", [{"groups": 32}, {"outs": 128}, {"block_out": 0}], ids=str)
def test_other_convolutions_are_left_to_others(changes: dict[str, int]) -> None:
    assert depthwise.applies(problem())
    assert not depthwise.applies(problem(**changes))


def test_a_computed_input_is_copied_once() -> None:
    machine = native_machine()
    assert {p["copy"] for p in depthwise.points(problem(prologue=1), machine)} == {1}
    assert depthwise.points(problem(), machine)[0]["copy"] == 0


def test_numbers_of_the_nest() -> None:
    machine = machine_for("x86-64-v3")
    point = depthwise.points(problem(), machine)[0]
    nest = depthwise.describe(problem(), point, machine)
    assert nest.flops == 2 * 64 * 9 * 14 * 14
    assert nest.read_bytes == nest.written_bytes == 4 * 64 * 14 * 14
    assert nest.weight_bytes == 4 * 64 * 9
    assert nest.tasks == 8
