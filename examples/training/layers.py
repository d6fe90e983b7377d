"""One function per kind of layer: trained torch module in, ONNX nodes out.

Each takes the builder, the name of the node (or of the group of nodes) and the
name of the tensor it reads, and returns the name of the tensor it writes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from training.graph import GraphBuilder


def values(tensor: Tensor) -> npt.NDArray[np.float32]:
    """The float32 values of a torch tensor."""
    return tensor.detach().numpy().astype(np.float32)


def conv(graph: GraphBuilder, name: str, x: str, module: nn.Conv2d) -> str:
    """Conv with a weight [out, in / groups, height, width] and, if trained so, a bias [out]."""
    inputs = [x, graph.constant(f"{name}/weight", values(module.weight))]
    if module.bias is not None:
        inputs.append(graph.constant(f"{name}/bias", values(module.bias)))
    padding = [int(pad) for pad in module.padding]
    return graph.node(
        "Conv",
        name,
        inputs,
        kernel_shape=list(module.kernel_size),
        strides=list(module.stride),
        pads=padding + padding,
        dilations=list(module.dilation),
        group=module.groups,
    )


def batch_norm(graph: GraphBuilder, name: str, x: str, module: nn.BatchNorm2d) -> str:
    """BatchNormalization with the running statistics, each [channels]."""
    assert module.running_mean is not None
    assert module.running_var is not None
    inputs = [
        x,
        graph.constant(f"{name}/scale", values(module.weight)),
        graph.constant(f"{name}/bias", values(module.bias)),
        graph.constant(f"{name}/mean", values(module.running_mean)),
        graph.constant(f"{name}/variance", values(module.running_var)),
    ]
    return graph.node("BatchNormalization", name, inputs, epsilon=module.eps)


def relu6(graph: GraphBuilder, name: str, x: str) -> str:
    """min(max(x, 0), 6) as a Clip whose bounds all nodes share."""
    bounds = [graph.scalar("relu6/minimum", 0.0), graph.scalar("relu6/maximum", 6.0)]
    return graph.node("Clip", name, [x, *bounds])


def average_pool(graph: GraphBuilder, name: str, x: str, module: nn.AvgPool2d) -> str:
    """AveragePool over a square window."""
    return graph.node(
        "AveragePool",
        name,
        [x],
        count_include_pad=int(module.count_include_pad),
        **_square_window(module),
    )


def max_pool(graph: GraphBuilder, name: str, x: str, module: nn.MaxPool2d) -> str:
    """MaxPool over a square window."""
    return graph.node("MaxPool", name, [x], **_square_window(module))


def _square_window(module: nn.AvgPool2d | nn.MaxPool2d) -> dict[str, Sequence[int]]:
    """The window attributes of a pool whose size, stride and padding are single integers."""
    size, stride, padding = module.kernel_size, module.stride, module.padding
    assert isinstance(size, int)
    assert isinstance(stride, int)
    assert isinstance(padding, int)
    return {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [padding] * 4}


def classifier(graph: GraphBuilder, name: str, x: str, module: nn.Linear) -> str:
    """Gemm of [N, in] with a transposed weight [out, in] and a bias [out]."""
    weight = graph.constant(f"{name}/weight", values(module.weight))
    bias = graph.constant(f"{name}/bias", values(module.bias))
    return graph.node("Gemm", name, [x, weight, bias], transB=1)


def linear(graph: GraphBuilder, name: str, x: str, module: nn.Linear) -> str:
    """MatMul of [N, tokens, in] with a weight [in, out], then Add of a bias [out]."""
    weight = graph.constant(f"{name}/weight", values(module.weight.T))
    bias = graph.constant(f"{name}/bias", values(module.bias))
    product = graph.node("MatMul", f"{name}/matmul", [x, weight])
    return graph.node("Add", f"{name}/add", [product, bias])


def layer_norm(graph: GraphBuilder, name: str, x: str, module: nn.LayerNorm) -> str:
    """LayerNormalization over the last axis, with scale and bias of its length."""
    scale = graph.constant(f"{name}/scale", values(module.weight))
    bias = graph.constant(f"{name}/bias", values(module.bias))
    return graph.node("LayerNormalization", name, [x, scale, bias], axis=-1, epsilon=module.eps)


def gelu(graph: GraphBuilder, name: str, x: str) -> str:
    """0.5 x (1 + erf(x / sqrt 2)), in the five nodes that exporters write for opset 17."""
    root = graph.scalar("gelu/root_two", 2.0**0.5)
    one = graph.scalar("gelu/one", 1.0)
    half = graph.scalar("gelu/half", 0.5)
    scaled = graph.node("Div", f"{name}/div", [x, root])
    error = graph.node("Erf", f"{name}/erf", [scaled])
    shifted = graph.node("Add", f"{name}/add", [error, one])
    product = graph.node("Mul", f"{name}/mul", [x, shifted])
    return graph.node("Mul", f"{name}/halve", [product, half])


def reshape(graph: GraphBuilder, name: str, x: str, shape: Sequence[int]) -> str:
    """Reshape in which 0 keeps an axis, so that N remains symbolic."""
    target = graph.constant(f"{name}/shape", np.array(shape, dtype=np.int64))
    return graph.node("Reshape", name, [x, target])


def global_average(graph: GraphBuilder, name: str, x: str) -> str:
    """[N, channels, height, width] averaged to [N, channels]."""
    pooled = graph.node("GlobalAveragePool", f"{name}/average", [x])
    return graph.node("Flatten", f"{name}/flatten", [pooled], axis=1)
