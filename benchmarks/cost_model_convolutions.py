"""Convolutions to measure for the cost model: layers of the zoo's networks, and relatives.

The order is shuffled by a fixed seed, a network's layer and a made-up one in turns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

import onnx

from motet.benchmarks.zoo import registry
from motet.targets.host.kernels.blocked_conv.integer import FAMILY_NAME as INTEGER
from motet.targets.host.kernels.blocked_conv.integer_groups import FOURS, PAIRS
from motet.targets.host.space import Problem

CONVOLUTIONAL = (
    "densenet121", "efficientnet_lite0", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large",
    "resnet18", "resnet50", "shufflenet_v2", "squeezenet", "vgg19",
)  # fmt: skip
QUANTIZED = ("mobilenet_v1", "mobilenet_v2", "resnet18", "resnet50", "squeezenet")
LARGEST_FLOPS = 2e9
"""Operators beyond take too long to run through all their points."""


@dataclass(frozen=True)
class Layer:
    """A convolution; sizes are square. batch: -1 where it is known only at run time."""

    channels: int
    outs: int
    groups: int
    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int = 1
    batch: int = 1
    prologue: int = 0

    @property
    def depthwise(self) -> bool:
        """Whether every channel is a group."""
        return self.groups == self.channels == self.outs > 1

    @property
    def out_size(self) -> int:
        """Extent of the output plane."""
        reach = (self.kernel - 1) * self.dilation + 1
        return (self.size + 2 * self.padding - reach) // self.stride + 1

    @property
    def flops(self) -> float:
        """Of all images."""
        taps = self.kernel**2 * self.channels // self.groups
        return 2.0 * max(1, self.batch) * self.outs * taps * self.out_size**2


def layers_of(name: str) -> list[Layer]:
    """The distinct square convolutions of a network of the zoo."""
    graph = onnx.shape_inference.infer_shapes(registry.outline(name), strict_mode=True).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for info in (*graph.input, *graph.value_info):
        shapes[info.name] = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    activated = name == "densenet121"  # there batch-norm and ReLU come before the convolution
    return list(dict.fromkeys(_layer(node, shapes, activated) for node in nodes))


def _layer(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], activated: bool) -> Layer:
    attributes: dict[str, Any] = {
        a.name: onnx.helper.get_attribute_value(a) for a in node.attribute
    }
    _, channels, size, _ = shapes[node.input[0]]
    outs, _, kernel, _ = shapes[node.input[1]]
    return Layer(
        channels, outs, attributes.get("group", 1), size, kernel,
        attributes.get("strides", [1])[0], attributes.get("pads", [0])[0],
        prologue=int(activated and channels > 3),
    )  # fmt: skip


def problem_of(layer: Layer, block: int) -> Problem | None:
    """The blocked convolution that ``layer`` is; None where it has none."""
    blocks = [block if c % block == 0 else 0 for c in (layer.channels, layer.outs)]
    per_group = (layer.channels // layer.groups, layer.outs // layer.groups)
    whole = layer.groups == 1 or layer.depthwise or all(c % block == 0 for c in per_group)
    if not any(blocks) or not whole or (layer.groups > 1 and not all(blocks)):
        return None
    if layer.out_size < 1 or layer.flops > LARGEST_FLOPS:
        return None
    return Problem.of(
        "blocked_conv", batch=layer.batch, channels=layer.channels, outs=layer.outs,
        groups=layer.groups, height=layer.size, width=layer.size,
        out_height=layer.out_size, out_width=layer.out_size,
        kernel_h=layer.kernel, kernel_w=layer.kernel,
        stride_h=layer.stride, stride_w=layer.stride,
        dilation_h=layer.dilation, dilation_w=layer.dilation,
        top=layer.padding, left=layer.padding,
        block=block, block_in=blocks[0], block_out=blocks[1],
        prologue=layer.prologue, constant=1, reassociate=1,
    )  # fmt: skip


def relative_of(layer: Layer, chance: random.Random) -> Layer:
    """A layer like it with other channels, planes, sometimes a batch or a dilation."""
    factor = chance.choice((0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3))
    channels = layer.channels
    outs = max(8, int(layer.outs * factor) // 8 * 8)
    if layer.depthwise:
        channels = outs
    elif layer.groups == 1 and channels > 3:
        channels = max(8, int(channels * chance.choice((0.25, 0.5, 1, 1.5, 2))) // 8 * 8)
    size = max(layer.kernel, int(layer.size * chance.choice((0.5, 0.6, 0.8, 1, 1.2, 1.5))))
    return replace(
        layer,
        channels=channels,
        outs=outs,
        groups=channels if layer.depthwise else layer.groups,
        size=size,
        batch=chance.choice((1, 1, 1, 1, -1, -1, 2, 4)),
        prologue=chance.choice((0, 0, 0, 0, 0, 1)) if channels > 3 else 0,
    )


def convolutions(block: int) -> list[Problem]:
    """Problems of family ``blocked_conv`` for blocks of ``block`` channels."""
    chance = random.Random(0)
    layers = list(dict.fromkeys(chain.from_iterable(map(layers_of, CONVOLUTIONAL))))
    chance.shuffle(layers)
    made_up = [relative_of(layer, chance) for _ in range(4) for layer in layers]
    return _problems([layers, made_up], lambda layer: problem_of(layer, block))


def integer_convolutions(block: int) -> list[Problem]:
    """The same of family ``blocked_conv_integer``."""
    chance = random.Random(4)
    plain = [layer for name in QUANTIZED for layer in layers_of(name)]
    layers = list(dict.fromkeys(replace(layer, prologue=0) for layer in plain))
    chance.shuffle(layers)
    made_up = [relative_of(layer, chance) for _ in range(2) for layer in layers]
    return _problems([layers, made_up], lambda layer: integer_problem_of(layer, block, chance))


def integer_problem_of(layer: Layer, block: int, chance: random.Random) -> Problem | None:
    """The convolution of bytes that ``layer`` is, in fours of channels or, by ``chance`` one
    of three, with a zero point, in pairs; None where it has none.
    """
    found = problem_of(layer, block)
    if found is None:
        return None
    centred = chance.random() < 1 / 3
    sizes = {**dict(found.sizes), "reassociate": 0, "prologue": int(centred)}
    if not layer.depthwise:
        group = PAIRS if centred or not sizes["block_in"] else FOURS
        sizes |= {
            "channels": layer.groups * group.channels(layer.channels // layer.groups),
            "group": group.size, "block_in": sizes["block_in"] // group.size,
            "prologue": int(group is PAIRS),
        }  # fmt: skip
    return Problem.of(INTEGER, **sizes)


def _problems(
    kinds: Sequence[Sequence[Layer]], problem: Callable[[Layer], Problem | None]
) -> list[Problem]:
    found = (problem(layer) for layer in in_turns(kinds))
    return list(dict.fromkeys(problem for problem in found if problem is not None))


def in_turns(kinds: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """The first of every kind, then the second of every kind that has one."""
    for together in zip_longest(*kinds):
        yield from (one for one in together if one is not None)
