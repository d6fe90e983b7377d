"""Shapes that data decides, from the ONNX file to the run, against onnxruntime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import value
from late_models import Array, check, compiled, node
from onnx import TensorProto

from motet.errors import InputError

RNG = np.random.default_rng(5)
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL


def f(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def test_a_mask_to_a_product(tmp_path: Path) -> None:
    nodes = [
        node("Greater", ["x", "zero"], "mask"),
        node("Where", ["mask", "x", "zero"], "kept"),
        node("NonZero", ["kept"], "found"),
        node("Transpose", ["found"], "places"),
        node("GatherND", ["rows", "places"], "chosen"),
        node("MatMul", ["chosen", "w"], "y"),
        node("Shape", ["y"], "size"),
    ]
    feeds = [{"x": x, "rows": f(3, 4, 6)} for x in (f(3, 4), -np.ones((3, 4), "f"), f(3, 4))]
    constants = {"zero": np.float32([0]).reshape(()), "w": f(6, 2)}
    session = check(tmp_path, nodes, feeds, constants, ("y", "size", "places"))
    assert session.get_outputs()[0].shape == ["nonzero_0_count", 2]
    with ThreadPoolExecutor(2) as pool:
        many = [{"x": f(3, 4), "rows": f(3, 4, 6)} for _ in range(40)]
        results = list(pool.map(lambda feed: session.run(["places"], feed)[0], many))
    for feed, places in zip(many, results, strict=True):
        np.testing.assert_array_equal(places, np.argwhere(feed["x"] > 0))


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32"])
def test_positions_of_every_type(dtype: str, tmp_path: Path) -> None:
    x = np.array([[0, 1, -2], [0, 0, 3]]).astype(dtype)
    feeds = [{"x": x}, {"x": np.zeros_like(x)}, {"x": np.ones_like(x)}]
    if dtype == "float32":
        feeds.append({"x": np.array([[np.nan, 0, -0.0], [np.inf, 1e-40, 0]], dtype)})
    check(tmp_path, [node("NonZero", ["x"])], feeds)


def test_selection_along_an_axis(tmp_path: Path) -> None:
    nodes = [
        node("Compress", ["x", "flags"], "rows", axis=-1),
        node("Compress", ["x", "some"], "flat"),
        node("ReduceSum", ["rows"], "total", keepdims=0),
    ]
    feeds = [
        {"x": f(3, 4), "flags": np.array(flags, bool), "some": RNG.random(10) > 0.5}
        for flags in ([1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0])
    ]
    check(tmp_path, nodes, feeds, outputs=("rows", "flat", "total"))


@pytest.mark.parametrize("ordered", [1, 0])
def test_unique_elements(ordered: int, tmp_path: Path) -> None:
    nodes = [node("Unique", ["x"], "y", "first", "inverse", "counts", sorted=ordered)]
    feeds = [{"x": RNG.integers(0, top, (4, 5)).astype(np.float32)} for top in (3, 1, 40)]
    check(tmp_path, nodes, feeds, outputs=("y", "first", "inverse", "counts"))


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("ordered", [1, 0])
def test_unique_entries_of_an_axis(ordered: int, axis: int, tmp_path: Path) -> None:
    outputs = ("y", "first", "inverse", "counts")
    nodes = [node("Unique", ["x"], *outputs, sorted=ordered, axis=axis)]
    feeds = [{"x": RNG.integers(0, top, (6, 2, 5)).astype(np.float32)} for top in (2, 1, 9)]
    feeds.append({"x": np.repeat(feeds[0]["x"][:3], 2, 0)})
    check(tmp_path, nodes, feeds, outputs=outputs)


def boxes(number: int) -> dict[str, Array]:
    return {
        "boxes": RNG.random((1, number, 4)).astype(np.float32),
        "scores": RNG.random((1, 2, number)).astype(np.float32),
    }


def test_boxes_to_rows(tmp_path: Path) -> None:
    nodes = [
        node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], "found",
             center_point_box=1),
        node("Gather", ["found", "two"], "index", axis=1),
        node("Gather", ["boxes", "index"], "chosen", axis=1),
        node("Reshape", ["chosen", "rows"], "y"),
        node("Shape", ["found"], "size"),
    ]  # fmt: skip
    constants = {"two": np.int64(2).reshape(()), "rows": ints(-1, 4), "most": ints(9),
                 "overlap": np.float32([0.2])}  # fmt: skip
    feeds = [boxes(30) | {"least": np.float32([least])} for least in (0.3, 2.0, 0.9)]
    symbols = {"boxes": (1, "n", 4), "scores": (1, 2, "n")}
    feeds.append(boxes(5) | {"least": np.float32([0])})
    check(tmp_path, nodes, feeds, constants, ("y", "found", "size"), symbols)


def test_boxes_with_thresholds_of_the_run(tmp_path: Path) -> None:
    names = ["boxes", "scores", "most", "overlap"]
    nodes = [node("NonMaxSuppression", names, "found"), node("Shape", ["found"], "y")]
    feeds = [
        boxes(20) | {"most": ints(most), "overlap": np.float32([overlap])}
        for most, overlap in ((3, 0.5), (0, 0.5), (99, 0.0), (20, 1.0))
    ]
    check(tmp_path, nodes, feeds, outputs=("found", "y"))


def test_the_best_k(tmp_path: Path) -> None:
    nodes = [node("TopK", ["x", "k"], "y", "at", axis=1), node("Shape", ["at"], "size")]
    feeds = [{"x": f(2, 7), "k": ints(k)} for k in (3, 0, 7, 1)]
    session = check(tmp_path, nodes, feeds, outputs=("y", "at", "size"))
    with pytest.raises(InputError, match=r"'TopK_of_y' computes topk_0_k = -1"):
        session.run(None, {"x": f(2, 7), "k": ints(8)})


CUTS = [
    ((1, 0), (3, 2**62), (1, 1)),
    ((-2, -100), (100, -1), (1, 2)),
    ((2, 1), (1, -100), (1, 1)),
    ((4, 100), (-100, 0), (-2, -1)),
    ((-1, 2), (0, -(2**62)), (-1, -1)),
]


@pytest.mark.parametrize("steps", sorted({cut[2] for cut in CUTS}))
def test_cuts_at_run_time_places(steps: tuple[int, int], tmp_path: Path) -> None:
    nodes = [node("Slice", ["x", "starts", "ends", "axes", "steps"])]
    feeds = [
        {"x": f(4, 3, 5), "starts": ints(*starts), "ends": ints(*ends)} for starts, ends, _ in CUTS
    ]
    feeds.append({"x": f(1, 3, 9), "starts": ints(0, 3), "ends": ints(1, 6)})
    constants = {"axes": ints(0, -1), "steps": ints(*steps)}
    check(tmp_path, nodes, feeds, constants, symbols={"x": ("a", 3, "b")})


@pytest.mark.parametrize("allowzero", [0, 1])
def test_run_time_shapes(allowzero: int, tmp_path: Path) -> None:
    nodes = [node("Reshape", ["x", "shape"], allowzero=allowzero)]
    feeds = [{"x": f(4, 6), "shape": ints(*shape)} for shape in ((2, 12, 1), (3, -1, 2))]
    if allowzero:
        feeds.append({"x": f(0, 6), "shape": ints(5, 0, 3)})
    else:
        feeds += [{"x": f(4, 6), "shape": ints(*shape)} for shape in ((0, 2, -1), (0, 0, 1))]
    session = check(tmp_path, nodes, feeds, symbols={"x": ("n", 6)})
    with pytest.raises(InputError, match="'Reshape_of_y' computes reshape_0_dim0 = 5"):
        session.run(None, {"x": f(4, 6), "shape": ints(5, 5, 1)})


def test_shapes_put_together(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], "n", end=1),
        node("Cast", ["k"], "wide", to=7),
        node("Concat", ["n", "wide", "rest"], "shape", axis=0),
        node("Reshape", ["x", "shape"], "parts"),
        node("ReduceSum", ["parts", "axis"], "y", keepdims=0),
    ]
    feeds = [{"x": f(n, 12), "k": np.array([k], np.int32)} for n, k in ((2, 3), (5, 4), (2, 12))]
    constants = {"rest": ints(-1), "axis": ints(1)}
    check(tmp_path, nodes, feeds, constants, ("y", "parts"), {"x": ("n", 12)})


def test_expanded_and_filled(tmp_path: Path) -> None:
    nodes = [
        node("Expand", ["x", "shape"], "y"),
        node("Expand", ["n1", "shape"], "spread"),
        node("ConstantOfShape", ["shape"], "blank"),
        node("Tile", ["x", "shape"], "tiled"),
    ]
    feeds = [
        {"x": f(3, 1), "n1": f(1), "shape": ints(3, 4)},
        {"x": f(3, 1), "n1": f(5), "shape": ints(1, 5)},
        {"x": f(3, 1), "n1": f(4), "shape": ints(3, 1)},
    ]
    symbols = {"n1": ("n",)}
    session = check(tmp_path, nodes, feeds, None, ("y", "spread", "blank", "tiled"), symbols)
    with pytest.raises(InputError, match=r"'Expand_of_y' computes expand_0_dim0 = -1"):
        session.run(None, {"x": f(3, 1), "n1": f(1), "shape": ints(2, 4)})


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32"])
def test_ranges(dtype: str, tmp_path: Path) -> None:
    nodes = [node("Range", ["start", "limit", "delta"])]
    limits = [(0, 5, 1), (10, 3, -2), (3, 3, 1), (5, 0, 1), (-3, 9, 4)]
    feeds = [
        {
            name: np.array(v, dtype)
            for name, v in zip(("start", "limit", "delta"), three, strict=True)
        }
        for three in limits
    ]
    if dtype == "float32":
        feeds.append(
            {n: np.array(v, dtype) for n, v in (("start", 0), ("limit", 0.3), ("delta", 0.1))}
        )
    session = check(tmp_path, nodes, feeds)
    if dtype != "float32":
        with pytest.raises(InputError, match=r"range_0_count = -1"):
            session.run(None, feeds[0] | {"delta": np.array(0, dtype)})


def test_parts_of_run_time_sizes(tmp_path: Path) -> None:
    nodes = [node("Split", ["x", "sizes"], "a", "b", "c", axis=1), node("Shape", ["b"], "size")]
    feeds = [{"x": f(2, 9), "sizes": ints(*sizes)} for sizes in ((2, 3, 4), (9, 0, 0), (1, 1, 7))]
    check(tmp_path, nodes, feeds, outputs=("a", "b", "c", "size"))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_run_time_pads(mode: str, tmp_path: Path) -> None:
    nodes = [node("Pad", ["x", "pads"], mode=mode)]
    feeds = [{"x": f(4, 5), "pads": ints(*pads)} for pads in ((0, 0, 0, 0), (1, 2, 3, 0))]
    if mode == "constant":
        feeds.append({"x": f(4, 5), "pads": ints(-1, 2, 0, -3)})
    check(tmp_path, nodes, feeds, opset=19)


def test_pads_of_a_run_time_value(tmp_path: Path) -> None:
    nodes = [node("Pad", ["x", "pads", "fill"]), node("Pad", ["x", "widths", "fill"], "z")]
    feeds = [
        {"x": f(4, 5), "fill": np.array(fill, np.float32), "widths": ints(0, 1, 1, 2)}
        for fill in (0.5, -np.inf)
    ]
    session = check(tmp_path, nodes, feeds, {"pads": ints(1, 0, 2, 3)}, ("y", "z"))
    assert session.get_outputs()[0].shape == [7, 8]


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_one_hot_of_a_run_time_depth(dtype: str, tmp_path: Path) -> None:
    nodes = [node("OneHot", ["x", "depth", "values"], axis=1)]
    feeds = [
        {"x": ints(0, 2, -1, 3), "depth": ints(depth).astype(dtype), "values": f(2)}
        for depth in (4, 1, 6)
    ]
    check(tmp_path, nodes, feeds)


def test_a_picture_of_a_run_time_size(tmp_path: Path) -> None:
    nodes = [node("Resize", ["x", "", "", "sizes"], mode="linear", axes=[2, 3])]
    feeds = [{"x": f(1, 2, 4, 6), "sizes": ints(*sizes)} for sizes in ((8, 3), (4, 6))]
    check(tmp_path, nodes, feeds)


def test_same_model_same_bytes(tmp_path: Path) -> None:
    nodes = [node("NonZero", ["x"], "a"), node("Range", ["zero", "n", "one"], "r")]
    constants = {"zero": np.int64(0).reshape(()), "one": np.int64(1).reshape(())}
    inputs = {"x": ((3, 4), "float32"), "n": ((), "int64")}
    sessions = [compiled(tmp_path, nodes, inputs, constants, ("a", "r"))[0] for _ in range(2)]
    assert sessions[0].program == sessions[1].program


def branch(nodes: list[onnx.NodeProto], *outputs: str) -> onnx.GraphProto:
    infos = [onnx.ValueInfoProto(name=name) for name in outputs]
    return onnx.helper.make_graph(nodes, "branch", [], infos)


def test_branches_of_different_shapes(tmp_path: Path) -> None:
    found = [node("NonZero", ["x"], "nz"), node("Transpose", ["nz"], "some"),
             node("Cast", ["some"], "rows", to=1), node("Identity", ["x"], "same")]  # fmt: skip
    fixed = [node("Neg", ["pair"], "blank"), node("Neg", ["x"], "minus")]
    nodes = [
        node("If", ["flag"], "r", "z", then_branch=branch(found, "rows", "same"),
             else_branch=branch(fixed, "blank", "minus")),
        node("MatMul", ["r", "w"], "y"),
        node("Shape", ["r"], "size"),
        node("NonZero", ["y"], "again"),
    ]  # fmt: skip
    flags = [np.array(flag) for flag in (True, False, True, True)]
    feeds = [{"x": f(3, 4) * (f(3, 4) > 0), "flag": flag} for flag in flags]
    feeds[-1]["x"][:] = 0
    constants = {"pair": f(5, 2), "w": f(2, 3)}
    outputs = ("y", "z", "size", "again")
    session = check(tmp_path, nodes, feeds, constants, outputs)
    assert session.get_outputs()[0].shape[1] == 3


def test_a_loop_that_grows_what_it_carries(tmp_path: Path) -> None:
    body = onnx.helper.make_graph(
        [
            node("Concat", ["rows", "x"], "more", axis=0),
            node("ReduceSum", ["more"], "total", keepdims=0),
            node("Less", ["total", "limit"], "again"),
        ],
        "body",
        [value("step", [], INT64), value("going", [], BOOL), value("rows", ["k", 3])],
        [value("again", [], BOOL), value("more", ["k2", 3])],
    )
    nodes = [
        node("Loop", ["most", "yes", "first"], "grown", body=body),
        node("MatMul", ["grown", "w"], "y"),
    ]
    constants = {"most": np.array(4), "yes": np.array(True), "w": f(3, 2), "first": f(1, 3)}
    feeds = [
        {"x": np.ones((2, 3), np.float32), "limit": np.array(limit, np.float32)}
        for limit in (0, 10, 100, 18, 0)
    ]
    check(tmp_path, nodes, feeds, constants, ("y", "grown"))


def test_what_follows_a_late_axis(tmp_path: Path) -> None:
    nodes = [
        node("Compress", ["x", "flags"], "c", axis=1),
        node("Softmax", ["c"], "softmax", axis=1),
        node("Transpose", ["c"], "t", perm=[0, 2, 1]),
        node("Conv", ["t", "w"], "conv", pads=[1, 1]),
        node("MaxPool", ["t"], "pooled", kernel_shape=[2], strides=[2]),
        node("MatMul", ["c", "t"], "scores"),
        node("Concat", ["c", "x"], "both", axis=1),
        node("CumSum", ["c", "one"], "sums"),
        node("Slice", ["c", "last", "open", "one1", "last"], "flipped"),
        node("Shape", ["c"], "shape"),
        node("Expand", ["row", "shape"], "spread"),
        node("Transpose", ["c"], "steps", perm=[1, 0, 2]),
        node("LSTM", ["steps", "W", "R"], "", "h", hidden_size=3),
    ]
    constants = {"w": f(4, 6, 3), "one": np.array(1), "one1": ints(1), "last": ints(-1),
                 "open": ints(-(2**63)), "row": f(1, 1, 6)}  # fmt: skip
    constants |= {"W": f(1, 12, 6), "R": f(1, 12, 3)}
    x = f(2, 7, 6)
    feeds = [
        {"x": x, "flags": np.array(flags, bool)}
        for flags in ([1, 0, 1, 1, 0, 1, 1], [0, 0, 1, 0, 0, 1, 0], [1] * 7)
    ]
    outputs = ("softmax", "conv", "pooled", "scores", "both", "sums", "flipped", "spread", "h")
    check(tmp_path, nodes, feeds, constants, outputs)
