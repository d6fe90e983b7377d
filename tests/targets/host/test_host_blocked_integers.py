"""Blocked convolutions of integers against int64 sums, at every point of their space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runner import Array, run_unit
from tvm import relax

from motet.targets.host.blocked import blocked_layout
from motet.targets.host.kernels.blocked_conv.integer_groups import FOURS, PAIRS, fit_fours
from motet.targets.host.machine import Machine, machine_for, native_machine
from motet.targets.host.space import Point, selecting


@dataclass(frozen=True)
class Case:
    """A convolution; ``zero`` is the input's zero point, ``most`` the largest weight.

    extreme: bytes are the least and the largest alone.
    """

    x: tuple[int, int, int, int]
    outs: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pad: int = 0
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    blocked: tuple[bool, bool] = (True, True)
    zero: int = 0
    most: int = 64
    signed: bool = False
    constant: bool = True
    symbolic: bool = False
    extreme: bool = False


CASES = {
    "bytes": Case((1, 16, 9, 11), 32, (3, 3), pad=1),
    "bytes in place": Case((2, 48, 7, 7), 64),
    "bytes, stride": Case((1, 32, 13, 14), 48, strides=(2, 2)),
    "bytes, deep": Case((1, 512, 7, 7), 48, (3, 3), pad=1),
    "bytes, groups": Case((2, 64, 8, 8), 32, (3, 3), pad=1, groups=2),
    "bytes, open batch": Case((3, 16, 10, 9), 16, (5, 5), pad=2, symbolic=True),
    "zero point": Case((1, 16, 9, 11), 32, (3, 3), pad=1, zero=120),
    "signed": Case((1, 16, 9, 11), 32, (3, 3), pad=1, zero=-3, signed=True),
    "weights of 8 bits": Case((1, 16, 9, 9), 48, (3, 3), most=128),
    "run-time weights": Case((1, 16, 9, 9), 48, (3, 3), pad=1, constant=False),
    "stem": Case((1, 3, 33, 32), 32, (7, 7), (2, 2), 3, blocked=(False, True), zero=130),
    "one channel": Case((2, 1, 20, 19), 16, (5, 5), blocked=(False, True)),
    "plain output": Case((2, 32, 8, 9), 21, (3, 3), pad=1, blocked=(True, False)),
    "extremes": Case((1, 64, 9, 9), 32, (3, 3), pad=1, most=128, extreme=True),
    "extremes in place": Case((1, 256, 5, 5), 32, most=128, extreme=True),
    "plain bytes, 3 channels": Case((1, 3, 20, 19), 32, (3, 3), (2, 2), 1, blocked=(False, True)),
    "plain bytes, 5 channels": Case(
        (1, 5, 9, 9), 16, (3, 3), pad=1, blocked=(False, True), most=128, extreme=True
    ),
    "plain bytes, 1 channel": Case((1, 1, 9, 9), 16, (3, 3), blocked=(False, True), most=128),
    "depthwise": Case((1, 16, 17, 17), 16, (3, 3), (2, 2), 1, groups=16),
    "depthwise, zero point": Case((2, 16, 7, 7), 16, (5, 5), pad=2, groups=16, zero=9),
    "depthwise, run-time": Case((1, 16, 7, 7), 16, (3, 3), pad=1, groups=16, constant=False),
}


def sums_of(x: Array, weights: Array, case: Case) -> Array:
    """The definition, in int64."""
    x = np.pad(x.astype(np.int64) - case.zero, ((0, 0), (0, 0), *[(case.pad, case.pad)] * 2))
    (kh, kw), (sh, sw), (dh, dw) = case.kernel, case.strides, case.dilation
    height = (x.shape[2] - (kh - 1) * dh - 1) // sh + 1
    width = (x.shape[3] - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((x.shape[0], case.outs, height, width), np.int64)
    split = x.reshape(x.shape[0], case.groups, -1, *x.shape[2:])
    filters = weights.astype(np.int64).reshape(case.groups, case.outs // case.groups, -1, kh, kw)
    for i in range(kh):
        for j in range(kw):
            part = split[:, :, :, i * dh :, j * dw :][:, :, :, ::sh, ::sw][..., :height, :width]
            y += np.einsum("ngchw,goc->ngohw", part, filters[..., i, j]).reshape(y.shape)
    return y


def _blocked(x: Array, block: int) -> Array:
    n, c, h, w = x.shape
    return np.ascontiguousarray(x.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2))


def _weights(case: Case, rng: np.random.Generator, machine: Machine) -> Array:
    shape = (case.outs, case.x[1] // case.groups, *case.kernel)
    few = [] if case.extreme else range(-9, 10)
    weights = rng.choice([-case.most, case.most - 1, *few], shape)
    if case.extreme:
        weights[0], weights[1] = -case.most, case.most - 1
    narrow = case.most <= 64 or machine.multiplies_bytes
    return weights.astype(np.int8 if narrow else np.int16)


def _input(case: Case, rng: np.random.Generator) -> Array:
    low, high = (-128, 127) if case.signed else (0, 255)
    x = rng.integers(low, high + 1, case.x)
    if case.extreme:
        x = np.where(x > (low + high) // 2, high, low)
        x[0, :, : x.shape[2] // 2 + 1] = high
    return x.astype(np.int8 if case.signed else np.uint8)


def check(
    case: Case, folder: Path, machine: Machine | None = None,
    pick: Callable[[Sequence[Point]], Point] = itemgetter(0),
) -> None:  # fmt: skip
    """Runs the case with bias, scale and rounding to bytes behind it: equal bytes."""
    machine = machine or native_machine()
    block = machine.vector_bytes // 4
    rng = np.random.default_rng(0)
    x, weights = _input(case, rng), _weights(case, rng, machine)
    bias = rng.integers(-999, 999, (1, case.outs, 1, 1)).astype(np.int32)
    sums = sums_of(x, weights, case) + bias
    scale = rng.uniform(0.5, 1, bias.shape).astype(np.float32) * np.float32(100 / abs(sums).max())
    expected = np.clip(np.rint(sums.astype(np.float32) * scale) + 100, 0, 255).astype(np.uint8)
    layouts = [blocked_layout(block if b else 0) for b in case.blocked]

    def build(x: Any, w: Any, bias: Any, scale: Any) -> Any:
        op = relax.op
        if case.zero:
            x = op.subtract(op.astype(x, "int16"), relax.const(case.zero, "int16"))
        y = op.nn.conv2d(
            x, w, case.strides, [case.pad] * 4, case.dilation, case.groups, layouts[0], "OIHW",
            layouts[1], "int32",
        )  # fmt: skip
        y = op.multiply(op.astype(op.add(y, bias), "float32"), scale)
        unit, hundred = relax.const(np.float32(1)), relax.const(np.uint8(100))
        return op.quantize(y, unit, hundred, -1, "uint8")

    def laid_out(a: Array, blocked: bool) -> Array:
        return _blocked(a, block) if blocked else np.ascontiguousarray(a)

    outer = case.blocked[1]
    values = [laid_out(x, case.blocked[0]), weights, laid_out(bias, outer), laid_out(scale, outer)]
    shapes: list[Sequence[int | str]] = [list(v.shape) for v in values]
    if case.symbolic:
        shapes[0] = ["n", *shapes[0][1:]]
    like = laid_out(expected, outer)
    constants = (1, 2, 3) if case.constant else ()
    own = Path(mkdtemp(dir=folder))  # a loaded library must not be overwritten
    with selecting(lambda _f, _problem, points, _m: pick(points)):
        (y,) = run_unit(own, build, values, [like], constants, shapes, machine)
    np.testing.assert_array_equal(y, like)


@pytest.mark.parametrize("name", CASES)
def test_convolution(name: str, tmp_path: Path):
    check(CASES[name], tmp_path)


@pytest.mark.parametrize("name", ["bytes", "bytes in place", "zero point", "depthwise"])
def test_narrow_vectors(name: str, tmp_path: Path):
    check(CASES[name], tmp_path, machine_for("x86-64-v2"))


@pytest.mark.skipif(native_machine().vector_bytes < 64, reason="the machine has no AVX-512")
@pytest.mark.parametrize("name", ["bytes", "bytes in place", "zero point"])
def test_wide_vectors(name: str, tmp_path: Path):
    check(CASES[name], tmp_path, machine_for("x86-64-v4"))


@pytest.mark.parametrize("name", ["bytes, deep", "bytes in place", "zero point"])
def test_points_of_the_schedule_space_agree(name: str, tmp_path: Path):
    seen: list[Point] = []

    def listing(points: Sequence[Point]) -> Point:
        seen[:] = points
        return points[0]

    check(CASES[name], tmp_path, pick=listing)
    assert len(seen) == len(set(seen)) > 1
    for number in range(1, len(seen), 5):
        check(CASES[name], tmp_path, pick=itemgetter(number))


@st.composite
def cases(draw: Any) -> Case:
    groups = draw(st.sampled_from((1, 1, 2)))
    blocked = draw(st.sampled_from(((True, True), (True, True), (True, False), (False, True))))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    need = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    plane = [draw(st.integers(n, n + 9)) for n in need]
    block = native_machine().vector_bytes // 4
    channels = block * draw(st.integers(1, 3)) if blocked[0] else draw(st.integers(1, 4))
    outs = block * draw(st.integers(1, 4)) * groups
    return Case(
        (draw(st.integers(1, 2)), channels * groups, *plane), outs, kernel,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), draw(st.integers(0, 3)),
        dilation, groups, blocked, draw(st.sampled_from((0, 0, 7))),
        draw(st.sampled_from((64, 64, 128))), draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases(), pick=st.integers(0, 100))
def test_any_convolution_at_any_point(case: Case, pick: int, tmp_path: Path):
    check(case, tmp_path, pick=lambda points: points[pick % len(points)])


def test_weights_that_could_saturate_are_refused(tmp_path: Path):
    weights = np.zeros((8, 8, 1, 1), np.int8)
    weights[3, 2:4] = 64
    assert fit_fours(weights)
    weights[3, 3] = 65
    assert not fit_fours(weights)
    with pytest.raises(ValueError, match="16 bits"):
        FOURS.packed(weights)
    assert PAIRS.packed(weights).shape == (8, 4, 1, 1)


def test_fours_hold_neighbouring_channels():
    weights = np.arange(-8, 8, dtype=np.int8).reshape(2, 8, 1, 1)
    packed = FOURS.packed(weights)
    assert packed.shape == (2, 2, 1, 1)
    np.testing.assert_array_equal(packed.view(np.int8).reshape(2, 8), weights[:, :, 0, 0])


def _rescaled(op: Any, x: Any, y: Any, zero: np.generic) -> Any:
    """Bytes of a float that was bytes in between, and a sum with other bytes."""
    unit, dtype = relax.const(np.float32(1)), str(zero.dtype)
    third = op.multiply(x, relax.const(np.float32(0.3)))
    first = op.quantize(third, unit, relax.const(zero), -1, dtype)
    scaled = op.multiply(op.astype(first, "float32"), relax.const(np.float32(0.7)))
    return op.quantize(op.add(scaled, op.astype(y, "float32")), unit, relax.const(zero), -1, dtype)


@pytest.mark.parametrize("zero", [np.uint8(7), np.int8(-5), np.uint8(0)])
def test_bytes_between_two_roundings_saturate(zero: np.generic, tmp_path: Path):
    rng, info = np.random.default_rng(0), np.iinfo(zero.dtype)
    x = (rng.standard_normal((5, 24)) * 600).astype(np.float32)
    x[0, :3] = np.nan, np.inf, -np.inf
    y = rng.integers(info.min, info.max, x.shape).astype(zero.dtype)

    def rounded(v: Array) -> Array:
        steps = np.nan_to_num(np.rint(v) + np.float32(int(zero)), nan=info.min)
        return np.clip(steps, info.min, info.max).astype(np.float32)

    middle = rounded(x * np.float32(0.3))
    expected = rounded(middle * np.float32(0.7) + y.astype(np.float32)).astype(zero.dtype)
    (result,) = run_unit(tmp_path, lambda a, b: _rescaled(relax.op, a, b, zero), [x, y], [expected])
    np.testing.assert_array_equal(result, expected)
