"""NASNet-A large, 6 @ 4032 (Zoph et al. 2018, figure 4), without batch normalisation.

As inter-operator schedulers are compared on it (Ding et al. 2021): up to the global pooling,
and a normal cell concatenates its five sums without its left value (so 3360 features). A cell
reads the two values before it. Its first two operators are ReLU and 1x1 convolution
of either: ``left`` of the previous one, ``right`` of the current. A "sep" is ReLU, depthwise
and pointwise convolution, twice. In the second stem cell the previous value's two
convolutions of half the channels are added, as in the public code of that comparison.

``large`` ends its first stem cell as every reduction cell, c1 beside avg(c0) + c1: 374
operators. ``ios`` does what that public code does, avg(c0) + c0. Its c1 then has a single
reader, and so counts as 373 operators by the rule that such a sum is its reader's part; that
code counts it all the same.
"""

from __future__ import annotations

import onnx

from . import variants
from .building import GraphBuilder, Value
from .separable import relu_conv, relu_separable

NAMES = {"nasnet_a_large": "large"}
VARIANTS = ("large", "ios")
STEM, FILTERS, REPEATS = 96, 168, 5
"""Channels of the first convolution and of the first normal cells; normal cells in a row."""
HALVED = 1.0
"""Gain of what a sum of two reads: half of what would keep the second moment."""


def build(variant: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """NASNet-A large; ``large@65`` takes images of 65 x 65 instead of 331 x 331.

    input: image, 1 x 3 x 331 x 331, float32. output: features, 1 x 3360.
    """
    kind, edge = variants.parse("nasnet_a_large", variant, VARIANTS, "large", 331)
    graph = GraphBuilder(f"nasnet_a_{kind}", seed)
    image = graph.input("image", (1, 3, edge, edge))
    cells = _Cells(graph)
    first = graph.conv(image, "conv0", STEM, 3, 2, bias=True)
    stem = cells.first_stem(first, FILTERS // 4, kind == "ios")
    previous, x = stem, cells.second_stem(stem, first, FILTERS // 2)
    for row in range(3):
        channels = FILTERS << row
        if row:
            # The next cell reads what the reduction read beside its own input, and its result.
            x = cells.reduction(x, previous, f"reduction{row}", channels)
        previous, x = x, cells.first(x, previous, f"row{row}.first", channels)
        for index in range(REPEATS):
            previous, x = x, cells.normal(x, previous, f"row{row}.normal{index}", channels)
    x = graph.global_average_pool(graph.relu(x, "relu"), "avgpool")
    return graph.model(features=graph.flatten(x, "flatten"))


class _Cells:
    """The five kinds of cell; each gives the concatenation of its sums."""

    def __init__(self, graph: GraphBuilder) -> None:
        self.graph = graph

    def sep(self, x: Value, name: str, channels: int, kernel: int, stride: int = 1) -> Value:
        """Two ReLU-separable convolutions; the first has the stride."""
        x = relu_separable(self.graph, x, f"{name}.1", x.channels, kernel, stride)
        return relu_separable(self.graph, x, f"{name}.2", channels, kernel, gain=HALVED)

    def sep_of_image(self, x: Value, name: str, channels: int, kernel: int) -> Value:
        """The stem's, of stride 2: already the first changes the number of channels."""
        x = relu_separable(self.graph, x, f"{name}.1", channels, kernel, 2)
        return relu_separable(self.graph, x, f"{name}.2", channels, kernel, gain=HALVED)

    def average(self, x: Value, name: str, stride: int = 1) -> Value:
        return self.graph.average_pool(x, name, 3, stride, 1, include_padding=False)

    def max(self, x: Value, name: str) -> Value:
        return self.graph.max_pool(x, name, 3, 2, 1)

    def first_stem(self, x: Value, channels: int, adds_c0: bool) -> Value:
        """A reduction cell whose previous value is the image's convolution itself."""
        right = relu_conv(self.graph, x, "stem0.right", channels)
        seps = [
            self.sep_of_image(x, f"stem0.{part}.left", channels, kernel)
            for part, kernel in (("c0", 7), ("c1", 7), ("c2", 5))
        ]
        return self.reduced(right, seps, "stem0", channels, adds_c0)

    def second_stem(self, x: Value, previous: Value, channels: int) -> Value:
        right = relu_conv(self.graph, x, "stem1.right", channels)
        halves = [
            relu_conv(self.graph, previous, f"stem1.left{half}", channels // 2, 2)
            for half in (1, 2)
        ]
        left = self.graph.add(halves[0], halves[1], "stem1.left")
        return self.reduced(right, self.seps(left, "stem1", channels), "stem1", channels)

    def reduction(self, x: Value, previous: Value, name: str, channels: int) -> Value:
        left = relu_conv(self.graph, previous, f"{name}.left", channels)
        right = relu_conv(self.graph, x, f"{name}.right", channels)
        return self.reduced(right, self.seps(left, name, channels), name, channels)

    def seps(self, left: Value, name: str, channels: int) -> list[Value]:
        """What c0, c1 and c2 of a reduction make of the left value."""
        return [
            self.sep(left, f"{name}.{part}.left", channels, kernel, 2)
            for part, kernel in (("c0", 7), ("c1", 7), ("c2", 5))
        ]

    def reduced(
        self, right: Value, left: list[Value], name: str, channels: int, adds_c0: bool = False
    ) -> Value:
        """The sums of a reduction cell: c1, c2, c1 + avg(c0), c4."""
        graph = self.graph
        c0 = graph.add(self.sep(right, f"{name}.c0.right", channels, 5, 2), left[0], f"{name}.c0")
        c1 = graph.add(self.max(right, f"{name}.c1.right"), left[1], f"{name}.c1")
        c2 = graph.add(self.average(right, f"{name}.c2.right", 2), left[2], f"{name}.c2")
        averaged = self.average(c0, f"{name}.c3.left")
        c3 = graph.add(averaged, c0 if adds_c0 else c1, f"{name}.c3")
        c4 = graph.add(
            self.sep(c0, f"{name}.c4.left", channels, 3),
            self.max(right, f"{name}.c4.right"),
            f"{name}.c4",
        )
        return graph.concat([c1, c2, c3, c4], f"{name}.concat")

    def first(self, x: Value, previous: Value, name: str, channels: int) -> Value:
        """The cell behind a reduction: the previous value is twice as high and wide."""
        halves = [
            relu_conv(self.graph, previous, f"{name}.left{half}", channels // 2, 2)
            for half in (1, 2)
        ]
        left = self.graph.concat(halves, f"{name}.left")
        right = relu_conv(self.graph, x, f"{name}.right", channels)
        parts = [left, *self.sums(left, right, right, name, channels)]
        return self.graph.concat(parts, f"{name}.concat")

    def normal(self, x: Value, previous: Value, name: str, channels: int) -> Value:
        left = relu_conv(self.graph, previous, f"{name}.left", channels)
        right = relu_conv(self.graph, x, f"{name}.right", channels)
        return self.graph.concat(self.sums(left, right, left, name, channels), f"{name}.concat")

    def sums(
        self, left: Value, right: Value, second: Value, name: str, channels: int
    ) -> list[Value]:
        """The five sums of a cell that keeps the size; ``second`` is what c0's sep3 reads."""

        def sep(x: Value, part: str, kernel: int) -> Value:
            return self.sep(x, f"{name}.{part}", channels, kernel)

        def average(x: Value, part: str) -> Value:
            return self.average(x, f"{name}.{part}")

        pairs = [
            (sep(right, "c0.left", 5), sep(second, "c0.right", 3)),
            (sep(left, "c1.left", 5), sep(left, "c1.right", 3)),
            (average(right, "c2.left"), left),
            (average(left, "c3.left"), average(left, "c3.right")),
            (sep(right, "c4.left", 3), right),
        ]
        return [self.graph.add(a, b, f"{name}.c{i}") for i, (a, b) in enumerate(pairs)]
