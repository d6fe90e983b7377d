"""The mobile networks of FuSeConv's study, base and replaced, as workloads of one image.

Layer lists from the networks' papers (width 1.0, 224 x 224): MobileNetV1 (Howard et al. 2017),
MobileNetV2 (Sandler et al. 2018, table 2), MnasNet-B1 (Tan et al. 2019) and MobileNetV3 (Howard
et al. 2019, tables 1 and 2; as in FuSeConv's study its first block has a 1x1 convolution too,
and 1280 channels come before the classes of both sizes). A K x K depthwise convolution of C
channels becomes (Ganesan & Kumar, arXiv 2105.13434)

* ``full``: 1xK and Kx1 depthwise convolutions of all C channels, 2C channels in all;
* ``half``: 1xK of the first C/2 channels and Kx1 of the others, C channels in all;
* ``full50``, ``half50``: the same in half of the blocks (``HALF_OF_THE_BLOCKS``).

The halves of a split or a concatenation are ``Part`` s of one tensor: nothing is copied. Batch
normalisation is folded (a bias); weights have shapes and no values. Squeeze-and-excitation is a
global average, two products and a multiplication by channel; the latter is written over [values,
channels], the axes being of no account for its cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.workload.graph import Epilogue, Step, Workload
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    Layer,
    MatrixProduct,
    Pooling,
)
from motet.targets.systolic.workload.parts import Part

Variant = Literal["base", "full", "half", "full50", "half50"]
VARIANTS: tuple[Variant, ...] = ("base", "full", "half", "full50", "half50")
EDGE = 224
CLASSES = 1000

RELU6 = Epilogue(clamp=(0.0, 6.0))
RELU = Epilogue(clamp=(0.0, float("inf")))
SWISH = Epilogue(activation=Activation.HARD_SWISH)
LINEAR = Epilogue()


class Block(NamedTuple):
    """Expansion to ``inner`` channels, depthwise, projection to ``out``.

    act: after expansion and depthwise. is_squeezed: squeeze-and-excitation follows the depthwise.
    """

    kernel: int
    inner: int
    out: int
    stride: int
    act: Epilogue = RELU6
    is_squeezed: bool = False


class Network(NamedTuple):
    """stem: channels of the 3x3 convolution of stride 2. head: channels of the last 1x1 (0:
    none). hidden: of a fully connected layer before the classes (0: none).

    is_separable: blocks are depthwise and pointwise alone, both activated (MobileNetV1).
    expands_equal: blocks have an expansion even where it adds no channels (MobileNetV3).
    """

    stem: int
    blocks: tuple[Block, ...]
    head: int
    hidden: int = 0
    ends: Epilogue = RELU6
    is_separable: bool = False
    expands_equal: bool = False


class Image(NamedTuple):
    """A tensor of the workload: [1, channels, size, size]."""

    tensor: int
    channels: int
    size: int


@dataclass
class _Builder:
    tensors: list[Tensor] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    def tensor(
        self,
        shape: tuple[int, ...],
        role: Role = Role.INTERNAL,
        element: Element = Element.WORD,
        name: str = "",
    ) -> int:
        self.tensors.append(Tensor(name, shape, role, element))
        return len(self.tensors) - 1

    def part(self, whole: int, shape: tuple[int, ...], offset: int) -> int:
        number = self.tensor(shape)
        self.parts.append(Part(number, whole, offset))
        return number

    def product(
        self,
        name: str,
        layer: Convolution | MatrixProduct,
        source: int,
        after: Epilogue,
        *,
        residual: int | None = None,
        output: int | None = None,
    ) -> int:
        channels = layer.output_shape[1 if isinstance(layer, Convolution) else -1]
        weight = self.tensor(layer.weight_shape, Role.WEIGHT, name=f"{name}.weight")
        bias = self.tensor((channels,), Role.WEIGHT, Element.FP32, f"{name}.bias")
        made = Epilogue(bias, residual, None, after.activation, after.alpha, after.clamp)
        return self.step(name, layer, (source, weight), output, made)

    def step(
        self,
        name: str,
        layer: Layer,
        inputs: tuple[int, ...],
        output: int | None = None,
        after: Epilogue = LINEAR,
    ) -> int:
        made = self.tensor(layer.output_shape) if output is None else output
        self.steps.append(Step(name, layer, inputs, made, after))
        return made

    def dense(
        self, name: str, x: Image, out: int, kernel: int, stride: int, after: Epilogue,
        residual: int | None = None,
    ) -> Image:  # fmt: skip
        pad = (kernel // 2,) * 4
        layer = Convolution(
            1, x.channels, out, 1, x.size, x.size, (kernel, kernel), (stride, stride), pad
        )
        made = self.product(name, layer, x.tensor, after, residual=residual)
        return Image(made, out, layer.out_size[0])

    def depthwise(self, name: str, x: Image, block: Block) -> Image:
        layer = _lines(x.channels, x.size, block, (block.kernel, block.kernel))
        return Image(self.product(name, layer, x.tensor, block.act), x.channels, layer.out_size[0])

    def separable(self, name: str, x: Image, block: Block, *, full: bool) -> Image:
        """The 1xK and Kx1 convolutions in place of ``depthwise``, and their concatenation."""
        each = x.channels if full else x.channels // 2
        kernels = ((1, block.kernel), (block.kernel, 1))
        layers = [_lines(each, x.size, block, kernel) for kernel in kernels]
        size = layers[0].out_size[0]
        whole = self.tensor((1, 2 * each, size, size))
        for number, (layer, axis) in enumerate(zip(layers, ("row", "column"), strict=True)):
            source = x.tensor
            if not full:
                source = self.part(whole=x.tensor, shape=layer.input_shape,
                                   offset=number * each * x.size**2)  # fmt: skip
            target = self.part(whole, layer.output_shape, number * each * size**2)
            self.product(f"{name}.{axis}", layer, source, block.act, output=target)
        return Image(whole, 2 * each, size)

    def squeeze_and_excite(self, name: str, x: Image) -> Image:
        """To a quarter of the channels, and back."""
        squeezed = x.channels // 4
        pooled = self.average(f"{name}.pool", x)
        down = MatrixProduct(1, 1, squeezed, x.channels)
        inner = self.product(f"{name}.reduce", down, pooled, RELU)
        up = MatrixProduct(1, 1, x.channels, squeezed)
        gate = Epilogue(activation=Activation.HARD_SIGMOID, alpha=1 / 6)
        gates = self.product(f"{name}.expand", up, inner, gate)
        scale = Elementwise("multiply", (x.size**2, x.channels), vector=True)
        return x._replace(tensor=self.step(f"{name}.scale", scale, (x.tensor, gates)))

    def average(self, name: str, x: Image) -> int:
        window = (x.size, x.size)
        return self.step(
            name, Pooling("average", 1, x.channels, x.size, x.size, window), (x.tensor,)
        )


def workload(
    network: Network, variant: Variant, replaced: frozenset[int], edge: int = EDGE
) -> Workload:
    """``network`` with the blocks ``replaced`` in ``variant``; "base" replaces none.

    edge: of the square image, in pixels.
    """
    make = _Builder()
    start = make.tensor((1, 3, edge, edge), Role.INPUT, name="image")
    x = make.dense("stem", Image(start, 3, edge), network.stem, 3, 2, network.ends)
    for number, block in enumerate(network.blocks):
        is_replaced = variant != "base" and number in replaced
        kind = variant.removesuffix("50") if is_replaced else "base"
        x = _block(make, f"block{number}", x, block, kind, network)
    if network.head:
        x = make.dense("head", x, network.head, 1, 1, network.ends)
    vector = make.average("pool", x)
    wide = x.channels
    if network.hidden:
        layer = MatrixProduct(1, 1, network.hidden, wide)
        vector, wide = make.product("hidden", layer, vector, network.ends), network.hidden
    last = make.tensor((1, CLASSES), Role.OUTPUT, name="classes")
    make.product("classes", MatrixProduct(1, 1, CLASSES, wide), vector, LINEAR, output=last)
    return Workload(tuple(make.tensors), tuple(make.steps), tuple(make.parts))


def _block(make: _Builder, name: str, x: Image, block: Block, kind: str, network: Network) -> Image:
    begin = x
    if block.inner != x.channels or network.expands_equal:
        x = make.dense(f"{name}.expand", x, block.inner, 1, 1, block.act)
    if kind == "base":
        x = make.depthwise(f"{name}.depthwise", x, block)
    else:
        x = make.separable(f"{name}.depthwise", x, block, full=kind == "full")
    if block.is_squeezed:
        x = make.squeeze_and_excite(f"{name}.se", x)
    if network.is_separable:
        return make.dense(f"{name}.pointwise", x, block.out, 1, 1, block.act)
    is_added = block.stride == 1 and begin.channels == block.out
    residual = begin.tensor if is_added else None
    return make.dense(f"{name}.project", x, block.out, 1, 1, LINEAR, residual)


def _lines(channels: int, size: int, block: Block, kernel: tuple[int, int]) -> Convolution:
    """A depthwise convolution whose output is as large as the K x K one's."""
    down, across = (extent // 2 for extent in kernel)
    stride = (block.stride, block.stride)
    return Convolution(
        1, channels, channels, channels, size, size, kernel, stride, (down, across, down, across)
    )


def _mobilenet_v1() -> Network:
    outs = (64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
    inners = (32, *outs[:-1])
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    blocks = (Block(3, *sizes, RELU) for sizes in zip(inners, outs, strides, strict=True))
    return Network(32, tuple(blocks), 0, ends=RELU, is_separable=True)


def _staged(stages: tuple[tuple[int, int, int, int, int], ...], act: Epilogue) -> tuple[Block, ...]:
    """Stages of (kernel, expansion, channels, repeats, stride of the first) after 16 or 32."""
    blocks, channels = [], 32
    for kernel, expansion, out, repeats, stride in stages:
        for number in range(repeats):
            first = stride if number == 0 else 1
            blocks.append(Block(kernel, channels * expansion, out, first, act))
            channels = out
    return tuple(blocks)


def _mobilenet_v2() -> Network:
    stages = ((3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (3, 6, 32, 3, 2), (3, 6, 64, 4, 2),
              (3, 6, 96, 3, 1), (3, 6, 160, 3, 2), (3, 6, 320, 1, 1))  # fmt: skip
    return Network(32, _staged(stages, RELU6), 1280)


def _mnasnet_b1() -> Network:
    stages = ((3, 1, 16, 1, 1), (3, 3, 24, 3, 2), (5, 3, 40, 3, 2), (5, 6, 80, 3, 2),
              (3, 6, 96, 2, 1), (5, 6, 192, 4, 2), (3, 6, 320, 1, 1))  # fmt: skip
    return Network(32, _staged(stages, RELU), 1280, ends=RELU)


def _v3_block(kernel: int, inner: int, out: int, is_squeezed: int, act: str, stride: int) -> Block:
    return Block(kernel, inner, out, stride, SWISH if act == "HS" else RELU, bool(is_squeezed))


def _v3(rows: tuple[tuple[int, int, int, int, str, int], ...], head: int) -> Network:
    blocks = tuple(_v3_block(*row) for row in rows)
    return Network(16, blocks, head, 1280, SWISH, expands_equal=True)


def _mobilenet_v3_large() -> Network:
    rows = ((3, 16, 16, 0, "RE", 1), (3, 64, 24, 0, "RE", 2), (3, 72, 24, 0, "RE", 1),
            (5, 72, 40, 1, "RE", 2), (5, 120, 40, 1, "RE", 1), (5, 120, 40, 1, "RE", 1),
            (3, 240, 80, 0, "HS", 2), (3, 200, 80, 0, "HS", 1), (3, 184, 80, 0, "HS", 1),
            (3, 184, 80, 0, "HS", 1), (3, 480, 112, 1, "HS", 1), (3, 672, 112, 1, "HS", 1),
            (5, 672, 160, 1, "HS", 2), (5, 960, 160, 1, "HS", 1),
            (5, 960, 160, 1, "HS", 1))  # fmt: skip
    return _v3(rows, 960)


def _mobilenet_v3_small() -> Network:
    rows = ((3, 16, 16, 1, "RE", 2), (3, 72, 24, 0, "RE", 2), (3, 88, 24, 0, "RE", 1),
            (5, 96, 40, 1, "HS", 2), (5, 240, 40, 1, "HS", 1), (5, 240, 40, 1, "HS", 1),
            (5, 120, 48, 1, "HS", 1), (5, 144, 48, 1, "HS", 1), (5, 288, 96, 1, "HS", 2),
            (5, 576, 96, 1, "HS", 1), (5, 576, 96, 1, "HS", 1))  # fmt: skip
    return _v3(rows, 576)


NETWORKS: dict[str, Callable[[], Network]] = {
    "mobilenet-v1": _mobilenet_v1,
    "mobilenet-v2": _mobilenet_v2,
    "mnasnet-b1": _mnasnet_b1,
    "mobilenet-v3-small": _mobilenet_v3_small,
    "mobilenet-v3-large": _mobilenet_v3_large,
}

HALF_OF_THE_BLOCKS: dict[str, range] = {"mobilenet-v1": range(5), "mobilenet-v2": range(1, 10)}
"""Blocks (from 0) that the 50 % variants replace; they are known for these networks."""


def variants_of(name: str) -> tuple[Variant, ...]:
    """The variants that are defined for a network."""
    return VARIANTS if name in HALF_OF_THE_BLOCKS else VARIANTS[:3]


def fuse_workload(name: str, variant: Variant) -> Workload:
    """A network of ``NETWORKS`` in one of its ``variants_of``; float tensors, one image."""
    network = NETWORKS[name]()
    every = range(len(network.blocks))
    replaced = HALF_OF_THE_BLOCKS[name] if variant.endswith("50") else every
    return workload(network, variant, frozenset(replaced))
