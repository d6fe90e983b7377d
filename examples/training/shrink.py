"""`digits_mobile` back from its ONNX file, and the modules that decisions speak of."""

import re

import numpy as np
import onnx
import torch
from onnx import ModelProto, numpy_helper
from torch import nn

from training.mobile import Mobile

FIELDS = {
    "weight": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean",
    "variance": "running_var",
}  # fmt: skip


def module_path(node: str) -> str:
    """The module of a node: `block2/expand/relu6` is `blocks.1.stages.expand.activation`."""
    *path, last = node.split("/")
    block = re.fullmatch(r"block(\d+)", path[0]) if path else None
    if block:
        path[:1] = ["blocks", str(int(block[1]) - 1), "stages"]
    last = "activation" if last == "relu6" else last
    return ".".join([*path, last])


def load_weights(network: Mobile, model: ModelProto) -> None:
    """Put the weights of a `digits_mobile` file into `network`, which is then in eval mode."""
    for tensor in model.graph.initializer:
        node, _, field = tensor.name.rpartition("/")
        if field not in FIELDS:
            continue  # the bounds of ReLU6
        module = network.get_submodule(module_path(node))
        target = getattr(module, FIELDS[field])
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.array(numpy_helper.to_array(tensor))))
    network.eval()


def from_file(path: str) -> Mobile:
    """The network of a `digits_mobile` file."""
    network = Mobile()
    load_weights(network, onnx.load(path))
    return network


def activations(network: nn.Module) -> int:
    """How many ReLU6 the network has."""
    return sum(isinstance(module, nn.ReLU6) for module in network.modules())
