"""The networks of SOSA's study as matrix products, layer by layer.

A network is a list of levels that run one after the other; the products of a level are of
branches that run side by side (the heads of an attention, the branches of an Inception
block). Images are 299 x 299, batch 1. Shapes: He et al. 2016 (ResNet, stride on the 3x3),
Huang et al. 2017 (DenseNet), Szegedy et al. 2016 as torchvision has it (Inception v3),
Devlin et al. 2019 and Turc et al. 2019 (BERT).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

EDGE = 299
SEQUENCES = (10, 20, 40, 60, 80, 100, 200, 300, 400, 500)
"""Tokens; SOSA says 10 to 500, these ten are this study's."""


class Product(NamedTuple):
    """[m, k] x [k, n]: m output positions, n output channels, k what is summed over."""

    m: int
    n: int
    k: int


Level = tuple[Product, ...]
Network = tuple[Level, ...]


def macs(network: Network) -> int:
    """Multiply-accumulates of all products."""
    return sum(p.m * p.n * p.k for level in network for p in level)


def networks() -> dict[str, Network]:
    """All networks of the study by name."""
    images = {
        "inception-v3": inception_v3(),
        "resnet-50": resnet((3, 4, 6, 3)),
        "resnet-101": resnet((3, 4, 23, 3)),
        "resnet-152": resnet((3, 8, 36, 3)),
        "densenet-121": densenet((6, 12, 24, 16)),
        "densenet-169": densenet((6, 12, 32, 32)),
        "densenet-201": densenet((6, 12, 48, 32)),
    }
    sizes = {"medium": (8, 512), "base": (12, 768), "large": (24, 1024)}
    texts = {
        f"bert-{name}@{tokens}": bert(*size, tokens)
        for name, size in sizes.items()
        for tokens in SEQUENCES
    }
    return images | texts


def resnet(blocks: tuple[int, ...], edge: int = EDGE) -> Network:
    """ResNet of bottleneck blocks; the projection runs beside a stage's first 1x1."""
    size = _out(edge, 7, 2, 3)
    levels: list[Level] = [(Product(size**2, 64, 3 * 49),)]
    size, channels = _out(size, 3, 2, 1), 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for block in range(count):
            out = _out(size, 3, 2 if stage and not block else 1, 1)
            first: Level = (Product(size**2, width, channels),)
            if not block:
                first = (*first, Product(out**2, 4 * width, channels))
            levels += [first, (Product(out**2, width, 9 * width),)]
            levels.append((Product(out**2, 4 * width, width),))
            size, channels = out, 4 * width
    return (*levels, (Product(1, 1000, channels),))


def densenet(blocks: tuple[int, ...], growth: int = 32, edge: int = EDGE) -> Network:
    """DenseNet-BC: 1x1 to 4 growth channels, then 3x3; transitions halve channels and image."""
    size, channels = _out(edge, 7, 2, 3), 64
    levels: list[Level] = [(Product(size**2, channels, 3 * 49),)]
    size = _out(size, 3, 2, 1)
    for number, count in enumerate(blocks):
        for _ in range(count):
            levels.append((Product(size**2, 4 * growth, channels),))
            levels.append((Product(size**2, growth, 9 * 4 * growth),))
            channels += growth
        if number < len(blocks) - 1:
            levels.append((Product(size**2, channels // 2, channels),))
            channels, size = channels // 2, size // 2
    return (*levels, (Product(1, 1000, channels),))


def inception_v3() -> Network:
    """Inception v3 at 299 x 299, without its auxiliary head; a level is a depth of a block."""
    levels: list[Level] = [
        (_conv(149, 3, 32, 9),),
        (_conv(147, 32, 32, 9),),
        (_conv(147, 32, 64, 9),),
        (_conv(73, 64, 80),),
        (_conv(71, 80, 192, 9),),
    ]
    for channels, pooled in ((192, 32), (256, 64), (288, 64)):
        levels += _inception_a(channels, pooled)
    levels += [(_conv(17, 288, 384, 9), _conv(35, 288, 64)), (_conv(35, 64, 96, 9),)]
    levels.append((_conv(17, 96, 96, 9),))
    for width in (128, 160, 160, 192):
        levels += _inception_c(width)
    levels += [(_conv(17, 768, 192),) * 2, (_conv(8, 192, 320, 9), _conv(17, 192, 192, 7))]
    levels += [(_conv(17, 192, 192, 7),), (_conv(8, 192, 192, 9),)]
    for channels in (1280, 2048):
        levels += _inception_e(channels)
    return (*levels, (Product(1, 1000, 2048),))


def bert(layers: int, hidden: int, tokens: int) -> Network:
    """BERT's encoder: heads of 64, a feed-forward part of 4 x hidden."""
    return tuple(level for _ in range(layers) for level in _encoder(hidden, tokens))


def _encoder(hidden: int, tokens: int) -> Iterator[Level]:
    heads = hidden // 64
    yield (Product(tokens, hidden, hidden),) * 3
    yield (Product(tokens, tokens, 64),) * heads
    yield (Product(tokens, 64, tokens),) * heads
    yield (Product(tokens, hidden, hidden),)
    yield (Product(tokens, 4 * hidden, hidden),)
    yield (Product(tokens, hidden, 4 * hidden),)


def _inception_a(channels: int, pooled: int) -> list[Level]:
    first = tuple(_conv(35, channels, out) for out in (64, 48, 64, pooled))
    return [first, (_conv(35, 48, 64, 25), _conv(35, 64, 96, 9)), (_conv(35, 96, 96, 9),)]


def _inception_c(width: int) -> list[Level]:
    return [
        tuple(_conv(17, 768, out) for out in (192, width, width, 192)),
        (_conv(17, width, width, 7), _conv(17, width, width, 7)),
        (_conv(17, width, 192, 7), _conv(17, width, width, 7)),
        (_conv(17, width, width, 7),),
        (_conv(17, width, 192, 7),),
    ]


def _inception_e(channels: int) -> list[Level]:
    return [
        tuple(_conv(8, channels, out) for out in (320, 384, 448, 192)),
        (*(_conv(8, 384, 384, 3),) * 2, _conv(8, 448, 384, 9)),
        (_conv(8, 384, 384, 3),) * 2,
    ]


def _conv(size: int, channels: int, out: int, window: int = 1) -> Product:
    """A convolution to ``size`` x ``size`` positions with ``window`` taps."""
    return Product(size**2, out, channels * window)


def _out(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1
