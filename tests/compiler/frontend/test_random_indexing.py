"""Gathers, scatters, sorts and sums along an axis, over random shapes and indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_uses import Draw, Use, check_uses, drawn, int64, seeds

TYPES = ("float32", "int64", "uint8", "bool")


def placed(draw: Draw, **tensors: Any) -> dict[str, dict[str, Any]]:
    """Tensors that are constants half of the time."""
    constants = {name: array for name, array in tensors.items() if draw.flag()}
    return {
        "constants": constants,
        "feeds": {name: a for name, a in tensors.items() if name not in constants},
    }


def indices(draw: Draw, shape: tuple[int, ...], extent: int) -> np.ndarray[Any, Any]:
    """From either end."""
    return draw.tensor(shape, draw.of("int64", "int32"), -extent, extent - 1)


def gather(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 4), draw.of(*TYPES))
    axis = draw.axis(x.ndim)
    parts = placed(draw, i=indices(draw, draw.shape(0, 2, 4), x.shape[axis]))
    parts["feeds"] = {"x": x, **parts["feeds"]}
    return Use("Gather", **parts, attributes={"axis": axis}, order=["x", "i"])


def gather_elements(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 4), draw.of(*TYPES))
    axis = draw.axis(x.ndim)
    dims = list(x.shape)
    dims[axis] = draw.int(1, 5)
    i = indices(draw, tuple(dims), x.shape[axis])
    parts = placed(draw, i=i)
    parts["feeds"] = {"x": x, **parts["feeds"]}
    want = [np.take_along_axis(x, i, axis)]  # onnx's evaluator takes no negative axis
    return Use("GatherElements", **parts, attributes={"axis": axis}, order=["x", "i"], want=want)


def gather_nd(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(2, 4, 4), draw.of(*TYPES))
    batch = draw.int(0, x.ndim - 1)
    depth = draw.int(1, x.ndim - batch)
    lead = (*x.shape[:batch], *draw.shape(0 if batch else 1, 2, 3))
    columns = [draw.tensor(lead, "int64", -x.shape[batch + i], x.shape[batch + i] - 1)
               for i in range(depth)]  # fmt: skip
    parts = placed(draw, i=np.stack(columns, -1))
    parts["feeds"] = {"x": x, **parts["feeds"]}
    return Use("GatherND", **parts, attributes={"batch_dims": batch}, order=["x", "i"])


def scatter_elements(draw: Draw) -> Use:
    """Different places in every line, so that the order of the writes does not matter."""
    x = draw.tensor(draw.shape(1, 3, 5), "float32")
    axis = draw.axis(x.ndim)
    dims = [draw.int(1, d) for d in x.shape]
    lines = [draw.random.permutation(x.shape[axis])[: dims[axis]]
             for _ in range(int(np.prod(dims)) // dims[axis])]  # fmt: skip
    moved = [d for i, d in enumerate(dims) if i != axis % x.ndim]
    places = np.moveaxis(np.array(lines).reshape(*moved, dims[axis]), -1, axis).astype("int64")
    places -= np.where(draw.random.integers(0, 2, places.shape) > 0, x.shape[axis], 0)
    given: dict[str, Any] = {"axis": axis}
    if dims == list(x.shape) and draw.flag():
        given["reduction"] = draw.of("add", "mul", "max", "min")
    parts = placed(draw, i=places, u=draw.tensor(dims))
    parts["feeds"] = {"x": x, **parts["feeds"]}
    return Use("ScatterElements", **parts, attributes=given, order=["x", "i", "u"])


def scatter_nd(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 3, 5))
    depth = draw.int(1, x.ndim)
    cells = int(np.prod(x.shape[:depth]))
    chosen = draw.random.permutation(cells)[: draw.int(1, min(cells, 6))]
    places = np.stack(np.unravel_index(chosen, x.shape[:depth]), -1).astype("int64")
    places -= np.where(draw.random.integers(0, 2, places.shape) > 0, x.shape[:depth], 0)
    updates = draw.tensor((len(chosen), *x.shape[depth:]))
    given = {"reduction": draw.of("add", "mul", "max", "min")} if draw.flag() else {}
    parts = placed(draw, i=places, u=updates)
    parts["feeds"] = {"x": x, **parts["feeds"]}
    return Use("ScatterND", **parts, attributes=given, order=["x", "i", "u"])


def one_hot(draw: Draw) -> Use:
    """Indices out of the range too, which are nowhere."""
    i, depth = draw.tensor(draw.shape(1, 3), "int64", -6, 7), draw.int(1, 5)
    values = draw.tensor((2,), draw.of("float32", "int64"))
    axis = draw.axis(i.ndim + 1)
    rank = i.ndim + 1
    places = np.arange(depth).reshape([-1 if a == axis % rank else 1 for a in range(rank)])
    lifted = np.expand_dims(i, axis)
    hit = np.where(lifted < 0, lifted + depth, lifted) == places
    want = np.where(hit, values[1], values[0])
    constants = {"d": np.array(depth), "v": values}
    return Use("OneHot", {"i": i}, constants, {"axis": axis}, want=[want])


def top_k(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 3), draw.of("float32", "int64"), -50, 50)
    axis = draw.axis(x.ndim)
    k = int64(draw.int(1, x.shape[axis]))
    given = {"axis": axis, "largest": draw.int(0, 1), "sorted": 1}
    return Use("TopK", {"x": x}, {"k": k}, given, outputs=2)


def cum_sum(draw: Draw) -> Use:
    x = draw.tensor(draw.shape(1, 3), draw.of("float32", "float64", "int32", "int64"))
    given = {"exclusive": draw.int(0, 1), "reverse": draw.int(0, 1)}
    return Use("CumSum", {"x": x}, {"a": np.array(draw.axis(x.ndim))}, given)


def arg_extreme(draw: Draw) -> Use:
    """Ties: the first or the last."""
    x = draw.tensor(draw.shape(1, 4), draw.of("float32", "int32", "uint8"), 0, 3).round()
    x = x.astype(x.dtype)
    given = {"axis": draw.axis(x.ndim), "keepdims": draw.int(0, 1)}
    given["select_last_index"] = draw.int(0, 1)
    return Use(draw.of("ArgMax", "ArgMin"), {"x": x}, attributes=given)


@seeds(3)
def test_gathers(seed: int) -> None:
    check_uses(drawn(seed, 4, gather, gather_elements, gather_nd), rtol=0, atol=0)


@seeds(3)
def test_scatters(seed: int) -> None:
    check_uses(drawn(seed, 4, scatter_elements, scatter_nd, one_hot))


@seeds(3)
def test_orders(seed: int) -> None:
    check_uses(drawn(seed, 3, top_k, cum_sum, arg_extreme))
