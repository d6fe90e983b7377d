"""`digits_inception`: parallel branches joined by Concat, after Inception (Szegedy et al., 2016).

The convolutions have biases and no BatchNormalization; a ReLU follows each.
One block factors 7x7 into 1x7 and 7x1, as Inception-v3 does.
"""

from dataclasses import dataclass

from onnx import ModelProto
from torch import Tensor, cat, nn

from training import layers
from training.digits import CLASSES, SIDE
from training.graph import GraphBuilder

STEM_CHANNELS = (16, 32)
DROPOUT = 0.2

Kernel = tuple[int, int]


@dataclass(frozen=True)
class BlockShape:
    """The channels of one block's branches.

    `single` is the 1x1 branch. `short` is a 1x1 then a 3x3; `long` a 1x1 then one
    convolution for each of `long_kernels`; `pooled` the 1x1 after a 3x3 pool of
    stride 1, which takes averages or, with `pool_maximum`, maxima. A max pool
    that halves height and width follows the block where `shrink` says so.
    """

    single: int
    short: tuple[int, int]
    long: tuple[int, int, int]
    pooled: int
    long_kernels: tuple[Kernel, Kernel] = ((3, 3), (3, 3))
    pool_maximum: bool = False
    shrink: bool = True

    @property
    def channels(self) -> int:
        """The channels of the joined branches."""
        return self.single + self.short[-1] + self.long[-1] + self.pooled


BLOCKS = (
    BlockShape(single=16, short=(8, 16), long=(8, 12, 16), pooled=8),
    BlockShape(
        single=24,
        short=(16, 32),
        long=(16, 20, 24),
        pooled=16,
        long_kernels=((1, 7), (7, 1)),
        shrink=False,
    ),
    BlockShape(single=24, short=(16, 32), long=(16, 20, 24), pooled=16, pool_maximum=True),
    BlockShape(single=32, short=(24, 48), long=(24, 32, 48), pooled=32, shrink=False),
)


class ConvRelu(nn.Module):
    """Conv with bias, same size, then ReLU."""

    def __init__(self, source: int, target: int, kernel: Kernel = (1, 1)) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(source, target, kernel, padding=padding)
        # torch's default shrinks the signal from layer to layer; without
        # BatchNormalization to restore it, ReLU needs He's initialization.
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[N, source, H, W] to [N, target, H, W]."""
        result: Tensor = self.conv(x).relu()
        return result

    def export(self, graph: GraphBuilder, name: str, x: str) -> str:
        """The nodes `name/conv` and `name/relu`."""
        x = layers.conv(graph, f"{name}/conv", x, self.conv)
        return graph.node("Relu", f"{name}/relu", [x])


class Branch(nn.Module):
    """Named convolutions in a row, after a pool if there is one."""

    def __init__(
        self, pool: nn.AvgPool2d | nn.MaxPool2d | None, stages: dict[str, ConvRelu]
    ) -> None:
        super().__init__()
        self.pool = pool
        self.stages = nn.ModuleDict(stages)

    def forward(self, x: Tensor) -> Tensor:
        """[N, source, H, W] to [N, target, H, W]."""
        if self.pool is not None:
            x = self.pool(x)
        for stage in self.stages.values():
            x = stage(x)
        return x

    def export(self, graph: GraphBuilder, name: str, x: str) -> str:
        """The nodes of the pool and the stages."""
        if isinstance(self.pool, nn.AvgPool2d):
            x = layers.average_pool(graph, f"{name}/average", x, self.pool)
        elif isinstance(self.pool, nn.MaxPool2d):
            x = layers.max_pool(graph, f"{name}/maximum", x, self.pool)
        for key, stage in self.stages.items():
            assert isinstance(stage, ConvRelu)
            x = stage.export(graph, f"{name}/{key}", x)
        return x


def single_branch(source: int, shape: BlockShape) -> Branch:
    """1x1."""
    return Branch(None, {"reduce": ConvRelu(source, shape.single)})


def short_branch(source: int, shape: BlockShape) -> Branch:
    """1x1, 3x3."""
    reduced, target = shape.short
    stages = {"reduce": ConvRelu(source, reduced), "filter": ConvRelu(reduced, target, (3, 3))}
    return Branch(None, stages)


def long_branch(source: int, shape: BlockShape) -> Branch:
    """1x1 and two more, such as 3x3, 3x3 or 1x7, 7x1."""
    reduced, middle, target = shape.long
    first, second = shape.long_kernels
    stages = {
        "reduce": ConvRelu(source, reduced),
        "filter1": ConvRelu(reduced, middle, first),
        "filter2": ConvRelu(middle, target, second),
    }
    return Branch(None, stages)


def pooled_branch(source: int, shape: BlockShape) -> Branch:
    """3x3 pool of stride 1, 1x1."""
    kind = nn.MaxPool2d if shape.pool_maximum else nn.AvgPool2d
    return Branch(kind(3, stride=1, padding=1), {"project": ConvRelu(source, shape.pooled)})


class InceptionBlock(nn.Module):
    """Four branches over the same input, joined along the channels."""

    def __init__(self, source: int, shape: BlockShape) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                "single": single_branch(source, shape),
                "short": short_branch(source, shape),
                "long": long_branch(source, shape),
                "pooled": pooled_branch(source, shape),
            }
        )
        self.shrink = nn.MaxPool2d(2) if shape.shrink else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, source, H, W] to [N, channels, H, W], or half of H and W."""
        x = cat([branch(x) for branch in self.branches.values()], dim=1)
        return x if self.shrink is None else self.shrink(x)

    def export(self, graph: GraphBuilder, name: str, x: str) -> str:
        """The nodes of the branches, `name/concat` and, where it shrinks, `name/shrink`."""
        outputs: list[str] = []
        for key, branch in self.branches.items():
            assert isinstance(branch, Branch)
            outputs.append(branch.export(graph, f"{name}/{key}", x))
        x = graph.node("Concat", f"{name}/concat", outputs, axis=1)
        if self.shrink is None:
            return x
        return layers.max_pool(graph, f"{name}/shrink", x, self.shrink)


class Inception(nn.Module):
    """Two stem convolutions around a max pool, blocks, global average pool, classifier."""

    def __init__(self) -> None:
        super().__init__()
        first, second = STEM_CHANNELS
        self.stem1 = ConvRelu(1, first, (3, 3))
        self.shrink = nn.MaxPool2d(2)
        self.stem2 = ConvRelu(first, second, (3, 3))
        sources = (second, *(shape.channels for shape in BLOCKS))
        self.blocks = nn.ModuleList(
            InceptionBlock(source, shape) for source, shape in zip(sources, BLOCKS, strict=False)
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(sources[-1], CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Image [N, 1, 32, 32] to logits [N, 10]."""
        x = self.stem2(self.shrink(self.stem1(image)))
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.classifier(self.dropout(x.mean(dim=(2, 3))))
        return result

    def export(self) -> ModelProto:
        """The ONNX model with the present weights."""
        graph = GraphBuilder("digits_inception")
        x = self.stem1.export(graph, "stem1", "image")
        x = layers.max_pool(graph, "stem1/shrink", x, self.shrink)
        x = self.stem2.export(graph, "stem2", x)
        for number, block in enumerate(self.blocks, start=1):
            assert isinstance(block, InceptionBlock)
            x = block.export(graph, f"block{number}", x)
        x = layers.global_average(graph, "pool", x)
        x = layers.classifier(graph, "classifier", x, self.classifier)
        return graph.finish(x, (1, SIDE, SIDE), CLASSES)
