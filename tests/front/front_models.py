"""Small ONNX models, one per question that the command line's tests ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
Tensor = tuple[str, int, Sequence[int | str]]


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    opsets: Sequence[tuple[str, int]] = (("", OPSET),),
    **weights: np.ndarray,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*tensor) for tensor in inputs],
        [helper.make_tensor_value_info(*tensor) for tensor in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets], ir_version=8
    )
    onnx.save(model, str(path))
    return path


def _matrix(dtype: str) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 3)).astype(dtype)


def affine(path: Path, rows: int | str = 1) -> Path:
    """y [rows, 3] = x [rows, 4] W, float32."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    x, y = ("x", TensorProto.FLOAT, [rows, 4]), ("y", TensorProto.FLOAT, [rows, 3])
    return write(path, [node], [x], [y], w=_matrix("float32"))


def half(path: Path) -> Path:
    """y [2, 3] = x [2, 4] W, float16."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    x, y = ("x", TensorProto.FLOAT16, [2, 4]), ("y", TensorProto.FLOAT16, [2, 3])
    return write(path, [node], [x], [y], w=_matrix("float16"))


def counts(path: Path) -> Path:
    """sum [3] = a + b, int64; more [3] = a > b, bool."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"], "adding"),
        helper.make_node("Greater", ["a", "b"], ["more"], "comparing"),
    ]
    inputs = [("a", TensorProto.INT64, [3]), ("b", TensorProto.INT64, [3])]
    outputs = [("sum", TensorProto.INT64, [3]), ("more", TensorProto.BOOL, [3])]
    return write(path, nodes, inputs, outputs)


def picture(path: Path, shape: Sequence[int | str] = ("N", 3, 8, 6)) -> Path:
    """same = image, by Relu, which leaves 0 to 1 as it is."""
    node = helper.make_node("Relu", ["image"], ["same"], "keep")
    return write(
        path, [node], [("image", TensorProto.FLOAT, shape)], [("same", TensorProto.FLOAT, shape)]
    )


def logarithm(path: Path) -> Path:
    """y = log(x): NaN and infinities where x asks for them."""
    node = helper.make_node("Log", ["x"], ["y"], "log")
    return write(path, [node], [("x", TensorProto.FLOAT, [4])], [("y", TensorProto.FLOAT, [4])])


def negative(path: Path) -> Path:
    """z [1, 3] = -y: what ``affine`` can feed."""
    node = helper.make_node("Neg", ["y"], ["z"], "negate")
    y, z = ("y", TensorProto.FLOAT, [1, 3]), ("z", TensorProto.FLOAT, [1, 3])
    return write(path, [node], [y], [z])


def digits(path: Path) -> Path:
    """logits [N, 10] of an image [N, 1, 32, 32], with weights that know nothing."""
    weights = np.random.default_rng(0).standard_normal((1024, 10)).astype("float32") / 32
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "w"], ["logits"], "classify"),
    ]
    image: Tensor = ("image", TensorProto.FLOAT, ["N", 1, 32, 32])
    return write(path, nodes, [image], [("logits", TensorProto.FLOAT, ["N", 10])], w=weights)


def layers(path: Path, batch: int | str = 1) -> Path:
    """Products of every sort, then a cosine, which no array computes: waves [N, 5]."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.standard_normal((8, 4, 3, 3)),
        "w2": random.standard_normal((8, 4, 3, 3)),
        "w3": random.standard_normal((8, 1, 1, 3)),
        "w4": random.standard_normal((288, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "grouped", group=2, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w3"], ["d"], "line", group=8, pads=[0, 1, 0, 1]),
        helper.make_node("Flatten", ["d"], ["e"], "flatten"),
        helper.make_node("MatMul", ["e", "w4"], ["f"], "dense"),
        helper.make_node("Cos", ["f"], ["waves"], "cosine"),
    ]
    image: Tensor = ("image", TensorProto.FLOAT, [batch, 4, 6, 6])
    waves: Tensor = ("waves", TensorProto.FLOAT, [batch, 5])
    small = {name: (0.1 * weight).astype("float32") for name, weight in weights.items()}
    return write(path, nodes, [image], [waves], **small)


def unsupported(path: Path) -> Path:
    """An operator that nothing lowers."""
    node = helper.make_node("Upsample", ["x"], ["y"], "stranger", domain="org.example")
    tensor = TensorProto.FLOAT, [4]
    opsets = (("", OPSET), ("org.example", 1))
    return write(path, [node], [("x", *tensor)], [("y", *tensor)], opsets)
