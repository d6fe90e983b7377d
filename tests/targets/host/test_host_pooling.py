"""Pooling in the plain and in the blocked layout against windows in float64."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runner import Array, run_unit, unit_of
from tvm import relax

from motet.targets.host.kernels.pooling.space import FAMILY
from motet.targets.host.lower_unit import fuse
from motet.targets.host.machine import Machine, native_machine
from motet.targets.host.space import Family, Point, Problem, selecting
from motet.targets.host.stages import read_stages

R = relax.op
BLOCK = 8
Pair = tuple[int, int]


@dataclass(frozen=True)
class Pool:
    kind: str
    kernel: Pair
    strides: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    ceil: bool = False
    count_padding: bool = False
    layout: str = "NCHW"

    def build(self, x: Any) -> Any:
        options = {"ceil_mode": self.ceil, "layout": self.layout}
        if self.kind == "max":
            return R.nn.max_pool2d(
                x, self.kernel, self.strides, self.pads, self.dilation, **options
            )
        options["count_include_pad"] = self.count_padding
        return R.nn.avg_pool2d(x, self.kernel, self.strides, self.pads, **options)

    def outputs(self, size: int, axis: int) -> int:
        before, both = self.pads[axis], self.pads[axis] + self.pads[axis + 2]
        span = size + both - (self.kernel[axis] - 1) * self.dilation[axis] - 1
        count = (-(-span // self.strides[axis]) if self.ceil else span // self.strides[axis]) + 1
        # A window that begins beyond the input is none.
        return count - (self.ceil and (count - 1) * self.strides[axis] >= size + before)

    def taps(self, size: int, axis: int, at: int) -> list[int]:
        start = at * self.strides[axis] - self.pads[axis]
        places = [start + k * self.dilation[axis] for k in range(self.kernel[axis])]
        return [p for p in places if 0 <= p < size]

    def reference(self, x: Array) -> Array:
        height, width = x.shape[2:]
        y = np.empty((*x.shape[:2], self.outputs(height, 0), self.outputs(width, 1)))
        for oh, ow in np.ndindex(*y.shape[2:]):
            rows, columns = self.taps(height, 0, oh), self.taps(width, 1, ow)
            window = x[:, :, rows][:, :, :, columns].astype(np.float64)
            if self.kind == "max":
                least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
                y[:, :, oh, ow] = window.max((2, 3), initial=least)
            else:
                area = self.kernel[0] * self.kernel[1]
                count = area if self.count_padding else max(1, len(rows) * len(columns))
                y[:, :, oh, ow] = window.sum((2, 3)) / count
        return y


def blocked(x: Array) -> Array:
    n, c, h, w = x.shape
    return np.ascontiguousarray(x.reshape(n, c // BLOCK, BLOCK, h, w).transpose(0, 1, 3, 4, 2))


def values(shape: tuple[int, ...], dtype: str) -> Array:
    rng = np.random.default_rng(len(shape) + shape[-1])
    if dtype in ("int8", "uint8"):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def check(pool: Pool, x: Array, around: bool = False) -> None:
    """``around``: with an element-wise operator before and after."""
    dtype = str(x.dtype)

    def build(a: Any) -> Any:
        if not around:
            return pool.build(a)
        y = pool.build(R.maximum(a, relax.const(0, dtype)))
        return R.minimum(y, relax.const(1, dtype))

    want = pool.reference(np.maximum(x, 0) if around else x)
    want = np.minimum(want, 1) if around else want
    given_ = x
    if pool.layout != "NCHW":
        given_, want = blocked(x), blocked(want)
    with tempfile.TemporaryDirectory() as folder:
        (got,) = run_unit(Path(folder), build, [given_], [want.astype(dtype)])
    exact = pool.kind == "max"
    tolerance = 0 if exact else {"float32": 2e-6, "float16": 2e-3}[dtype]
    np.testing.assert_allclose(got, want.astype(dtype), rtol=tolerance, atol=tolerance)


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_any_window(data: st.DataObject) -> None:
    def pair(strategy: Any) -> Pair:
        return data.draw(strategy), data.draw(strategy)

    kind, layout = (
        data.draw(st.sampled_from(["max", "avg"])),
        data.draw(st.sampled_from(["NCHW", "NCHW8c"])),
    )
    kernel, strides = pair(st.integers(1, 6)), pair(st.integers(1, 3))
    dilation = pair(st.sampled_from([1, 1, 2])) if kind == "max" else (1, 1)
    pads = tuple(data.draw(st.integers(0, min(3, k - 1))) for k in kernel * 2)
    pool = Pool(
        kind, kernel, strides, pads, dilation,  # type: ignore[arg-type]
        data.draw(st.booleans()), data.draw(st.booleans()), layout,
    )  # fmt: skip
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    sizes = [max(s, r) for s, r in zip(pair(st.integers(1, 40)), reach, strict=True)]
    channels = data.draw(st.sampled_from([8, 16] if layout == "NCHW8c" else [1, 3]))
    dtypes = ["float32", "float16", "uint8", "int8"] if kind == "max" else ["float32", "float16"]
    shape = (data.draw(st.integers(1, 2)), channels, *sizes)
    check(pool, values(shape, data.draw(st.sampled_from(dtypes))), data.draw(st.booleans()))


@pytest.mark.parametrize("layout", ["NCHW", "NCHW8c"])
@pytest.mark.parametrize("kernel", [5, 13])
def test_large_windows_of_pyramids(layout: str, kernel: int) -> None:
    pad = kernel // 2
    pool = Pool("max", (kernel, kernel), pads=(pad, pad, pad, pad), layout=layout)
    check(pool, values((1, 8, 13, 13), "float32"))


@pytest.mark.parametrize("point", [(1, 3), (2, 1), (2, 5)], ids=str)
def test_any_tile(point: Pair) -> None:
    def select(_f: Family, _p: Problem, _points: object, _m: object) -> Point:
        return Point.of(passes=point[0], columns=point[1], rows=3)

    pool = Pool("max", (3, 3), (2, 2), (1, 1, 1, 1), layout="NCHW8c")
    with selecting(select):
        check(pool, values((1, 8, 17, 23), "float32"))
        if point[0] == 2:
            check(replace(pool, layout="NCHW"), values((1, 3, 17, 23), "float32"))


@pytest.mark.parametrize("layout", ["NCHW", "NCHW8c"])
def test_padding_is_below_infinities(layout: str) -> None:
    pool = Pool("max", (2, 2), (2, 2), (1, 1, 1, 1), layout=layout)
    check(pool, np.full((1, 8, 4, 4), -np.inf, np.float32))


@pytest.mark.parametrize("layout", ["NCHW", "NCHW8c"])
@pytest.mark.parametrize("operator", ["adaptive", "mean"])
def test_mean_of_planes(layout: str, operator: str, tmp_path: Path) -> None:
    x = values((2, 16, 7, 9), "float32")
    want = x.astype(np.float64).mean((2, 3), keepdims=True)
    given_ = x
    if layout != "NCHW":
        given_, want = blocked(x), blocked(want)

    def build(a: Any) -> Any:
        if operator == "mean":
            return R.mean(a, [2, 3], keepdims=True)
        return R.nn.adaptive_avg_pool2d(a, (1, 1), layout=layout)

    (got,) = run_unit(tmp_path, build, [given_], [want.astype(np.float32)])
    np.testing.assert_allclose(got, want, atol=1e-6)


def anchors(build: Any, shape: tuple[int | str, ...]) -> list[str]:
    stages = read_stages(fuse(unit_of([shape], ["float32"], build)), 1).stages
    return [str(s.attrs["motet.anchor"]) for s in stages if "motet.anchor" in s.attrs]


def test_windows_over_known_planes_are_of_the_family() -> None:
    pool = Pool("max", (3, 3), (2, 2))
    assert anchors(pool.build, ("n", 8, 9, 9)) == ["pool"]
    assert anchors(replace(pool, kind="avg").build, (1, 8, 9, 9)) == ["pool"]
    assert anchors(pool.build, (1, 8, 3, 3)) == []
    assert anchors(pool.build, (1, 8, "h", 9)) == []


def test_numbers_of_the_nest() -> None:
    machine: Machine = native_machine()
    problem = Problem.of(
        "pool", batch=-1, channels=64, height=112, width=112, out_height=56, out_width=56,
        kernel_h=3, kernel_w=3, stride_h=2, stride_w=2, dilation_h=1, dilation_w=1, top=1,
        left=1, block=8, item_bytes=4, maximum=1,
    )  # fmt: skip
    points = FAMILY.points(problem, machine)
    assert points[0]["passes"] == 1
    nest = FAMILY.describe(problem, points[0], machine)
    assert nest.read_bytes == 4 * nest.written_bytes == 4 * 64 * 112 * 112
    assert nest.flops == 9 * 64 * 56 * 56
