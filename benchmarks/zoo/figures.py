"""Parameters and multiply-accumulates of an ONNX model, as papers count them."""

from __future__ import annotations

import math

import onnx

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def parameters(model: onnx.ModelProto) -> int:
    """Trained values: weights, biases, scales; not the running mean and variance.

    A constant of no dimensions, as a bound of a Clip or the 0.5 of a GELU, is not trained.
    """
    running = {
        name
        for node in model.graph.node
        if node.op_type == "BatchNormalization"
        for name in node.input[3:5]
    }
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type in _FLOATS and tensor.dims and tensor.name not in running
    )


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of convolutions, matrix products and LSTMs, of static shapes.

    One per output element and element of the reduction; biases do not count, padding does.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        dims = info.type.tensor_type.shape.dim
        shapes[info.name] = tuple(dim.dim_value for dim in dims)
    return sum(_macs(node, shapes) for node in graph.node)


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type == "Conv":
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "MatMul":
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]
    if node.op_type == "LSTM":
        steps, batch, _ = shapes[node.input[0]]
        return steps * batch * sum(math.prod(shapes[name]) for name in node.input[1:3])
    return 0
