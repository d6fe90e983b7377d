"""What `models.json` tells of each model file: accuracy, parameters, MACs, bytes, checksum."""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, shape_inference

from training.digits import Digits, as_input

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Measures:
    """The facts of one model file, measured on the file itself."""

    file: str
    held_out_images: int
    held_out_correct: int
    held_out_accuracy: float
    parameters: int
    macs_per_image: int
    bytes: int
    sha256: str
    nodes: dict[str, int]


def measure(path: Path, held_out: Digits) -> Measures:
    """Measure the model at `path`, its accuracy by onnxruntime."""
    content = path.read_bytes()
    model = onnx.load_model_from_string(content)
    correct = int((run(content, held_out).argmax(axis=1) == held_out.labels).sum())
    return Measures(
        file=path.name,
        held_out_images=len(held_out),
        held_out_correct=correct,
        held_out_accuracy=round(correct / len(held_out), 4),
        parameters=count_parameters(model.graph),
        macs_per_image=count_macs(model),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        nodes=dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
    )


def run(content: bytes, digits: Digits) -> npt.NDArray[np.float32]:
    """The logits [count, 10] that onnxruntime computes for `digits`."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": as_input(digits.images)})[0]
    return np.asarray(logits, dtype=np.float32)


def count_parameters(graph: GraphProto) -> int:
    """Elements of the float initializers of rank 1 and above.

    That counts BatchNormalization's mean and variance, and leaves out the shapes
    of Reshape (int64) and scalars such as Clip's bounds.
    """
    return sum(
        math.prod(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims
    )


def count_macs(model: ModelProto) -> int:
    """Multiply-accumulates of Conv, Gemm and MatMul for one image, padding counted as data."""
    shapes = shapes_of_one_image(model)
    return sum(_node_macs(node, shapes) for node in model.graph.node)


def shapes_of_one_image(model: ModelProto) -> dict[str, Shape]:
    """The shape of every tensor when N is 1."""
    single = ModelProto()
    single.CopyFrom(model)
    for value in [*single.graph.input, *single.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return shapes


def _node_macs(node: NodeProto, shapes: dict[str, Shape]) -> int:
    """Output elements times the length of the sum behind each; 0 for other kinds of node."""
    outputs = math.prod(shapes[node.output[0]])
    if node.op_type == "Conv":
        return outputs * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("Gemm", "MatMul"):
        # All example models multiply an untransposed left operand.
        return outputs * shapes[node.input[0]][-1]
    return 0
