"""Writes ``custom.onnx``: a layer between two operators that ONNX does not have.

The model carries a function for each, as exporters write them: it says what the operator
means, so that onnxruntime, and with it ``motet check``, can run the model too.

    python examples/custom_operator/make_model.py custom.onnx
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "org.example"
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]


def soft_clip() -> onnx.FunctionProto:
    """SoftClip(x; limit) = limit x / (limit + |x|)."""
    limit = helper.make_node("Constant", [], ["limit_value"])
    reference = limit.attribute.add(name="value_float", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "limit"
    nodes = [
        limit,
        helper.make_node("Mul", ["x", "limit_value"], ["scaled"]),
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("Add", ["size", "limit_value"], ["below"]),
        helper.make_node("Div", ["scaled", "below"], ["y"]),
    ]
    return helper.make_function(DOMAIN, "SoftClip", ["x"], ["y"], nodes, OPSETS, ["limit"])


def running_max() -> onnx.FunctionProto:
    """RunningMax(x [rows, columns]): the largest so far of every row, by ONNX's Scan."""
    vector = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("best", "next")]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("now", "shown")]
    steps = [
        helper.make_node("Max", ["best", "next"], ["now"]),
        helper.make_node("Identity", ["now"], ["shown"]),
    ]
    body = helper.make_graph(steps, "step", vector, results)
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Gather", ["x", "zero"], ["first"], axis=1),
        helper.make_node(
            "Scan", ["first", "x"], ["last", "y"], body=body, num_scan_inputs=1,
            scan_input_axes=[1], scan_output_axes=[1],
        ),
    ]  # fmt: skip
    return helper.make_function(DOMAIN, "RunningMax", ["x"], ["y"], nodes, OPSETS)


def model(width: int = 16, seed: int = 0) -> onnx.ModelProto:
    """Y = RunningMax(SoftClip(x) W + b) for x [N, width]."""
    random = np.random.default_rng(seed)
    weights = {
        "w": random.standard_normal((width, width)).astype(np.float32),
        "b": random.standard_normal(width).astype(np.float32),
    }
    nodes = [
        helper.make_node("SoftClip", ["x"], ["s"], "clip", domain=DOMAIN, limit=2.0),
        helper.make_node("Gemm", ["s", "w", "b"], ["h"], "layer"),
        helper.make_node("RunningMax", ["h"], ["m"], "peaks", domain=DOMAIN),
        helper.make_node("Relu", ["m"], ["y"], "relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "custom",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    functions = [soft_clip(), running_max()]
    return helper.make_model(graph, opset_imports=OPSETS, functions=functions, ir_version=8)


if __name__ == "__main__":
    onnx.save(model(), str(Path(sys.argv[1] if len(sys.argv) > 1 else "custom.onnx")))
