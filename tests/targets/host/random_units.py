"""Random units, each with what it must compute, for the property tests.

The references are plain numpy in double precision (integers stay integers).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from kernel_runner import Array
from tvm import relax

R = relax.op
Draw = Callable[[st.SearchStrategy[Any]], Any]
Shape = tuple["int | str", ...]


@dataclass(frozen=True)
class RandomUnit:
    """A unit and its reference; an extent that is a string is the symbolic batch.

    constants: positions of parameters whose values are known at compile time.
    """

    name: str
    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    build: Callable[..., Any]
    reference: Callable[..., Any]
    constants: tuple[int, ...] = ()
    scale: float = 1.0
    largest: int = 5

    def inputs(self, batch: int, rng: np.random.Generator) -> list[Array]:
        """Values of the parameters that are not constant change with the batch."""
        fixed = np.random.default_rng(5)
        return [
            self._values([batch if isinstance(d, str) else d for d in shape], dtype,
                         fixed if i in self.constants else rng)
            for i, (shape, dtype) in enumerate(zip(self.shapes, self.dtypes, strict=True))
        ]  # fmt: skip

    def _values(self, shape: list[int], dtype: str, rng: np.random.Generator) -> Array:
        if dtype == "bool":
            return rng.integers(0, 2, shape).astype(bool)
        if "int" in dtype:
            return rng.integers(-self.largest, self.largest + 1, shape).astype(dtype)
        return (self.scale * rng.standard_normal(shape)).astype(dtype)


@dataclass(frozen=True)
class Step:
    """An element-wise call after (or before) another: what it builds, what it computes."""

    name: str
    operands: tuple[Shape, ...]
    build: Callable[..., Any]
    reference: Callable[..., Any]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _const(value: float, dtype: str) -> Any:
    return relax.const(value, dtype)


def _plain_steps(dtype: str) -> list[Step]:
    steps = [
        Step("relu", (), R.nn.relu, lambda y: np.maximum(y, 0)),
        Step("clip", (), lambda y: R.clip(y, -1, 2), lambda y: np.clip(y, -1, 2)),
        Step("neg", (), R.negative, np.negative),
        Step("abs", (), R.abs, np.abs),
        Step("twice", (), lambda y: R.multiply(y, _const(2, dtype)), lambda y: 2 * y),
    ]
    if "float" in dtype:
        steps += [
            Step("silu", (), lambda y: R.multiply(y, R.sigmoid(y)), lambda y: y * _sigmoid(y)),
            Step("tanh", (), R.tanh, np.tanh),
            Step("leaky", (), lambda y: R.nn.leakyrelu(y, 0.1), lambda y: np.maximum(y, y / 10)),
        ]  # fmt: skip
    return steps


def _binary_steps(operand: Shape) -> list[Step]:
    name = "x".join(map(str, operand))
    return [
        Step(f"add[{name}]", (operand,), R.add, np.add),
        Step(f"sub[{name}]", (operand,), lambda y, o: R.subtract(o, y), lambda y, o: o - y),
        Step(f"mul[{name}]", (operand,), R.multiply, np.multiply),
        Step(f"max[{name}]", (operand,), R.maximum, np.maximum),
    ]


def broadcasting_to(draw: Draw, shape: Shape) -> Shape:
    """A shape that broadcasts to ``shape``: some axes 1, leading ones left out."""
    kept = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    small = tuple(d if k else 1 for d, k in zip(shape, kept, strict=True))
    return small[draw(st.integers(0, len(shape))) :]


def steps(draw: Draw, shape: Shape, dtype: str, most: int = 3) -> list[Step]:
    """Element-wise calls that keep the shape."""
    found = []
    for _ in range(draw(st.integers(0, most))):
        operands = _binary_steps(broadcasting_to(draw, shape)) if draw(st.booleans()) else []
        found.append(draw(st.sampled_from(operands or _plain_steps(dtype))))
    return found


def followed_by(
    draw: Draw, unit: RandomUnit, shape: Shape, dtype: str, most: int = 3
) -> RandomUnit:
    """``unit`` with element-wise calls after it, whose operands are further parameters."""
    chain = steps(draw, shape, dtype, most)
    own = len(unit.shapes)

    def build(*params: Any) -> Any:
        value, rest = unit.build(*params[:own]), list(params[own:])
        for step in chain:
            value = step.build(value, *[rest.pop(0) for _ in step.operands])
        return value

    def reference(*arrays: Array) -> Array:
        value, rest = unit.reference(*arrays[:own]), list(arrays[own:])
        for step in chain:
            value = step.reference(value, *[rest.pop(0) for _ in step.operands])
        return value

    extra = [operand for step in chain for operand in step.operands]
    weights = [own + i for i, s in enumerate(extra) if "n" not in s and draw(st.booleans())]
    return RandomUnit(
        " ".join([unit.name, *[s.name for s in chain]]),
        (*unit.shapes, *extra), (*unit.dtypes, *[dtype] * len(extra)), build, reference,
        (*unit.constants, *weights), unit.scale, unit.largest,
    )  # fmt: skip


BATCH: st.SearchStrategy[Any] = st.sampled_from(["n", "n", 1, 2, 3])
EXTENT = st.sampled_from([1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64])
FLOATS = st.sampled_from(["float32"] * 4 + ["float16"])


@st.composite
def convolutions(draw: Draw) -> RandomUnit:
    """Of one to three axes, plain or transposed, with what may follow."""
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    transposed = draw(st.sampled_from([False, False, True]))
    size = st.integers(1, [40, 14, 7][rank - 1])

    def per_axis(values: Any) -> list[int]:
        return draw(st.lists(values, min_size=rank, max_size=rank))

    kernel = per_axis(st.integers(1, 4))
    strides = per_axis(st.sampled_from([1, 1, 2, 3]))
    dilation = per_axis(st.sampled_from([1, 1, 2, 3]))
    pads = per_axis(st.integers(0, 3)) + per_axis(st.integers(0, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3, 8]))
    per_group = draw(st.sampled_from([1, 1, 2, 3, 5, 16, 33]))
    outs = draw(st.sampled_from([1, 1, 2, 3, 5, 13, 32]))
    spatial, extra = per_axis(size), [0] * rank
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if transposed:
        pads = [min(p, r - 1) for p, r in zip(pads, reach * 2, strict=True)]
        extra = [draw(st.integers(0, s - 1)) for s in strides]
    cut = [a + b for a, b in zip(pads[:rank], pads[rank:], strict=True)]
    axes = list(zip(spatial, reach, strides, cut, extra, strict=True))
    if transposed:
        spatial = [max(i, -(-(c + 1 - r) // s) + 1) for i, r, s, c, _ in axes]
        out = [(i - 1) * s + r + e - c for i, (_, r, s, c, e) in zip(spatial, axes, strict=True)]
    else:
        spatial = [max(i, r - c) for i, r, _, c, _ in axes]
        out = [(i + c - r) // s + 1 for i, (_, r, s, c, _) in zip(spatial, axes, strict=True)]
    weights = (groups * per_group, outs) if transposed else (groups * outs, per_group)
    weights = (*weights, *kernel)
    batch, dtype = draw(BATCH), draw(FLOATS)
    name = f"conv{rank}d" + "_transpose" * transposed
    options = {"strides": strides, "padding": pads, "dilation": dilation, "groups": groups}
    if transposed:
        options["output_padding"] = extra
    operator = getattr(R.nn, name)

    def reference(x: Array, w: Array) -> Array:
        if transposed:
            return transposed_reference(x, w, strides, pads, dilation, groups, extra)
        return convolution_reference(x, w, strides, pads, dilation, groups)

    constants = (1,) if draw(st.sampled_from([True, True, False])) else ()
    unit = RandomUnit(
        f"{name}{(batch, groups * per_group, *spatial)}{weights}{options} {dtype} {constants}",
        ((batch, groups * per_group, *spatial), weights), (dtype, dtype),
        lambda x, w: operator(x, w, **options), reference, constants,
        1 / math.sqrt(math.sqrt(per_group * math.prod(kernel))),
    )  # fmt: skip
    return followed_by(draw, unit, (batch, groups * outs, *out), dtype)


def convolution_reference(
    x: Array, w: Array, strides: list[int], pads: list[int], dilation: list[int], groups: int
) -> Array:
    """A sum over taps of matrix products."""
    rank = w.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    out = [
        (i - (k - 1) * d - 1) // s + 1
        for i, k, d, s in zip(x.shape[2:], w.shape[2:], dilation, strides, strict=True)
    ]
    y = np.zeros((x.shape[0], groups, w.shape[0] // groups, *out))
    xs = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    ws = w.reshape(groups, -1, *w.shape[1:])
    for tap in np.ndindex(*w.shape[2:]):
        window = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, s, o in zip(tap, dilation, strides, out, strict=True)
        )
        y += np.einsum("ngi...,goi->ngo...", xs[(..., *window)], ws[(..., *tap)])
    return y.reshape(x.shape[0], groups * y.shape[2], *out)


def transposed_reference(
    x: Array, w: Array, strides: list[int], pads: list[int], dilation: list[int], groups: int,
    extra: list[int],
) -> Array:  # fmt: skip
    """Every input element scattered over the output, which is then cut."""
    rank = w.ndim - 2
    full = [
        (i - 1) * s + (k - 1) * d + 1 + e
        for i, s, k, d, e in zip(x.shape[2:], strides, w.shape[2:], dilation, extra, strict=True)
    ]
    y = np.zeros((x.shape[0], groups, w.shape[1], *full))
    xs = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    ws = w.reshape(groups, -1, *w.shape[1:])
    for tap in np.ndindex(*w.shape[2:]):
        window = tuple(
            slice(t * d, t * d + (i - 1) * s + 1, s)
            for t, d, s, i in zip(tap, dilation, strides, x.shape[2:], strict=True)
        )
        y[(..., *window)] += np.einsum("ngi...,gio->ngo...", xs, ws[(..., *tap)])
    y = y.reshape(x.shape[0], groups * y.shape[2], *full)
    cut = tuple(slice(a, f - b) for a, b, f in zip(pads, pads[rank:], full, strict=False))
    return y[(..., *cut)]


@st.composite
def products(draw: Draw) -> RandomUnit:
    """Matrix products: batched, broadcast, of vectors, transposed operands."""
    m, k, n = draw(EXTENT), draw(EXTENT), draw(EXTENT)
    dtype = draw(st.sampled_from(["float32"] * 4 + ["float16", "int32", "float64"]))
    kind = draw(st.sampled_from(["plain", "plain", "batched", "row", "column", "broadcast"]))
    b, c = draw(BATCH), draw(st.sampled_from([1, 2, 5]))
    symbolic_rows = draw(st.booleans())
    rows = "n" if symbolic_rows else m
    left, right, result = {
        "plain": ((rows, k), (k, n), (rows, n)),
        "batched": ((b, c, m, k), (b, c, k, n), (b, c, m, n)),
        "row": ((k,), (c, k, n), (c, n)),
        "column": ((b, m, k), (k,), (b, m)),
        "broadcast": ((b, 1, m, k), (c, k, n), (b, c, m, n)),
    }[kind]
    flip = [draw(st.booleans()) and len(s) > 1 for s in (left, right)]
    shapes = tuple(
        (*s[:-2], s[-1], s[-2]) if f else s for s, f in zip((left, right), flip, strict=True)
    )

    def operand(p: Any, flipped: bool, rank: int) -> Any:
        axes = [*range(rank - 2), rank - 1, rank - 2]
        return R.permute_dims(p, axes) if flipped else p

    def build(p: Any, q: Any) -> Any:
        return R.matmul(operand(p, flip[0], len(left)), operand(q, flip[1], len(right)))

    def reference(p: Array, q: Array) -> Array:
        return np.matmul(p.swapaxes(-1, -2) if flip[0] else p, q.swapaxes(-1, -2) if flip[1] else q)

    may_be_constant = "n" not in right and draw(st.booleans())
    unit = RandomUnit(
        f"matmul {kind}{shapes} {flip} {dtype} constant={may_be_constant}", shapes, (dtype, dtype),
        build, reference, (1,) if may_be_constant else (), k**-0.25,
    )  # fmt: skip
    return followed_by(draw, unit, result, dtype)


def random_shape(draw: Draw, least: int = 1, most: int = 4) -> Shape:
    """Up to four axes, the first maybe the symbolic batch."""
    rank = draw(st.integers(least, most))
    inner = draw(st.lists(EXTENT, min_size=rank - 1, max_size=rank - 1))
    while math.prod(inner) > 20_000:
        inner[inner.index(max(inner))] = 3
    return (draw(BATCH), *inner)
