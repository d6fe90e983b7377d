"""Winograd's convolutions in the blocked layout against numpy in float64."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runner import Array, run_unit, unit_of
from tvm import relax

from motet.targets.host.kernels.blocked_conv import winograd
from motet.targets.host.kernels.blocked_conv.winograd_matrices import matrices, pack_weights
from motet.targets.host.kernels.blocked_conv.winograd_plan import LOCAL, SHARED, plan_of
from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import machine_for, native_machine
from motet.targets.host.object_code import compile_kernel
from motet.targets.host.space import Family, Point, Problem, Selector, selecting

BLOCK = native_machine().vector_bytes // 4
EVERY = [(size, order) for size in (2, 4) for order in (LOCAL, SHARED)]


def normal(shape: Sequence[int], seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def blocked(x: Array, block: int = BLOCK) -> Array:
    n, c, h, w = x.shape
    return x.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2).copy()


def convolution(x: Array, w: Array, padding: Sequence[int]) -> Array:
    top, left, bottom, right = padding
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, w.astype(np.float64), optimize=True)


def taking(**knobs: int) -> Selector:
    """Selects the first point with these knobs."""

    def select(_: Family, __: Problem, points: Sequence[Point], ___: Any) -> Point:
        return next(p for p in points if all(p[name] == v for name, v in knobs.items()))

    return select


def conv(x: Any, w: Any, padding: Sequence[int], plain: bool = False, block: int = BLOCK) -> Any:
    layout = f"NCHW{block}c"
    return relax.op.nn.conv2d(
        x, w, padding=list(padding), data_layout=layout, kernel_layout="OIHW",
        out_layout="NCHW" if plain else layout,
    )  # fmt: skip


def relative_error(got: Array, expected: Array) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def run(
    folder: Path, x: Array, w: Array, padding: Sequence[int], selector: Selector,
    plain: bool = False, open_batch: bool = False,
) -> float:  # fmt: skip
    """The largest error relative to the largest output."""
    expected = convolution(x, w, padding)
    expected = expected if plain else blocked(expected)
    inputs = [blocked(x), w]
    shapes: list[list[int | str]] = [list(i.shape) for i in inputs]
    if open_batch:
        shapes[0][0] = "n"
    with selecting(selector):
        (y,) = run_unit(
            folder, lambda x, w: conv(x, w, padding, plain), inputs,
            [expected.astype(np.float32)], (1,), shapes,
        )  # fmt: skip
    return relative_error(y, expected)


def problem(
    channels: int, outs: int, height: int, width: int | None = None, block: int = 8, **other: int
) -> Problem:
    width = width or height
    ones = ("groups", "stride_h", "stride_w", "dilation_h", "dilation_w", "top", "left")
    sizes = {
        "batch": 1, "channels": channels, "outs": outs, "height": height, "width": width,
        "out_height": height, "out_width": width, "kernel_h": 3, "kernel_w": 3, "block": block,
        "block_in": block, "block_out": block, "prologue": 0, "constant": 1, "reassociate": 1,
        **dict.fromkeys(ones, 1),
    }  # fmt: skip
    return Problem.of("blocked_conv", **{**sizes, **other})


@pytest.mark.parametrize("size", [2, 4])
def test_matrices_compute_a_correlation(size: int):
    m = matrices(size)
    d, g = normal((size + 2,), 1).astype(np.float64), normal((3,), 2).astype(np.float64)
    product = (np.array(m.weights) @ g) * (np.array(m.inputs) @ d)
    np.testing.assert_allclose(
        np.array(m.outputs) @ product, np.correlate(d, g, "valid"), rtol=1e-13, atol=1e-13
    )
    for matrix in (m.inputs, m.outputs):
        assert np.array_equal(np.float32(matrix), matrix), "not exact in float32"


def test_packed_weights_are_the_points_of_each_channel_pair():
    w = normal((20, 8, 3, 3), 1)
    packed = pack_weights(w, 4, 2, 16)
    assert packed.shape == (1, 36, 2, 8, 16)
    g = np.array(matrices(4).weights)
    np.testing.assert_allclose(
        packed[0, :, 1, 5, 2].reshape(6, 6), g @ w[18, 5].astype(np.float64) @ g.T, rtol=1e-6
    )
    assert not packed[0, :, 1, :, 4:].any()


@pytest.mark.parametrize(("size", "order"), EVERY)
def test_odd_extents_and_lopsided_padding(size: int, order: int, tmp_path: Path):
    x, w = normal((2, 3 * BLOCK, 13, 11), 1), normal((5 * BLOCK, 3 * BLOCK, 3, 3), 2)
    assert run(tmp_path, x, w, (1, 0, 2, 1), taking(algorithm=size, order=order)) <= 2e-6


@pytest.mark.parametrize(("size", "order"), EVERY)
def test_plain_output_of_any_channel_count_and_open_batch(size: int, order: int, tmp_path: Path):
    x, w = normal((3, 2 * BLOCK, 9, 14), 1), normal((2 * BLOCK + 3, 2 * BLOCK, 3, 3), 2)
    chosen = taking(algorithm=size, order=order)
    assert run(tmp_path, x, w, (2, 2, 0, 0), chosen, plain=True, open_batch=True) <= 2e-6


@pytest.mark.parametrize("size", [2, 4])
def test_input_smaller_than_a_tile(size: int, tmp_path: Path):
    x, w = normal((1, BLOCK, 1, 2), 1), normal((BLOCK, BLOCK, 3, 3), 2)
    assert run(tmp_path, x, w, (1, 1, 1, 1), taking(algorithm=size)) <= 2e-6


@pytest.mark.parametrize("order", [LOCAL, SHARED])
def test_groups_of_tiles_that_overlap(order: int, tmp_path: Path):
    x, w = normal((2, BLOCK, 18, 19), 1), normal((3 * BLOCK, BLOCK, 3, 3), 2)
    plan = plan_of(
        problem(BLOCK, 3 * BLOCK, 18, 19, BLOCK),
        Point.of(algorithm=4, order=order, tiles=12, rows=6, vectors=2, panels=1),
    )
    assert plan.groups * plan.group > plan.tiles
    chosen = taking(algorithm=4, order=order, tiles=12)
    assert run(tmp_path, x, w, (1, 1, 1, 1), chosen, open_batch=True) <= 2e-6


@pytest.mark.parametrize(("size", "order"), EVERY)
def test_prologue_and_epilogue(size: int, order: int, tmp_path: Path):
    """Outside the input is 0, not what the prologue makes of 0."""
    ins, outs = 2 * BLOCK, 4 * BLOCK
    x, w = normal((2, ins, 7, 10), 1), normal((outs, ins, 3, 3), 2)
    scale, shift, bias = normal((1, ins, 1, 1), 3), normal((1, ins, 1, 1), 4), normal((outs,), 5)
    residual = normal((2, outs, 7, 10), 6)
    activated = np.maximum(x.astype(np.float64) * scale + shift, 0)
    total = convolution(activated, w, (1, 1, 1, 1)) + bias.reshape(1, -1, 1, 1) + residual
    expected = blocked(np.maximum(total, 0))

    def build(x: Any, w: Any, scale: Any, shift: Any, bias: Any, residual: Any) -> Any:
        activated = relax.op.nn.relu(relax.op.add(relax.op.multiply(x, scale), shift))
        y = conv(activated, w, (1, 1, 1, 1))
        return relax.op.nn.relu(relax.op.add(relax.op.add(y, bias), residual))

    inputs = [
        blocked(x), w, blocked(scale), blocked(shift), blocked(bias.reshape(1, -1, 1, 1)),
        blocked(residual),
    ]  # fmt: skip
    with selecting(taking(algorithm=size, order=order)):
        (y,) = run_unit(
            tmp_path, build, inputs, [expected.astype(np.float32)], (1, 2, 3, 4)
        )  # fmt: skip
    assert relative_error(y, expected) <= 2e-6


@pytest.mark.parametrize(("size", "bound"), [(2, 2e-6), (4, 5e-6)])
@pytest.mark.parametrize("channels", [16, 128, 512])
def test_error_stays_below_the_stated_bound(channels: int, size: int, bound: float, tmp_path: Path):
    x, w = normal((1, channels, 16, 16), channels), normal((32, channels, 3, 3), channels + 1)
    assert run(tmp_path, x, w, (1, 1, 1, 1), taking(algorithm=size)) <= bound


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_extents_padding_and_point(data: st.DataObject):
    pick = data.draw
    batch, ins, outs = (pick(st.integers(1, most)) for most in (2, 3, 7))
    padding = [pick(st.integers(0, 2)) for _ in range(4)]
    height, width = (pick(st.integers(3, 30)) for _ in range(2))
    x, w = (
        normal((batch, ins * BLOCK, height, width), 1),
        normal((outs * BLOCK, ins * BLOCK, 3, 3), 2),
    )
    number = pick(st.integers(0, 100))

    def select(_: Family, __: Problem, points: Sequence[Point], ___: Any) -> Point:
        tiled = [p for p in points if p["algorithm"] in (2, 4)]
        return tiled[number % len(tiled)]

    with tempfile.TemporaryDirectory() as folder:
        assert run(Path(folder), x, w, padding, select) <= 3e-6


PAYING = [
    (64, 64, 224), (64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 28), (512, 512, 14),
    (64, 96, 35), (192, 192, 17), (48, 64, 35),
]  # fmt: skip


@pytest.mark.parametrize(("channels", "outs", "extent"), PAYING)
def test_pays_for_wide_layers(channels: int, outs: int, extent: int):
    p = problem(channels, outs, extent)
    assert winograd.applies(p)
    assert winograd.pays(p)


@pytest.mark.parametrize(("channels", "outs", "extent"), [(8, 8, 8), (8, 64, 3), (1024, 1024, 3)])
def test_does_not_pay_where_transforms_or_weights_cost_more(channels: int, outs: int, extent: int):
    assert not winograd.pays(problem(channels, outs, extent))


@pytest.mark.parametrize(
    "change", [{"stride_h": 2}, {"dilation_w": 2}, {"groups": 8}, {"constant": 0},
               {"reassociate": 0}, {"block_in": 0}, {"kernel_h": 1}],
)  # fmt: skip
def test_applies_only_to_plain_3x3_convolutions(change: dict[str, int]):
    assert not winograd.applies(problem(64, 64, 56, **change))


@pytest.mark.parametrize("machine", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_points_are_few_different_and_described(machine: str):
    host = machine_for(machine)
    p = problem(64, 96, 28, block=host.vector_bytes // 4)
    points = winograd.points(p, host)
    assert len({plan_of(p, point) for point in points}) == len(points) <= 36
    for point in points:
        nest = winograd.describe(p, point, host)
        assert nest.flops == 2 * 9 * 64 * 96 * 28 * 28
        assert nest.executed_flops < nest.flops
        assert nest.weight_bytes == pytest.approx(
            4 * 64 * 96 * (point["algorithm"] + 2) ** 2, rel=0.34
        )
        assert min(nest.block_bytes, nest.streamed_bytes, nest.tasks) > 0


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_default_reads_large_weights_once(cores: int):
    machine = replace(machine_for("x86-64-v3"), cores=cores)
    layer = problem(512, 512, 14)
    plan = plan_of(layer, winograd.points(layer, machine)[0])
    assert plan.order == SHARED or plan.groups == 1
    assert winograd.points(problem(64, 64, 224), machine)[0]["order"] == LOCAL


def test_narrow_and_wide_vectors(tmp_path: Path):
    """Blocks of 4 run on any machine; code for blocks of 16 is made, not run."""
    x, w = normal((1, 8, 9, 9), 1), normal((12, 8, 3, 3), 2)
    expected = blocked(convolution(x, w, (1, 1, 1, 1)), 4)

    def build(x: Any, w: Any) -> Any:
        return conv(x, w, (1, 1, 1, 1), block=4)

    narrow = machine_for("x86-64-v2")
    with selecting(taking(algorithm=4)):
        (y,) = run_unit(
            tmp_path, build, [blocked(x, 4), w], [expected.astype(np.float32)], (1,),
            machine=narrow,
        )  # fmt: skip
    assert relative_error(y, expected) <= 2e-6
    unit = unit_of(
        [(1, 2, 9, 9, 16), (48, 32, 3, 3)], ["float32"] * 2,
        lambda x, w: conv(x, w, (1, 1, 1, 1), block=16),
    )  # fmt: skip
    wide = machine_for("x86-64-v4")
    with selecting(taking(algorithm=4, rows=8)):
        lowered = lower_unit(unit, frozenset([1]), wide)
    assert len(compile_kernel("kernel", lowered.func, wide)) > 0
