"""Symbolic dimensions: what exporters write about them, run at sizes chosen at run time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import FLOAT, check, load, model, operators, value
from onnx import TensorProto, helper, numpy_helper

from motet.runtime.errors import UnsupportedOperatorError

RNG = np.random.default_rng(11)
INT64 = TensorProto.INT64


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def graph(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[np.ndarray, list[Any]]],
    constants: dict[str, np.ndarray] | None = None,
    elem: int = FLOAT,
    opset: int = 18,
) -> onnx.ModelProto:
    """A model of symbolic inputs, whose output ``y`` has no declared shape."""
    infos = [
        value(name, dims, helper.np_dtype_to_tensor_dtype(array.dtype))
        for name, (array, dims) in inputs.items()
    ]
    return model(nodes, infos, [value("y", None, elem)], constants, opset)


def check_at_sizes(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[np.ndarray, list[Any]]],
    constants: dict[str, np.ndarray] | None = None,
    **options: Any,
) -> list[str]:
    proto = graph(nodes, inputs, constants, **options)
    feeds = {name: array for name, (array, _) in inputs.items()}
    return operators(check(proto, feeds, folder, 1e-5, 1e-5, "onnxruntime"))


def node(op: str, inputs: list[str], output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=f"{op}_of_{output}", **attributes)


def extent(x: str, axis: int, output: str) -> onnx.NodeProto:
    """``output``: the extent of an axis, int64 [1]."""
    return node("Shape", [x], output, start=axis, end=axis + 1)


SLICES = {
    "head": (0, 2),
    "tail": (-2, 2**62),
    "without the ends": (1, -1),
    "beyond": (1, 100),
}


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("cut", SLICES)
def test_slice_of_a_symbolic_axis(tmp_path, cut, length):
    start, end = SLICES[cut]
    constants = {"b": ints(start), "e": ints(end), "a": ints(1)}
    x = f(2, length)
    check_at_sizes(tmp_path, [node("Slice", ["x", "b", "e", "a"])], {"x": (x, [2, "n"])}, constants)


@pytest.mark.parametrize("length", [1, 4, 5])
def test_slice_at_a_symbolic_place(tmp_path, length):
    """The second half: ``x[:, n // 2:]``."""
    nodes = [
        extent("x", 1, "n"),
        node("Div", ["n", "two"], "half"),
        node("Slice", ["x", "half", "n", "a"]),
    ]
    check_at_sizes(tmp_path, nodes, {"x": (f(2, length), [2, "n"])}, {"two": ints(2), "a": ints(1)})


@pytest.mark.parametrize("length", [2, 5])
def test_a_start_that_may_be_negative_counts_from_the_end(tmp_path, length):
    """``x[n - 3:]`` of 2 starts at -1."""
    nodes = [
        extent("x", 0, "n"),
        node("Sub", ["n", "three"], "start"),
        node("Slice", ["x", "start", "end"]),
    ]
    constants = {"three": ints(3), "end": ints(2**62)}
    check_at_sizes(tmp_path, nodes, {"x": (f(length), ["n"])}, constants)


def test_every_second_element_and_the_reverse(tmp_path):
    nodes = [
        node("Slice", ["x", "last", "open", "a", "back"], "r"),
        node("Slice", ["r", "one", "end", "a", "two"]),
    ]
    constants = {
        "last": ints(-1), "open": ints(-(2**62)), "a": ints(1), "back": ints(-1),
        "one": ints(1), "end": ints(2**62), "two": ints(2),
    }  # fmt: skip
    check_at_sizes(tmp_path, nodes, {"x": (f(2, 7), [2, "n"])}, constants)


def test_positions_cut_from_a_table_meet_the_sequence(tmp_path):
    """A table of 8 positions, cut to the sequence and added to it, as in BERT."""
    nodes = [
        extent("x", 1, "n"),
        node("Slice", ["table", "zero", "n", "a"], "positions"),
        node("Add", ["x", "positions"]),
    ]
    constants = {"table": f(1, 8, 3), "zero": ints(0), "a": ints(1)}
    check_at_sizes(tmp_path, nodes, {"x": (f(2, 5, 3), ["b", "n", 3])}, constants)


def test_dimensions_of_two_names_meet(tmp_path):
    inputs = {"a": (f(2, 5), ["b", "n"]), "c": (f(5), ["m"])}
    check_at_sizes(tmp_path, [node("Add", ["a", "c"])], inputs)


RESIZES = [
    ("nearest", "asymmetric", "floor"),
    ("nearest", "half_pixel", "round_prefer_floor"),
    ("nearest", "tf_half_pixel_for_nn", "ceil"),
    ("linear", "half_pixel", "floor"),
    ("linear", "align_corners", "floor"),
    ("linear", "pytorch_half_pixel", "floor"),
    ("cubic", "half_pixel", "floor"),
]


@pytest.mark.parametrize(("mode", "coordinate", "rounding"), RESIZES)
@pytest.mark.parametrize("height", [3, 8])
def test_resize_to_the_size_of_another_image(tmp_path, mode, coordinate, rounding, height):
    nodes = [
        node("Shape", ["x"], "front", start=0, end=2),
        node("Shape", ["like"], "back", start=2, end=4),
        node("Concat", ["front", "back"], "sizes", axis=0),
        node(
            "Resize", ["x", "", "", "sizes"], mode=mode, nearest_mode=rounding,
            coordinate_transformation_mode=coordinate,
        ),
    ]  # fmt: skip
    inputs = {
        "x": (f(1, 2, 5, 4), ["b", 2, "h", "w"]),
        "like": (f(1, 1, height, 7), ["b", 1, "oh", "ow"]),
    }
    check_at_sizes(tmp_path, nodes, inputs)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_resize_by_a_fraction(tmp_path, scale):
    nodes = [node("Resize", ["x", "", "scales"], mode="linear")]
    constants = {"scales": np.array([1, 1, scale, scale], "f")}
    check_at_sizes(tmp_path, nodes, {"x": (f(1, 2, 5, 6), [1, 2, "h", "w"])}, constants)


def test_antialias_of_a_symbolic_axis_is_refused(tmp_path):
    nodes = [node("Resize", ["x", "", "scales"], mode="linear", antialias=1)]
    inputs = {"x": (f(1, 2, 5, 6), [1, 2, "h", "w"])}
    with pytest.raises(UnsupportedOperatorError, match="antialias"):
        load(graph(nodes, inputs, {"scales": np.array([1, 1, 0.5, 0.5], "f")}), tmp_path)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_pad_of_a_symbolic_axis(tmp_path, mode):
    nodes = [node("Pad", ["x", "pads"], mode=mode)]
    constants = {"pads": ints(0, 2, 0, 1)}
    check_at_sizes(tmp_path, nodes, {"x": (f(2, 4), [2, "n"])}, constants, opset=19)


def test_gather_elements_with_negative_indices(tmp_path):
    inputs = {"x": (f(2, 5), ["b", "n"]), "i": (ints(-1, 0, 3, -5).reshape(2, 2), ["b", 2])}
    check_at_sizes(tmp_path, [node("GatherElements", ["x", "i"], axis=1)], inputs)


def test_one_column_is_scattered(tmp_path):
    inputs = {
        "x": (f(2, 3, 4), ["b", 3, 4]),
        "i": (ints(2, -1, 0, 1, 3, -4).reshape(2, 3, 1), ["b", 3, 1]),
        "u": (f(2, 3, 1), ["b", 3, 1]),
    }
    found = check_at_sizes(tmp_path, [node("ScatterElements", ["x", "i", "u"], axis=2)], inputs)
    assert "relax.scatter_nd" not in found


def test_scatter_nd_into_a_symbolic_tensor(tmp_path):
    inputs = {"x": (f(3, 2), ["n", 2]), "u": (f(2, 2), [2, 2])}
    nodes = [node("ScatterND", ["x", "i", "u"])]
    check_at_sizes(tmp_path, nodes, inputs, {"i": ints(-1, 0).reshape(2, 1)})


def test_tile_by_a_symbolic_count(tmp_path):
    nodes = [
        extent("x", 0, "n"),
        node("Concat", ["one", "n"], "repeats", axis=0),
        node("Tile", ["x", "repeats"]),
    ]
    check_at_sizes(tmp_path, nodes, {"x": (f(3, 2), ["n", 2])}, {"one": ints(1)})


def test_a_whole_axis_is_sorted(tmp_path):
    nodes = [
        extent("x", 1, "n"),
        helper.make_node("TopK", ["x", "n"], ["y", "order"], largest=0),
    ]
    check_at_sizes(tmp_path, nodes, {"x": (f(2, 6), ["b", "n"])})


def test_expand_to_a_product_or_to_what_it_is(tmp_path):
    """``where(shape == -1, 1, shape)`` over a product of extents, as torch's expand writes it."""
    nodes = [
        extent("x", 0, "b"),
        extent("x", 1, "n"),
        node("Mul", ["b", "n"], "both"),
        node("Concat", ["both", "keep"], "shape", axis=0),
        node("Equal", ["shape", "minus"], "is_kept"),
        node("Where", ["is_kept", "ones", "shape"], "full"),
        node("Expand", ["row", "full"]),
    ]
    constants = {
        "keep": ints(-1), "minus": ints(-1, -1), "ones": ints(1, 1), "row": f(1, 3),
    }  # fmt: skip
    check_at_sizes(tmp_path, nodes, {"x": (f(2, 5), ["b", "n"])}, constants)


def test_a_symbolic_axis_of_one_is_squeezed(tmp_path):
    """``x[:, 0:1]`` without its axis: Relax only knows ``min(1, n)``."""
    nodes = [node("Slice", ["x", "b", "e", "a"], "row"), node("Squeeze", ["row", "a"])]
    constants = {"b": ints(0), "e": ints(1), "a": ints(1)}
    check_at_sizes(tmp_path, nodes, {"x": (f(2, 5, 3), ["b", "n", 3])}, constants)


@pytest.mark.parametrize("length", [6, 7])
def test_equal_parts_of_a_symbolic_axis(tmp_path, length):
    nodes = [
        helper.make_node("Split", ["x"], ["p", "q", "r"], axis=1, num_outputs=3),
        node("Concat", ["r", "p", "q"], axis=1),
    ]
    check_at_sizes(tmp_path, nodes, {"x": (f(2, length), [2, "n"])})


def test_batches_of_two_names_meet_in_a_product(tmp_path):
    inputs = {"a": (f(2, 3, 4), ["b", 3, 4]), "c": (f(2, 4, 5), ["k", 4, "n"])}
    check_at_sizes(tmp_path, [node("MatMul", ["a", "c"])], inputs)


def test_one_extent_of_a_shape_is_replaced(tmp_path):
    """``index_fill`` as torch writes it: an entry of the shape is scattered over."""
    nodes = [
        node("Shape", ["x"], "shape"),
        node("ScatterElements", ["shape", "one", "two"], "target"),
        node("Expand", ["zero", "target"]),
    ]
    constants = {"one": ints(1), "two": ints(2), "zero": np.zeros(1, "f")}
    check_at_sizes(tmp_path, nodes, {"x": (f(3, 6), ["b", "n"])}, constants)


def test_channels_are_as_many_as_the_weight_has(tmp_path):
    """A batch that an exporter took for 1 becomes a factor of the channels."""
    nodes = [node("Reshape", ["x", "shape"], "image"), node("Conv", ["image", "w"])]
    constants = {"shape": ints(1, -1, 3, 3), "w": f(2, 4, 3, 3)}
    check_at_sizes(tmp_path, nodes, {"x": (f(1, 4, 9), ["b", 4, 9])}, constants)


def test_sizes_computed_in_floats(tmp_path):
    """``floor(2.0 * size)``, as TensorFlow's exporter enlarges images."""
    nodes = [
        node("Shape", ["x"], "front", end=2),
        node("Shape", ["x"], "back", start=2),
        node("Cast", ["back"], "float", to=FLOAT),
        node("Mul", ["float", "two"], "double"),
        node("Floor", ["double"], "whole"),
        node("Cast", ["whole"], "size", to=INT64),
        node("Concat", ["front", "size"], "sizes", axis=0),
        node("Resize", ["x", "", "", "sizes"], mode="linear"),
    ]
    inputs = {"x": (f(1, 2, 3, 4), ["b", 2, "h", "w"])}
    check_at_sizes(tmp_path, nodes, inputs, {"two": np.float32(2)})


@pytest.mark.parametrize(
    ("written", "named"),
    [
        (["?", "?"], ("x_dim0", "x_dim1")),  # no name: not equal
        (
            ["DynamicDimension.0", "DynamicDimension_0"],
            ("DynamicDimension_0_", "DynamicDimension_0"),
        ),
        (["N", "N + 1"], ("N", "N + 1")),
        (["floor(H/2)", ""], ("floor_H_2_", "x_dim1")),
        (["höhe", "M/2"], ("h_he", "M_2")),
    ],
)
def test_dimension_names_of_any_characters_are_respelt(
    written: list[str], named: tuple[str, str], tmp_path: Path
) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    imported = load(model([relu], [value("x", written)], [value("y", None)]), tmp_path)
    assert imported.inputs[0].shape == named
    assert imported.outputs[0].shape == named


def test_pads_that_an_exporter_turns_around_in_a_table(tmp_path: Path) -> None:
    """As torch writes padding by an amount computed from a size: last axis first, in pairs."""
    nodes = [
        extent("x", 1, "n"),
        node("Sub", ["n", "two"], "more"),
        node("Concat", ["none", "none", "more", "n"], "given", axis=0),  # of axes 1, then 0
        node("ConstantOfShape", ["count"], "zeros", value=numpy_helper.from_array(ints(0))),
        node("Concat", ["given", "zeros"], "padded", axis=0),
        node("Reshape", ["padded", "pairs"], "table"),
        node("Slice", ["table", "last", "before_first", "first_axis", "back"], "turned"),
        node("Transpose", ["turned"], "columns", perm=[1, 0]),
        node("Reshape", ["columns", "flat"], "pads"),
        node("Cast", ["pads"], "pads64", to=INT64),
        node("Pad", ["x", "pads64"]),
    ]
    constants = {
        "two": ints(2), "none": ints(0), "count": ints(2), "pairs": ints(-1, 2), "last": ints(-1),
        "before_first": ints(-(2**63) + 1), "first_axis": ints(0), "back": ints(-1),
        "flat": ints(-1),
    }  # fmt: skip
    inputs = {"x": (f(2, 5, 3), [2, "n", 3])}
    used = check_at_sizes(tmp_path, nodes, inputs, constants)
    assert "relax.tensor_to_shape" not in used  # the sizes are known before the run
