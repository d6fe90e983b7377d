"""The nine architectures of onnx's own backend data, with random weights.

The light files that onnx ships make every weight by ConstantOfShape and list weights among
the inputs. Here a weight is a constant drawn from a generator of seed and name, spread so
that values neither vanish nor overflow (as ``zoo/building.py`` draws them), and the inputs
are the images alone, as exporters write it: an engine may then fold what is constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

NAMES = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
    "squeezenet", "vgg19", "zfnet512",
)  # fmt: skip
_SPREADS = {
    ("BatchNormalization", 1): (0.8, 1.2),
    ("BatchNormalization", 4): (0.8, 1.2),
    ("Mul", 1): (0.8, 1.2),
}
"""Scales and variances: (operator, operand) -> bounds. Weights by fan-in, others near 0."""


def build(name: str, seed: int = 0) -> onnx.ModelProto:
    """Architecture ``name`` of ``NAMES``; the same seed gives the same bytes.

    input: an image, 1 x 3 x 224 x 224, float32. output: probabilities of 1000 classes.
    """
    model = onnx.load(_folder() / f"light_{name}.onnx")
    graph = model.graph
    used = _uses(graph)
    old = {tensor.name: tensor for tensor in graph.initializer}
    made = {node.output[0]: node for node in graph.node if node.op_type == "ConstantOfShape"}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in _floats(graph)}
    for output, node in made.items():
        shapes[output] = tuple(map(int, numpy_helper.to_array(old[node.input[0]])))
    read = {i for node in graph.node if node.output[0] not in made for i in node.input}
    weights = [
        numpy_helper.from_array(_drawn(weight, shape, used.get(weight, ("", 0)), seed), weight)
        for weight, shape in shapes.items()
        if weight in read
    ]
    kept = [t for t in old.values() if t.name not in shapes and t.name in read]
    nodes = [node for node in graph.node if node.output[0] not in made]
    images = [info for info in graph.input if info.name not in old]
    for field, items in (("node", nodes), ("initializer", weights + kept), ("input", images)):
        graph.ClearField(field)
        getattr(graph, field).extend(items)
    model.ir_version = max(model.ir_version, 4)  # below, every weight is an input
    return model


def _folder() -> Path:
    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def _floats(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    return (tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT)


def _uses(graph: onnx.GraphProto) -> dict[str, tuple[str, int]]:
    """Tensor -> the first operator that computes with it, and as which operand."""
    behind = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "Unsqueeze"}
    uses: dict[str, tuple[str, int]] = {}
    for node in graph.node:
        if node.op_type != "Unsqueeze":
            for operand, name in enumerate(node.input):
                uses.setdefault(name, (node.op_type, operand))
    for name in behind:
        last = name
        while last in behind:
            last = behind[last]
        uses.setdefault(name, uses.get(last, ("", 0)))
    return uses


def _drawn(
    name: str, shape: tuple[int, ...], use: tuple[str, int], seed: int
) -> NDArray[np.float32]:
    random = np.random.default_rng([seed, crc32(name.encode())])
    if use in _SPREADS:
        low, high = _SPREADS[use]
        return random.random(shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)
    deviation = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.05
    return random.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
