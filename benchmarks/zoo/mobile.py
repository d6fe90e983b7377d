"""What networks for phones are made of: normalised convolutions and inverted residual blocks.

Depthwise layers may be FuSeConv's (Ganesan and Kumar, arXiv 2105.13434): ``full`` has rows and
columns of all channels side by side, 2C in all, ``half`` rows of the first half of the channels
and columns of the other; ``full50`` and ``half50`` have them in half of the blocks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .building import RESIDUAL, GraphBuilder, Value

KINDS = ("full", "half", "full50", "half50")

Activation = Callable[[GraphBuilder, Value, str], Value]


def relu(graph: GraphBuilder, x: Value, name: str) -> Value:
    """max(x, 0)."""
    return graph.relu(x, name)


def relu6(graph: GraphBuilder, x: Value, name: str) -> Value:
    """min(max(x, 0), 6)."""
    return graph.relu6(x, name)


def hard_swish(graph: GraphBuilder, x: Value, name: str) -> Value:
    """Each value times relu6(value + 3) / 6: one operator since operator set 14."""
    return graph.node("HardSwish", [x], name, x.shape)


@dataclass(frozen=True)
class Block:
    """An inverted residual block: expand with 1x1, depthwise, project with 1x1.

    expanded: channels between; channels: of the result; squeezed: channels of the
    squeeze-and-excitation behind the depthwise layer, 0 for none. lines: "full" or "half" for
    rows and columns instead of a K x K depthwise layer. always_expands: also where that adds no
    channels.
    """

    kernel: int
    expanded: int
    channels: int
    stride: int
    activation: Activation
    squeezed: int = 0
    lines: str = ""
    always_expands: bool = False


def normed(
    graph: GraphBuilder,
    x: Value,
    name: str,
    channels: int,
    kernel: int,
    stride: int = 1,
    *,
    activation: Activation | None,
    groups: int = 1,
    damping: float = 1.0,
    epsilon: float = 1e-5,
) -> Value:
    """Convolution without bias, batch normalisation, activation or none."""
    gain = 2.0 if activation else 1.0
    x = graph.conv(x, name, channels, kernel, stride, kernel // 2, groups=groups, gain=gain)
    x = graph.batch_norm(x, f"{name}.norm", damping, epsilon)
    return activation(graph, x, f"{name}.activation") if activation else x


def inverted_residual(
    graph: GraphBuilder, x: Value, name: str, block: Block, epsilon: float = 1e-5
) -> Value:
    """``block`` on x, with a shortcut where shapes allow; no expansion where it adds nothing."""
    y = x
    act = block.activation
    if block.expanded != x.channels or block.always_expands:
        expand = f"{name}.expand"
        y = normed(graph, y, expand, block.expanded, 1, activation=act, epsilon=epsilon)
    narrow = y.channels
    y = depthwise(graph, y, f"{name}.depthwise", block, epsilon)
    if block.squeezed:
        y = squeeze_excite(graph, y, f"{name}.se", block.squeezed * (y.channels // narrow))
    shortcut = block.stride == 1 and x.channels == block.channels
    damping = RESIDUAL if shortcut else 1.0
    y = normed(
        graph, y, f"{name}.project", block.channels, 1,
        activation=None, damping=damping, epsilon=epsilon,
    )  # fmt: skip
    return graph.add(x, y, f"{name}.add") if shortcut else y


def depthwise(
    graph: GraphBuilder, x: Value, name: str, block: Block, epsilon: float = 1e-5
) -> Value:
    """The depthwise layer of ``block``, activated; C channels, of ``full`` 2C."""
    size, stride, act = block.kernel, block.stride, block.activation
    if not block.lines:
        return normed(
            graph, x, name, x.channels, size, stride,
            activation=act, groups=x.channels, epsilon=epsilon,
        )  # fmt: skip
    parts = [x, x]
    if block.lines == "half":
        shape = (x.shape[0], x.channels // 2, *x.shape[2:])
        parts = graph.nodes("Split", [x], f"{name}.split", [shape] * 2, axis=1)
    made = []
    for part, axis, kernel in zip(parts, ("row", "column"), ((1, size), (size, 1)), strict=True):
        padding = (kernel[0] // 2, kernel[1] // 2)
        y = graph.conv(
            part, f"{name}.{axis}", part.channels, kernel, stride, padding, groups=part.channels
        )
        y = graph.batch_norm(y, f"{name}.{axis}.norm", 1.0, epsilon)
        made.append(act(graph, y, f"{name}.{axis}.activation"))
    return graph.concat(made, f"{name}.lines")


def with_kinds(names: Iterable[str]) -> list[str]:
    """What ``variants.parse`` may meet: each name, and with each of ``KINDS``, as 1.0-half."""
    listed = list(names)
    return [*listed, *(f"{name}-{kind}" for name in listed for kind in KINDS)]


def kind_of(text: str) -> tuple[str, str]:
    """Name and kind ("" for none) of what ``with_kinds`` lists."""
    name, _, kind = text.partition("-")
    return name, kind


def lines_of(kind: str, index: int, half: range) -> str:
    """``Block.lines`` of block ``index`` from 0. half: the blocks that the 50 % kinds replace."""
    if not kind.endswith("50"):
        return kind
    return kind.removesuffix("50") if index in half else ""


def squeeze_excite(graph: GraphBuilder, x: Value, name: str, squeezed: int) -> Value:
    """Scale channels by hard_sigmoid of two layers on their means (Howard et al. 2019, 5.3)."""
    y = graph.global_average_pool(x, f"{name}.avgpool")
    y = graph.relu(graph.conv(y, f"{name}.fc1", squeezed, 1, bias=True), f"{name}.relu")
    y = graph.conv(y, f"{name}.fc2", x.channels, 1, bias=True, gain=1.0)
    y = graph.node("HardSigmoid", [y], f"{name}.scale", y.shape, alpha=1 / 6, beta=0.5)
    return graph.node("Mul", [y, x], f"{name}.mul", x.shape)


def divisible(channels: float, divisor: int = 8) -> int:
    """``channels`` rounded to a multiple of ``divisor``, never below 90 % of what it was.

    As the authors' code has it (``_make_divisible`` of TensorFlow's models).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
