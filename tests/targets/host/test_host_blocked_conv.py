"""Direct convolutions in the blocked layout against numpy in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from motet.targets.host.kernels.blocked_conv import direct
from motet.targets.host.kernels.blocked_conv.direct_weights import pack_weights
from motet.targets.host.machine import Machine, machine_for, native_machine
from motet.targets.host.space import Point, Problem, selecting


@dataclass(frozen=True)
class Case:
    """A convolution; ``blocked`` says whether input and output are in the blocked layout."""

    x: tuple[int, int, int, int]
    outs: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    blocked: tuple[bool, bool] = (True, True)
    constant: bool = True
    symbolic: bool = False
    prologue: bool = False
    epilogue: bool = True


CASES = {
    "3x3": Case((1, 16, 9, 11), 32, (3, 3), pads=(1, 1, 1, 1)),
    "odd number of output blocks": Case((1, 16, 14, 14), 56, (3, 3), pads=(1, 1, 1, 1)),
    "pointwise": Case((2, 48, 7, 7), 64, (1, 1)),
    "pointwise, one position": Case((2, 48, 1, 1), 64, (1, 1)),
    "pointwise, stride 2": Case((1, 32, 13, 14), 48, (1, 1), (2, 2)),
    "open batch": Case((3, 16, 10, 9), 16, (5, 5), pads=(2, 2, 2, 2), symbolic=True),
    "stem": Case((1, 3, 33, 32), 32, (7, 7), (2, 2), (3, 3, 3, 3), blocked=(False, True)),
    "one channel in place": Case((2, 1, 20, 19), 16, (5, 5), blocked=(False, True)),
    "plain output": Case((2, 32, 8, 9), 21, (3, 3), pads=(1, 1, 1, 1), blocked=(True, False)),
    "plain output, pointwise": Case((2, 32, 8, 9), 21, (1, 1), blocked=(True, False)),
    "plain output, deep": Case((1, 512, 5, 5), 12, (1, 1), blocked=(True, False)),
    "pointwise, stride and padding": Case((1, 16, 7, 9), 24, (1, 1), (2, 3), (1, 2, 3, 1)),
    "pointwise, stride and prologue": Case((2, 16, 7, 9), 24, (1, 1), (3, 2), prologue=True),
    "mostly padding": Case((1, 16, 5, 4), 24, (7, 3), (2, 1), (4, 1, 5, 2), (2, 1)),
    "1x7": Case((1, 32, 9, 17), 32, (1, 7), pads=(0, 3, 0, 3)),
    "7x1": Case((1, 32, 9, 17), 32, (7, 1), pads=(3, 0, 3, 0)),
    "11x11": Case((1, 3, 40, 40), 16, (11, 11), (4, 4), (2, 2, 2, 2), blocked=(False, True)),
    "groups": Case((2, 64, 8, 8), 32, (3, 3), pads=(1, 1, 1, 1), groups=2),
    "dilated": Case((1, 16, 12, 13), 16, (3, 3), (2, 1), (2, 3, 1, 0), (2, 3)),
    "deep, in chunks": Case((1, 512, 7, 7), 48, (3, 3), pads=(1, 1, 1, 1)),
    "run-time weights": Case((1, 16, 9, 9), 40, (3, 3), pads=(1, 1, 1, 1), constant=False),
    "prologue": Case((2, 32, 9, 9), 32, (3, 3), pads=(1, 1, 1, 1), prologue=True),
    "prologue, pointwise": Case((2, 32, 9, 9), 32, (1, 1), prologue=True),
    "padding alone": Case((1, 16, 2, 2), 16, (3, 3), pads=(4, 4, 4, 4), dilation=(2, 2)),
    "no epilogue": Case((1, 16, 9, 9), 32, (3, 3), epilogue=False),
}


def block_channels(x: Array, block: int) -> Array:
    n, c, h, w = x.shape
    return np.ascontiguousarray(x.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2))


def plain_channels(x: Array) -> Array:
    n, c, h, w, block = x.shape
    return x.transpose(0, 1, 4, 2, 3).reshape(n, c * block, h, w)


def convolve(x: Array, weights: Array, case: Case) -> Array:
    """The definition, in double precision."""
    top, left, bottom, right = case.pads
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    (kh, kw), (sh, sw), (dh, dw) = case.kernel, case.strides, case.dilation
    height = (x.shape[2] - (kh - 1) * dh - 1) // sh + 1
    width = (x.shape[3] - (kw - 1) * dw - 1) // sw + 1
    n, groups = x.shape[0], case.groups
    y = np.zeros((n, case.outs, height, width))
    split = x.reshape(n, groups, -1, *x.shape[2:])
    filters = weights.astype(np.float64).reshape(groups, case.outs // groups, -1, kh, kw)
    for i in range(kh):
        for j in range(kw):
            part = split[:, :, :, i * dh :, j * dw :][:, :, :, ::sh, ::sw][..., :height, :width]
            y += np.einsum("ngchw,goc->ngohw", part, filters[..., i, j]).reshape(y.shape)
    return y


def _shape(like: Array, symbolic: bool) -> list[int | str]:
    return ["n" if symbolic else like.shape[0], *like.shape[1:]]


def check(
    case: Case, folder: Path, machine: Machine | None = None,
    pick: Callable[[Sequence[Point]], Point] = itemgetter(0),
) -> None:  # fmt: skip
    """Runs the case, with bias, residual sum and ReLU behind it, at the point that ``pick``
    takes of the direct ones, and compares.
    """
    machine = machine or native_machine()
    block = machine.vector_bytes // 4
    if any(b and c % block for b, c in zip(case.blocked, (case.x[1], case.outs), strict=True)):
        pytest.skip(f"the channels are no whole blocks of {block}")
    rng = np.random.default_rng(0)
    scale = 1 / np.sqrt(case.x[1] // case.groups * np.prod(case.kernel))
    x = rng.standard_normal(case.x).astype(np.float32)
    weights = rng.standard_normal((case.outs, case.x[1] // case.groups, *case.kernel)) * scale
    weights = weights.astype(np.float32)
    source = np.maximum(x * np.float32(1.5) + np.float32(0.25), 0) if case.prologue else x
    expected = convolve(source, weights, case)
    bias = rng.standard_normal((1, case.outs, 1, 1)).astype(np.float32)
    residual = rng.standard_normal(expected.shape).astype(np.float32)
    if case.epilogue:
        expected = np.maximum(expected + bias + residual, 0)
    layouts = [blocked_layout(block if b else 0) for b in case.blocked]

    def build(x: Any, w: Any, bias: Any, residual: Any) -> Any:
        op = relax.op
        if case.prologue:
            half = op.multiply(x, relax.const(1.5, "float32"))
            x = op.nn.relu(op.add(half, relax.const(0.25, "float32")))
        y = op.nn.conv2d(
            x, w, case.strides, case.pads, case.dilation, case.groups, layouts[0], "OIHW",
            layouts[1],
        )  # fmt: skip
        if not case.epilogue:
            return y
        return op.nn.relu(op.add(op.add(y, bias), residual))

    def laid_out(a: Array, blocked: bool) -> Array:
        return block_channels(a, block) if blocked else np.ascontiguousarray(a)

    values = [
        laid_out(x, case.blocked[0]), weights,
        laid_out(bias, case.blocked[1]), laid_out(residual, case.blocked[1]),
    ]  # fmt: skip
    shapes = [_shape(values[0], case.symbolic), weights.shape, values[2].shape,
              _shape(values[3], case.symbolic)]  # fmt: skip
    like = laid_out(expected.astype(np.float32), case.blocked[1])
    constants = (1, 2) if case.constant else ()
    own = Path(mkdtemp(dir=folder))  # a loaded library must not be overwritten
    with selecting(lambda _f, problem, _points, m: pick(direct.points(problem, m))):
        (y,) = run_unit(own, build, values, [like], constants, shapes, machine)
    y = plain_channels(y) if case.blocked[1] else y
    assert np.abs(y - expected).max() <= 3e-5


@pytest.mark.parametrize("name", CASES)
def test_convolution(name: str, tmp_path: Path):
    check(CASES[name], tmp_path)


@pytest.mark.parametrize("name", ["3x3", "plain output", "pointwise", "stem"])
def test_narrow_vectors(name: str, tmp_path: Path):
    check(CASES[name], tmp_path, machine_for("x86-64-v2"))


@pytest.mark.skipif(native_machine().vector_bytes < 64, reason="the machine has no AVX-512")
@pytest.mark.parametrize("name", ["3x3", "pointwise", "stem"])
def test_wide_vectors(name: str, tmp_path: Path):
    check(CASES[name], tmp_path, machine_for("x86-64-v4"))


def _every_point(case: Case, folder: Path) -> None:
    seen: list[Point] = []

    def listing(points: Sequence[Point]) -> Point:
        seen[:] = points
        return points[0]

    check(case, folder, pick=listing)
    assert len(seen) == len(set(seen)) > 1
    for number in range(1, len(seen), 4):
        check(case, folder, pick=itemgetter(number))


@pytest.mark.parametrize("name", ["deep, in chunks", "pointwise", "plain output, deep"])
def test_points_of_the_schedule_space_agree(name: str, tmp_path: Path):
    _every_point(replace(CASES[name], symbolic=False), tmp_path)


@st.composite
def cases(draw: Any) -> Case:
    block = native_machine().vector_bytes // 4
    groups = draw(st.sampled_from((1, 1, 2)))
    blocked = draw(st.sampled_from(((True, True), (True, False), (False, True))))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    need = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    plane = [draw(st.integers(n, n + 9)) for n in need]
    per_group = block * draw(st.integers(1, 3)) if groups > 1 or blocked[0] else 3
    outs = draw(st.integers(1, 50)) if groups == 1 and not blocked[1] else 0
    outs = outs or block * draw(st.integers(1, 5)) * groups
    return Case(
        (draw(st.integers(1, 3)), per_group * groups, *plane), outs, kernel,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        draw(st.tuples(*[st.integers(0, 3)] * 4)), dilation, groups, blocked,
        draw(st.booleans()), draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases(), pick=st.integers(0, 100))
def test_any_convolution_at_any_point(case: Case, pick: int, tmp_path: Path):
    check(case, tmp_path, pick=lambda points: points[pick % len(points)])


def test_packed_weights_keep_every_value_and_pad_with_zeros():
    weights = np.arange(1, 1 + 20 * 8 * 3 * 2, dtype=np.float32).reshape(20, 8, 3, 2)
    packed = pack_weights(weights, 1, 8, 16)
    assert packed.shape == (1, 2, 1, 3, 2, 8, 16)
    assert packed[0, 1, 0, 2, 1, 5, 3] == weights[19, 5, 2, 1]
    assert np.count_nonzero(packed) == weights.size


def test_a_nest_is_described_by_its_problem_alone():
    machine = native_machine()
    problem = Problem.of(
        "blocked_conv", batch=1, channels=64, outs=64, groups=1, height=56, width=56,
        out_height=56, out_width=56, kernel_h=3, kernel_w=3, stride_h=1, stride_w=1,
        dilation_h=1, dilation_w=1, top=1, left=1, block=8, block_in=8, block_out=8,
        prologue=0, constant=1, reassociate=0,
    )  # fmt: skip
    for point in direct.points(problem, machine):
        nest = direct.describe(problem, point, machine)
        assert nest.flops == 2 * 64 * 64 * 9 * 56 * 56
        assert nest.flops <= nest.executed_flops <= 1.5 * nest.flops
        assert nest.tasks >= machine.cores
