"""MACs against hand counts, and against ONNX's own shape inference for convolutions."""

from __future__ import annotations

import math
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper, shape_inference
from tvm import relax, sym, tirx

from motet.passes.macs import is_product, macs_of

OP = relax.op


def call(operator: Any, *shapes: tuple[Any, ...], **attributes: Any) -> relax.Call:
    tensors = [relax.Var(f"v{i}", relax.TensorType(s, "float32")) for i, s in enumerate(shapes)]
    return relax.BlockBuilder().normalize(operator(*tensors, **attributes))


@pytest.mark.parametrize(
    ("made", "macs"),
    [
        (call(OP.matmul, (3, 5), (5, 7)), 3 * 5 * 7),
        (call(OP.matmul, (2, 1, 3, 5), (4, 5, 7)), 2 * 4 * 3 * 5 * 7),
        (call(OP.matmul, (5,), (5, 7)), 5 * 7),
        (call(OP.matmul, (3, 5), (5,)), 3 * 5),
        (call(OP.matmul, (5,), (5,)), 5),
        (call(OP.nn.conv1d, (1, 4, 10), (6, 4, 3)), 6 * 8 * 4 * 3),
        (call(OP.nn.conv3d, (1, 2, 4, 4, 4), (3, 2, 2, 2, 2)), 3 * 27 * 2 * 8),
        (call(OP.nn.conv2d, (1, 8, 5, 5), (8, 1, 3, 3), groups=8), 8 * 9 * 9),
        (
            call(
                OP.nn.conv2d,
                (1, 5, 5, 4),
                (3, 3, 4, 6),
                data_layout="NHWC",
                kernel_layout="HWIO",
            ),
            9 * 6 * 9 * 4,
        ),
        (call(OP.nn.relu, (3, 5)), 0),
        (call(OP.nn.max_pool2d, (1, 2, 4, 4), pool_size=2), 0),
    ],
)
def test_hand_counts(made: relax.Call, macs: int) -> None:
    assert int(macs_of(made)) == macs
    assert is_product(made) == (macs > 0)


def onnx_output(op_type: str, data: list[int], weight: list[int], **attributes: Any) -> list[int]:
    """The shape that ONNX infers for a convolution."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", data), ("w", weight))
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node(op_type, ["x", "w"], ["y"], **attributes)
    model = helper.make_model(helper.make_graph([node], "g", inputs, [output]))
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    dims = inferred.graph.output[0].type.tensor_type.shape.dim
    assert isinstance(inferred, onnx.ModelProto)
    return [dim.dim_value for dim in dims]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution_against_onnx(groups: int, stride: int, dilation: int) -> None:
    data, weight = [2, 4, 9, 11], [8, 4 // groups, 3, 2]
    output = onnx_output(
        "Conv", data, weight, group=groups, strides=[stride] * 2, dilations=[dilation] * 2,
        pads=[1, 0, 1, 2],
    )  # fmt: skip
    made = call(
        OP.nn.conv2d, tuple(data), tuple(weight), groups=groups, strides=stride,
        dilation=dilation, padding=(1, 0, 1, 2),
    )  # fmt: skip
    assert int(macs_of(made)) == math.prod(output) * (4 // groups) * 3 * 2


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_is_the_gradient_of_one(groups: int, stride: int) -> None:
    """It does as many products as the convolution that maps its output to its input."""
    data, weight = [1, 4, 5, 6], [4, 6 // groups, 3, 3]
    output = onnx_output("ConvTranspose", data, weight, group=groups, strides=[stride] * 2)
    assert onnx_output("Conv", output, weight, group=groups, strides=[stride] * 2) == data
    made = call(
        OP.nn.conv2d_transpose, tuple(data), tuple(weight), groups=groups,
        strides=(stride, stride),
    )  # fmt: skip
    forward = call(
        OP.nn.conv2d, tuple(output), tuple(weight), groups=groups, strides=(stride, stride)
    )
    assert int(macs_of(made)) == int(macs_of(forward))


def test_symbolic() -> None:
    n = tirx.Var("n", "int64")
    made = call(OP.matmul, (n, 5), (5, 7))
    assert sym.Analyzer().can_prove_equal(macs_of(made), n * 35)


def test_unknown_shape_counts_nothing() -> None:
    left = relax.Var("l", relax.TensorType(None, "float32", ndim=2))
    right = relax.Var("r", relax.TensorType([3, 4], "float32"))
    made = relax.BlockBuilder().normalize(OP.matmul(left, right))
    assert int(macs_of(made)) == 0
