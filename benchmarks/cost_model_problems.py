"""Operators to measure for the cost model: layers of the zoo's networks, and relatives of them.

The order is shuffled by a fixed seed, a network's layer and a made-up one in turns: however
early measuring stops, what was measured is a fair sample.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from typing import Any

import onnx

from motet.benchmarks.zoo import registry
from motet.targets.host.space import Problem

CONVOLUTIONAL = (
    "densenet121", "efficientnet_lite0", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large",
    "resnet18", "resnet50", "shufflenet_v2", "squeezenet", "vgg19",
)  # fmt: skip
_LARGEST_FLOPS = 2e9
"""Convolutions beyond take too long to run through all their points."""


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
    if layer.out_size < 1 or layer.flops > _LARGEST_FLOPS:
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
    return _problems([layers, made_up], block)


def _problems(kinds: Sequence[Sequence[Layer]], block: int) -> list[Problem]:
    found = (problem_of(layer, block) for layer in _in_turns(kinds))
    return list(dict.fromkeys(problem for problem in found if problem is not None))


def _in_turns(kinds: Sequence[Sequence[Any]]) -> Iterator[Any]:
    for together in zip_longest(*kinds):
        yield from (one for one in together if one is not None)


# (batch, rows, columns, depth): layers of transformers, classifiers of convolutional networks.
_CONSTANT_PRODUCTS = (
    (1, 128, 768, 768), (1, 128, 3072, 768), (1, 128, 768, 3072), (1, 128, 2304, 768),
    (1, 197, 192, 192), (1, 197, 576, 192), (1, 197, 768, 192), (1, 197, 192, 768),
    (1, 1, 1000, 512), (1, 1, 1000, 1024), (1, 1, 1000, 1280), (1, 1, 1000, 2048),
    (1, 1, 4096, 4096), (1, 1, 1280, 960), (1, 100, 1024, 256), (1, 10, 512, 512),
)  # fmt: skip
_COMPUTED_PRODUCTS = (
    (12, 128, 128, 64), (12, 128, 64, 128), (3, 197, 197, 64), (3, 197, 64, 197),
    (8, 16, 16, 32), (1, 256, 256, 256), (1, 64, 64, 1024), (12, 1, 128, 64),
)  # fmt: skip


def _product(sizes: Sequence[int], constant: int, form: str) -> Problem:
    batch, rows, columns, depth = sizes
    return Problem.of(
        "matmul", batch=batch, rows=rows, columns=columns, depth=depth, constant=constant,
        paired=0, transposed=int(form == "transposed"), computed=int(form != "plain"), bits=32,
    )  # fmt: skip


def _near(size: int, chance: random.Random) -> int:
    """An extent of that order; often a round one."""
    if size == 1:
        return chance.choice((1, 1, 2, 4, 8))
    changed = max(2, int(size * chance.choice((0.25, 0.4, 0.5, 0.75, 1, 1.3, 1.5, 2))))
    return changed if chance.random() < 0.3 else -(-changed // 8) * 8


def products() -> list[Problem]:
    """Problems of family ``matmul``."""
    chance = random.Random(1)
    found = list[Problem]()
    for turn in range(8):
        for constant, known in ((1, _CONSTANT_PRODUCTS), (0, _COMPUTED_PRODUCTS)):
            for sizes in known:
                batch, *others = sizes
                if turn:
                    batch, *others = sizes[0], *(_near(size, chance) for size in sizes[1:])
                    others[0] = -1 if constant and chance.random() < 0.1 else others[0]
                forms = ("plain", "transposed", "moved") if batch > 1 else ("plain", "transposed")
                form = forms[0] if constant and not turn else chance.choice(forms)
                found.append(_product((batch, *others), constant, form))
    chance.shuffle(found)
    return list(dict.fromkeys(found))


def pools(block: int) -> list[Problem]:
    """Problems of family ``pool``: between convolutions, and of whole planes."""
    chance = random.Random(2)
    found = list[Problem]()
    for _ in range(60):
        kernel, stride, padding = chance.choice(((3, 2, 1), (2, 2, 0), (3, 1, 1), (5, 1, 2)))
        size = chance.choice((7, 8, 14, 20, 28, 35, 56, 112))
        if chance.random() < 0.3:
            kernel, stride, padding = size, 1, 0
        out = (size + 2 * padding - kernel) // stride + 1
        found.append(Problem.of(
            "pool", batch=chance.choice((-1, 1, 1, 2)),
            channels=8 * chance.choice((2, 4, 8, 16, 24, 32, 64, 128, 256)),
            height=size, width=size, out_height=out, out_width=out,
            kernel_h=kernel, kernel_w=kernel, stride_h=stride, stride_w=stride,
            dilation_h=1, dilation_w=1, top=padding, left=padding,
            block=chance.choice((0, block, block, block)), item_bytes=4,
            maximum=int(kernel < size and chance.random() < 0.7),
        ))  # fmt: skip
    return [problem for problem in dict.fromkeys(found) if problem["channels"] % block == 0]


def recurrences() -> list[Problem]:
    """Problems of family ``recurrence``: LSTM, GRU and RNN."""
    chance = random.Random(3)
    found = list[Problem]()
    for _ in range(60):
        gates, together = chance.choice(((4, 4), (4, 4), (3, 2), (3, 3), (1, 1)))
        found.append(Problem.of(
            "recurrence", steps=chance.choice((-1, 1, 10, 32, 100)),
            batch=chance.choice((1, 1, 1, 2, 4, 8, -1)),
            hidden=chance.choice((16, 32, 50, 64, 100, 128, 200, 256, 384, 512)),
            gates=gates, together=together, lengths=0, bits=32,
        ))  # fmt: skip
    return list(dict.fromkeys(found))


def problems(lanes: int) -> list[Problem]:
    """Every problem there is to measure, in the order to measure them in."""
    convs, small = iter(convolutions(lanes)), iter(_in_turns([pools(lanes), recurrences()]))
    others = iter(products())
    found = list[Problem]()
    while together := [*islice(convs, 5), *islice(others, 2), *islice(small, 1)]:
        found += together
    return found
