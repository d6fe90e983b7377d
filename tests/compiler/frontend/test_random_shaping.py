"""Converters that reshape, cut, join and pad, over random shapes and attributes."""

from __future__ import annotations

import numpy as np
from random_uses import Draw, Use, check_uses, drawn, int64, seeds


def reshape(draw: Draw) -> Use:
    """With 0 (copied) and one -1 (the rest)."""
    dims = draw.shape(1, 4)
    x, total = draw.tensor(dims), int(np.prod(dims))
    divisors = [d for d in range(1, total + 1) if total % d == 0]
    first = draw.of(*divisors)
    target = draw.of([-1], [first, -1], [first, total // first], [0, -1], [1, -1, 1], list(dims))
    return Use("Reshape", {"x": x}, {"s": int64(*target)})


def flatten(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 4))
    return Use("Flatten", {"x": x}, attributes={"axis": draw.int(-x.ndim, x.ndim)})


def squeeze(draw: Draw) -> Use:
    """All axes of 1, or some, counted from either end."""
    dims = [draw.of(1, 1, draw.int(2, 4)) for _ in range(draw.int(1, 4))]
    ones = [i - draw.of(0, len(dims)) for i, d in enumerate(dims) if d == 1 and draw.flag()]
    x = draw.tensor(dims)
    return Use("Squeeze", {"x": x}, {"a": int64(*ones)} if ones else {})


def unsqueeze(draw: Draw) -> Use:
    x, count = draw.tensor(draw.shape(1, 3)), draw.int(1, 2)
    rank = x.ndim + count
    axes = [a - draw.of(0, rank) for a in draw.random.permutation(rank)[:count]]
    return Use("Unsqueeze", {"x": x}, {"a": int64(*axes)})


def transpose(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 5, 4), draw.of("float32", "int8", "bool"))
    perm = [int(i) for i in draw.random.permutation(x.ndim)]
    return Use("Transpose", {"x": x}, attributes={"perm": perm} if draw.flag() else {})


def expand(draw: Draw) -> Use:
    """Partial: a 1 in the shape, or fewer dimensions, keep the input's own."""
    a, b = draw.broadcasting(2)
    return Use("Expand", {"x": draw.tensor(a, draw.of("float32", "int64"))}, {"s": int64(*b)})


def concat(draw: Draw) -> Use:
    dims, dtype = list(draw.shape(1, 4)), draw.of("float32", "int64", "bool")
    axis, parts = draw.axis(len(dims)), {}
    for i in range(draw.int(1, 4)):
        dims[axis] = draw.int(1, 4)
        parts[f"x{i}"] = draw.tensor(dims, dtype)
    return Use("Concat", parts, attributes={"axis": axis})


def split(draw: Draw) -> Use:
    """By sizes (also 0), or into equal parts of which the last is smaller."""
    x = draw.tensor(draw.shape(1, 3))
    axis = draw.axis(x.ndim)
    extent = x.shape[axis]
    if draw.flag():
        first = draw.int(0, extent)
        sizes = [first, extent - first]
        return Use("Split", {"x": x}, {"s": int64(*sizes)}, {"axis": axis}, outputs=2)
    count = draw.of(*[n for n in range(1, extent + 1) if -(-extent // n) * (n - 1) < extent])
    return Use("Split", {"x": x}, {}, {"axis": axis, "num_outputs": count}, outputs=count)


def tile(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 4, 4), draw.of("float32", "int32", "bool"))
    return Use("Tile", {"x": x}, {"r": int64(*(draw.int(1, 3) for _ in x.shape))})


def trilu(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(2, 4), draw.of("float32", "int64"))
    constants = {"k": np.array(draw.int(-4, 4))} if draw.flag() else {}
    return Use("Trilu", {"x": x}, constants, {"upper": draw.int(0, 1)})


def blocks(draw: Draw) -> Use:
    """DepthToSpace in both modes, and SpaceToDepth."""
    b, n, c, h, w = draw.int(1, 3), *(draw.int(1, 3) for _ in range(4))
    if draw.flag():
        x = draw.tensor((n, c, h * b, w * b))
        return Use("SpaceToDepth", {"x": x}, attributes={"blocksize": b})
    x = draw.tensor((n, c * b * b, h, w))
    mode = draw.of("DCR", "CRD")
    return Use("DepthToSpace", {"x": x}, attributes={"blocksize": b, "mode": mode})


def eye_like(draw: Draw) -> Use:
    given = {"k": draw.int(-3, 3)} | ({"dtype": draw.of(1, 7, 11)} if draw.flag() else {})
    return Use("EyeLike", {"x": draw.tensor(draw.shape(2, 2))}, attributes=given)


def slices(draw: Draw) -> Use:
    """Any start, end and step over some axes; ends beyond the tensor."""
    x = draw.tensor(draw.shape(1, 4), draw.of("float32", "int64"))
    axes = draw.some(x.ndim, 1)
    steps = [draw.of(1, 1, 2, 3, -1, -2) for _ in axes]
    starts, ends = [], []
    for axis, step in zip(axes, steps, strict=True):
        extent = x.shape[axis]
        # onnx's evaluator takes starts and ends as Python does, which differs before the axis.
        starts.append(draw.int(-extent, extent + 2))
        low = -extent - 3 if step < 0 else -extent
        ends.append(draw.of(draw.int(low, extent + 3), 2**31 - 1 if step > 0 else -(2**31)))
    places = {"s": int64(*starts), "e": int64(*ends), "a": int64(*axes), "t": int64(*steps)}
    return Use("Slice", {"x": x}, places)


def pads(draw: Draw) -> Use:
    """Every mode; some axes; pads that cut."""
    x = draw.tensor([draw.int(3, 6) for _ in range(draw.int(1, 4))])
    mode = draw.of("constant", "constant", "reflect", "edge", "wrap")
    axes = draw.some(x.ndim, 1)
    low = -1 if mode == "constant" else 0
    widths = [draw.int(low, 2) for _ in range(2 * len(axes))]
    constants = {"p": int64(*widths), "v": np.float32(draw.int(-9, 9)), "a": int64(*axes)}
    if mode != "constant":
        del constants["v"]
    order = ["x", "p", "v" if mode == "constant" else "", "a"]
    want = None
    if min(widths) < 0:  # which onnx's evaluator does not do
        want = [_padded(x, axes, widths, float(constants["v"]))]
    return Use("Pad", {"x": x}, constants, {"mode": mode}, order=order, want=want)


def _padded(x: np.ndarray, axes: list[int], widths: list[int], value: float) -> np.ndarray:
    for i, axis in enumerate(axes):
        before, after = widths[i], widths[len(axes) + i]
        cut = [slice(None)] * x.ndim
        cut[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
        grown = [(0, 0)] * x.ndim
        grown[axis] = (max(before, 0), max(after, 0))
        x = np.pad(x[tuple(cut)], grown, constant_values=value)
    return x


@seeds(3)
def test_views_and_moves(seed: int) -> None:
    check_uses(
        drawn(seed, 2, reshape, flatten, squeeze, unsqueeze, transpose, expand, tile),
        rtol=0,
        atol=0,
    )


@seeds(3)
def test_cuts_and_joins(seed: int) -> None:
    check_uses(
        drawn(seed, 2, concat, split, slices, slices, trilu, blocks, eye_like), rtol=0, atol=0
    )


@seeds(3)
def test_pads(seed: int) -> None:
    check_uses(drawn(seed, 6, pads), opset=19, rtol=0, atol=0)
