"""Random units without a matrix product: reductions, normalisations, pooling, data movement."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from kernel_runner import Array
from random_units import (
    BATCH,
    EXTENT,
    FLOATS,
    Draw,
    RandomUnit,
    Shape,
    broadcasting_to,
    followed_by,
    random_shape,
)
from tvm import relax

R = relax.op
NUMBERS = st.sampled_from(["float32", "float32", "float16", "float64", "int32", "int64"])


def _name(kind: str, shape: Shape, dtype: str, *more: object) -> str:
    return " ".join([kind, "x".join(map(str, shape)), dtype, *map(str, more)])


@st.composite
def reductions(draw: Draw) -> RandomUnit:
    """Any axes, with and without keepdims, perhaps of a computed operand."""
    shape, dtype = random_shape(draw), draw(NUMBERS)
    names = ["sum", "max", "min", "prod"]
    names += ["mean", "variance", "std"] if "float" in dtype else []
    name, keep = draw(st.sampled_from(names)), draw(st.booleans())
    axes = sorted(
        draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=4, unique=True))
    )
    if name in ("max", "min", "mean", "variance", "std") and shape[0] == "n":
        axes = [a for a in axes if a] or [len(shape) - 1]
    if name in ("max", "min", "mean", "variance", "std") and axes == [0] and shape[0] == "n":
        shape = (3, *shape[1:])
    square = draw(st.booleans()) and name in ("sum", "max")
    exact = {"variance": np.var, "prod": np.prod}.get(name) or getattr(np, name)

    def build(x: Any) -> Any:
        x = R.multiply(x, x) if square else x
        return getattr(R, name)(x, axis=axes, keepdims=keep)

    def reference(x: Array) -> Array:
        return exact(x * x if square else x, axis=tuple(axes), keepdims=keep)

    unit = RandomUnit(
        _name(name, shape, dtype, axes, f"keepdims={keep} square={square}"), (shape,), (dtype,),
        build, reference, scale=0.5 if name != "prod" else 0.9, largest=3 if name != "prod" else 1,
    )  # fmt: skip
    result = tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)
    return followed_by(draw, unit, result, dtype, 2)


@st.composite
def normalisations(draw: Draw) -> RandomUnit:
    """Softmax and layer norm over any axis."""
    shape, dtype = random_shape(draw), draw(FLOATS)
    kind = draw(st.sampled_from(["softmax", "log_softmax", "layer_norm", "layer_norm"]))
    axis = draw(st.integers(min(1, len(shape) - 1), len(shape) - 1))
    if shape[axis] == "n":
        shape = (4, *shape[1:])
    name = _name(kind, shape, dtype, axis)
    if kind == "layer_norm":
        axes = list(range(axis, len(shape)))
        tail = shape[axis:]

        def normal(x: Array, g: Array, b: Array) -> Array:
            mean, var = x.mean(tuple(axes), keepdims=True), x.var(tuple(axes), keepdims=True)
            return (x - mean) / np.sqrt(var + 1e-3) * g + b

        unit = RandomUnit(
            name, (shape, tail, tail), (dtype,) * 3,
            lambda x, g, b: R.nn.layer_norm(x, g, b, axes=axes, epsilon=1e-3), normal, (1, 2),
        )  # fmt: skip
        return followed_by(draw, unit, shape, dtype, 2)

    def soft(x: Array) -> Array:
        x = x - x.max(axis, keepdims=True)
        total = np.exp(x).sum(axis, keepdims=True)
        return np.exp(x) / total if kind == "softmax" else x - np.log(total)

    unit = RandomUnit(
        name, (shape,), (dtype,), lambda x: getattr(R.nn, kind)(x, axis=axis), soft, scale=2.0
    )
    return followed_by(draw, unit, shape, dtype, 2)


@st.composite
def pools(draw: Draw) -> RandomUnit:
    """Maximum and average, of one to three axes."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    dtype, kind = draw(FLOATS), draw(st.sampled_from(["max", "avg"]))

    def per_axis(values: Any) -> list[int]:
        return draw(st.lists(values, min_size=rank, max_size=rank))

    window, strides = per_axis(st.integers(1, 4)), per_axis(st.integers(1, 3))
    dilation = per_axis(st.sampled_from([1, 1, 2])) if kind == "max" else [1] * rank
    pads = [min(p, k - 1) for p, k in zip(per_axis(st.integers(0, 2)) * 2, window * 2, strict=True)]
    count = draw(st.booleans())
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    spatial = [max(i, r) for i, r in zip(per_axis(st.integers(1, 20)), reach, strict=True)]
    shape = (draw(BATCH), draw(st.sampled_from([1, 3, 8])), *spatial)
    operator = getattr(R.nn, f"{kind}_pool{rank}d")
    options = {} if kind == "max" else {"count_include_pad": count}

    def windows(x: Array, fill: float) -> Array:
        around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
        x = np.pad(x, around, constant_values=fill)
        view = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(2, rank + 2)))
        return view[
            (slice(None), slice(None), *[slice(None, None, s) for s in strides],
             *[slice(None, None, d) for d in dilation])
        ]  # fmt: skip

    def reference(x: Array) -> Array:
        inner = tuple(range(-rank, 0))
        if kind == "max":
            return windows(x, -np.inf).max(inner)
        ones = np.ones_like(x)
        counted = math.prod(window) if count else windows(ones, 0).sum(inner)
        return windows(x, 0).sum(inner) / counted

    unit = RandomUnit(
        _name(f"{kind}_pool", shape, dtype, window, strides, pads, dilation, count), (shape,),
        (dtype,), lambda x: operator(x, window, strides, pads, dilation, **options), reference,
    )  # fmt: skip
    out = [
        (i + a + b - r) // s + 1
        for i, a, b, r, s in zip(spatial, pads, pads[rank:], reach, strides, strict=False)
    ]
    return followed_by(draw, unit, (*shape[:2], *out), dtype, 2)


@st.composite
def elementwise(draw: Draw) -> RandomUnit:
    """Chains whose operands broadcast; the first operand has the full shape."""
    shape, dtype = random_shape(draw), draw(NUMBERS)
    kind = draw(st.sampled_from(["plain", "where", "cast", "compare"]))
    if kind == "where":
        masks, values = broadcasting_to(draw, shape), broadcasting_to(draw, shape)
        unit = RandomUnit(
            _name("where", shape, dtype, masks, values), (masks, shape, values),
            ("bool", dtype, dtype), R.where, np.where,
        )  # fmt: skip
    elif kind == "cast":
        other = draw(st.sampled_from(["float32", "int32", "int64", "int8", "bool"]))
        unit = RandomUnit(
            _name("cast", shape, dtype, other), (shape,), (dtype,),
            lambda x: R.astype(R.astype(x, other), dtype),
            lambda x: x.astype(other).astype(np.float64 if "float" in dtype else dtype),
        )  # fmt: skip
    elif kind == "compare":
        operand = broadcasting_to(draw, shape)
        unit = RandomUnit(
            _name("compare", shape, dtype, operand), (shape, operand), (dtype, dtype),
            lambda x, y: R.astype(R.logical_not(R.greater(x, y)), dtype),
            lambda x, y: (~(x > y)).astype(np.float64 if "float" in dtype else dtype),
        )  # fmt: skip
    else:
        unit = RandomUnit(
            _name("chain", shape, dtype), (shape,), (dtype,), R.abs, np.abs,
        )  # fmt: skip
    return followed_by(draw, unit, shape, dtype, 4)


def _moved(draw: Draw, kind: str, shape: Shape, axis: int) -> tuple[Any, Any, Shape, str]:
    """What builds the movement, what computes it, the result's shape, a description."""
    rank = len(shape)
    size = shape[axis] if isinstance(shape[axis], int) else 3
    if kind == "transpose":
        axes = draw(st.permutations(range(rank)))
        return (
            lambda x: R.permute_dims(x, axes), lambda x: x.transpose(axes),
            tuple(shape[a] for a in axes), str(axes),
        )  # fmt: skip
    if kind == "slice":
        begin, stride = draw(st.integers(0, size - 1)), draw(st.integers(1, 3))
        end = draw(st.integers(begin + 1, size))
        window = tuple(slice(begin, end, stride) if i == axis else slice(None) for i in range(rank))
        changed = tuple(
            len(range(begin, end, stride)) if i == axis else d for i, d in enumerate(shape)
        )
        return (
            lambda x: R.strided_slice(x, [axis], [begin], [end], [stride]), lambda x: x[window],
            changed, f"{axis}[{begin}:{end}:{stride}]",
        )  # fmt: skip
    if kind == "pad":
        around = [draw(st.integers(0, 3)) for _ in range(2 * rank)]
        around[0] = around[1] = 0
        pairs = list(zip(around[::2], around[1::2], strict=True))
        changed = tuple(
            d if isinstance(d, str) else d + a + b for d, (a, b) in zip(shape, pairs, strict=True)
        )
        return (
            lambda x: R.nn.pad(x, around, pad_value=2),
            lambda x: np.pad(x, pairs, constant_values=2), changed, str(around),
        )  # fmt: skip
    if kind == "flip":
        return lambda x: R.flip(x, axis), lambda x: np.flip(x, axis), shape, str(axis)
    if kind == "tile":
        times = [1] + [draw(st.integers(1, 3)) for _ in shape[1:]]
        changed = tuple(
            d if isinstance(d, str) else d * t for d, t in zip(shape, times, strict=True)
        )
        return lambda x: R.tile(x, times), lambda x: np.tile(x, times), changed, str(times)
    changed = tuple(2 * d if i == axis else d for i, d in enumerate(shape))
    return (
        lambda x: R.concat([x, R.negative(x)], axis),
        lambda x: np.concatenate([x, -x], axis), changed, str(axis),
    )  # fmt: skip


@st.composite
def movements(draw: Draw) -> RandomUnit:
    """Data movement, with element-wise calls after it."""
    shape = random_shape(draw)
    dtype = draw(st.sampled_from(["float32", "float32", "float16", "int32", "int64"]))
    fixed = [i for i, d in enumerate(shape) if isinstance(d, int)]
    kind = draw(st.sampled_from(["transpose", "slice", "pad", "flip", "tile", "concat"]))
    if not fixed:
        shape, fixed = (*shape, 7), [1]
    build, reference, result, text = _moved(draw, kind, shape, draw(st.sampled_from(fixed)))
    unit = RandomUnit(_name(kind, shape, dtype, text), (shape,), (dtype,), build, reference)
    return followed_by(draw, unit, result, dtype, 2)


@st.composite
def splits(draw: Draw) -> RandomUnit:
    """Several outputs."""
    shape, dtype = (*random_shape(draw, 1, 3), draw(EXTENT)), draw(NUMBERS)
    axis = draw(st.integers(1, len(shape) - 1))
    size = int(shape[axis])
    cuts = sorted(draw(st.lists(st.integers(1, max(1, size - 1)), max_size=3, unique=True)))
    cuts = [c for c in cuts if c < size] if size > 1 else []
    return RandomUnit(
        _name("split", shape, dtype, cuts, axis), (shape,), (dtype,),
        lambda x: R.split(x, cuts, axis) if cuts else R.negative(x),
        lambda x: np.split(x, cuts, axis) if cuts else -x,
    )  # fmt: skip


@st.composite
def gathers(draw: Draw) -> RandomUnit:
    """Elements picked by constant and by given indices, all within range."""
    table, rows = draw(EXTENT), draw(st.integers(1, 6))
    inner, dtype = draw(EXTENT), draw(NUMBERS)
    shape: Shape = (table, inner)

    def reference(x: Array, i: Array) -> Array:
        return x[np.clip(i, 0, table - 1)]

    unit = RandomUnit(
        _name("take", shape, dtype, rows), (shape, ("n", rows)), (dtype, "int64"),
        lambda x, i: R.take(
            x, R.clip(i, 0, table - 1), axis=0
        ), reference,
    )  # fmt: skip
    return followed_by(draw, unit, ("n", rows, inner), dtype, 2)
