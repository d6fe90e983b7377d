"""`digits_mobile`: inverted residual blocks after MobileNetV2 (Sandler et al., CVPR 2018).

BatchNormalization stays a node of its own and ReLU6 is a Clip, as exporters
leave them, so that a compiler has something to fold.
"""

from dataclasses import dataclass

from onnx import ModelProto
from torch import Tensor, nn

from training import layers
from training.digits import CLASSES, SIDE
from training.graph import GraphBuilder

STEM_CHANNELS = 16
HEAD_CHANNELS = 128
DROPOUT = 0.1


@dataclass(frozen=True)
class BlockShape:
    """One inverted residual block: the expansion, the output channels and the stride."""

    expansion: int
    channels: int
    stride: int


BLOCKS = (
    BlockShape(expansion=1, channels=8, stride=1),
    BlockShape(expansion=6, channels=16, stride=2),
    BlockShape(expansion=6, channels=16, stride=1),
    BlockShape(expansion=6, channels=24, stride=2),
    BlockShape(expansion=6, channels=24, stride=1),
    BlockShape(expansion=6, channels=32, stride=2),
    BlockShape(expansion=6, channels=32, stride=1),
    BlockShape(expansion=6, channels=32, stride=1),
)


class ConvNorm(nn.Module):
    """Conv without bias, BatchNormalization and, unless linear, ReLU6."""

    def __init__(
        self,
        source: int,
        target: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            source, target, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(target)
        self.activation: nn.Module = nn.Identity() if linear else nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """[N, source, H, W] to [N, target, H / stride, W / stride]."""
        result: Tensor = self.activation(self.norm(self.conv(x)))
        return result

    def export(self, graph: GraphBuilder, name: str, x: str) -> str:
        """The nodes `name/conv`, `name/norm` and what the activation is: `name/relu6` as a rule."""
        x = layers.conv(graph, f"{name}/conv", x, self.conv)
        x = layers.batch_norm(graph, f"{name}/norm", x, self.norm)
        if isinstance(self.activation, nn.ReLU6):
            return layers.relu6(graph, f"{name}/relu6", x)
        if isinstance(self.activation, nn.Conv2d):  # a scale and shift in its place
            return layers.conv(graph, f"{name}/affine", x, self.activation)
        return x


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter by 3x3 depthwise, project by a linear 1x1; add the input if it fits."""

    def __init__(self, source: int, shape: BlockShape) -> None:
        super().__init__()
        hidden = source * shape.expansion
        self.stages = nn.ModuleDict()
        # As in MobileNetV2, a block with expansion 1 has no expanding convolution.
        if shape.expansion > 1:
            self.stages["expand"] = ConvNorm(source, hidden)
        self.stages["depthwise"] = ConvNorm(
            hidden, hidden, kernel=3, stride=shape.stride, groups=hidden
        )
        self.stages["project"] = ConvNorm(hidden, shape.channels, linear=True)
        self.residual = shape.stride == 1 and source == shape.channels

    def forward(self, x: Tensor) -> Tensor:
        """[N, source, H, W] to [N, channels, H / stride, W / stride]."""
        y = x
        for stage in self.stages.values():
            y = stage(y)
        return x + y if self.residual else y

    def export(self, graph: GraphBuilder, name: str, x: str) -> str:
        """The nodes of the stages and, with a residual, `name/add`."""
        y = x
        for key, stage in self.stages.items():
            assert isinstance(stage, ConvNorm)
            y = stage.export(graph, f"{name}/{key}", y)
        return graph.node("Add", f"{name}/add", [x, y]) if self.residual else y


class Mobile(nn.Module):
    """Stem, inverted residual blocks, head, global average pool, classifier."""

    def __init__(self) -> None:
        super().__init__()
        sources = (STEM_CHANNELS, *(shape.channels for shape in BLOCKS))
        self.stem = ConvNorm(1, STEM_CHANNELS, kernel=3)
        self.blocks = nn.ModuleList(
            InvertedResidual(source, shape) for source, shape in zip(sources, BLOCKS, strict=False)
        )
        self.head = ConvNorm(sources[-1], HEAD_CHANNELS)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(HEAD_CHANNELS, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Image [N, 1, 32, 32] to logits [N, 10]."""
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
        x = self.head(x).mean(dim=(2, 3))
        result: Tensor = self.classifier(self.dropout(x))
        return result

    def export(self) -> ModelProto:
        """The ONNX model with the present weights."""
        graph = GraphBuilder("digits_mobile")
        x = self.stem.export(graph, "stem", "image")
        for number, block in enumerate(self.blocks, start=1):
            assert isinstance(block, InvertedResidual)
            x = block.export(graph, f"block{number}", x)
        x = self.head.export(graph, "head", x)
        x = layers.global_average(graph, "pool", x)
        x = layers.classifier(graph, "classifier", x, self.classifier)
        return graph.finish(x, (1, SIDE, SIDE), CLASSES)
