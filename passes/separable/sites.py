"""Depthwise convolutions of a function, and what stands around them, by data flow.

Between a depthwise convolution and the layers that read it may stand elementwise operators
(the ``chain``), and, for ``full``, whatever works channel by channel: pooling, means over the
image, products with a gate that is computed from it (squeeze-and-excitation). What is not so
gives the ``refusal`` in words.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax

from motet.passes.graph import constant_array, static_shape, variables_in
from motet.passes.names import names_of
from motet.passes.op_kinds import KINDS, Kind, label, op_name
from motet.passes.separable.layers import CONVOLUTION, Graph, Layer, layer_at

_CONVOLUTIONS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d")
_POOLS = ("nn.max_pool2d", "nn.avg_pool2d", "nn.adaptive_avg_pool2d", "nn.adaptive_max_pool2d")
_POOLING = frozenset(f"relax.{name}" for name in _POOLS)


@dataclass(frozen=True, eq=False)
class Site:
    """A depthwise convolution.

    index: among those of its function. refusal: why no variant may replace it, "" if one may;
    full_refusal: why ``full`` may not. chain: variables behind it, elementwise. wide: all
    whose channels ``full`` doubles, ``chain`` included; widened: those of them that read
    tensors of C channels beside. readers: the layers that end them all, where there is
    nothing else; producer: the layer before, where only elementwise operators that treat all
    channels alike come between and behind: then channels may be reordered. is_linear: the
    readers read the result itself.
    """

    index: int
    first: relax.Var
    nodes: tuple[str, ...]
    layer: Layer | None = None
    refusal: str = ""
    full_refusal: str = ""
    chain: frozenset[relax.Var] = frozenset()
    wide: frozenset[relax.Var] = frozenset()
    widened: tuple[relax.Var, ...] = ()
    widened_calls: tuple[relax.Call, ...] = ()
    readers: tuple[Layer, ...] = ()
    producer: Layer | None = None
    is_linear: bool = False

    @property
    def widened_nodes(self) -> tuple[str, ...]:
        """The ONNX nodes of ``widened``: of a gate the product, of a constant who adds it."""
        return tuple(dict.fromkeys(name for call in self.widened_calls for name in names_of(call)))

    @property
    def found(self) -> Layer:
        """``layer`` of a site that is not refused."""
        assert self.layer is not None
        return self.layer


def sites_of(function: relax.Function) -> list[Site]:
    """All depthwise convolutions of ``function``, in its order."""
    graph = Graph(function)
    found = [v for v, value in graph.values.items() if is_depthwise(value)]
    return [_site(graph, index, variable) for index, variable in enumerate(found)]


def is_depthwise(value: relax.Expr) -> bool:
    """Whether each input channel has filters of its own."""
    if op_name(value) not in _CONVOLUTIONS:
        return False
    weight = static_shape(value.args[1])
    return weight is not None and weight[1] == 1 and int(value.attrs.groups) > 1


def _site(graph: Graph, index: int, first: relax.Var) -> Site:
    call = graph.values[first]
    refusal = _refusal(graph, first)
    if refusal:
        return Site(index, first, names_of(call), refusal=refusal)
    layer = layer_at(graph, first)
    assert layer is not None
    flow = _Flow(graph, layer.last, layer.conv.out_channels)
    ends = tuple(flow.layers) if not flow.refusal else ()
    is_uniform = bool(ends) and not flow.widened and flow.wide == flow.chain
    return Site(
        index,
        first,
        layer.nodes,
        layer,
        "",
        flow.refusal or ("" if ends else "nothing reads it"),
        frozenset(flow.chain),
        frozenset(flow.wide),
        tuple(flow.widened),
        tuple(graph.values[variable] for variable in flow.widened),
        ends,
        _producer(graph, layer) if is_uniform else None,
        len(flow.wide) == 1,
    )


def _refusal(graph: Graph, first: relax.Var) -> str:
    """Why the convolution itself cannot be replaced; "" where it can."""
    call = graph.values[first]
    if op_name(call) != "relax.nn.conv2d":
        return f"it is no convolution over images ({label(call)})"
    weight = static_shape(call.args[1])
    assert weight is not None
    kernel, channels = weight[2:], weight[0]
    if max(kernel) == 1:
        return "its kernel is 1 x 1"
    if min(kernel) == 1:
        return f"its kernel is of one dimension already ({kernel[0]} x {kernel[1]})"
    if any(size % 2 == 0 for size in kernel):
        return f"its kernel is even ({kernel[0]} x {kernel[1]}), so it has no middle"
    if any(int(d) != 1 for d in call.attrs.dilation):
        return "it is dilated"
    if channels != int(call.attrs.groups):
        return f"it gives {channels // int(call.attrs.groups)} channels for each that it reads"
    if constant_array(call.args[1]) is None:
        return "its weights are not constant"
    if layer_at(graph, first) is None:
        return f"its numbers are {call.ty.dtype} or its layout is {call.attrs.data_layout}"
    return _cropping(call, kernel)


def _cropping(call: relax.Call, kernel: tuple[int, ...]) -> str:
    """Lines need less padding than K x K; where there is none to take away, input is cropped."""
    pads = [int(p) for p in call.attrs.padding]
    crops = any(pads[axis] < kernel[axis % 2] // 2 for axis in range(4))
    if crops and static_shape(call.args[0]) is None:
        sizes = getattr(call.args[0].ty.shape, "values", None)
        known = sizes is not None and all(getattr(size, "value", None) for size in sizes[2:])
        if not known:
            return "its padding is less than half of its kernel, and its image's sizes are open"
    return ""


class _Flow:
    """Follows the channels of a depthwise result until layers mix them."""

    def __init__(self, graph: Graph, start: relax.Var, channels: int) -> None:
        self.graph, self.channels = graph, channels
        self.chain, self.wide = {start}, {start}
        self.widened: list[relax.Var] = []
        self.layers: list[Layer] = []
        self.refusal = ""
        if start in graph.escapes:
            self.refuse("an output of the model has its channels")
        # In the order of the function: what a value reads was visited before it.
        for variable, value in graph.values.items():
            if variable not in self.wide and not self.wide.isdisjoint(variables_in(value)):
                self.visit(variable, value)

    def refuse(self, reason: str) -> None:
        self.refusal = self.refusal or reason

    def visit(self, variable: relax.Var, value: relax.Expr) -> None:
        if KINDS.get(op_name(value)) is Kind.ELEMENTWISE:
            self.elementwise(variable, value)
        elif op_name(value) in _POOLING or _is_image_mean(value):
            self.wide.add(variable)
        else:
            self.end(variable, value)
        if variable in self.wide and variable in self.graph.escapes:
            self.refuse("an output of the model has its channels")

    def elementwise(self, variable: relax.Var, call: relax.Call) -> None:
        tensors = [one for one in call.args if isinstance(one.ty, relax.TensorType)]
        sizes = [channels_of(operand, call) for operand in tensors]
        if channels_of(call, call) != self.channels or None in sizes:
            self.refuse(f"its channels meet others in {_who(call)}")
            return
        beside = [
            operand
            for operand, size in zip(tensors, sizes, strict=True)
            if operand not in self.wide and size == self.channels
        ]
        self.wide.add(variable)
        varies = any(constant_array(operand) is None for operand in beside)
        if beside:
            self.widened.append(variable)
        of_chain = {operand for operand in tensors if operand in self.wide} <= self.chain
        if of_chain and not varies:
            self.chain.add(variable)

    def end(self, variable: relax.Var, value: relax.Expr) -> None:
        if isinstance(value, relax.Var):
            self.refuse("an output of the model has its channels")
            return
        layer = layer_at(self.graph, variable)
        if layer is None or layer.conv.groups != 1 or layer.data not in self.wide:
            self.refuse(f"its channels are read by {_who(value)}, which is no convolution of all")
        else:
            self.layers.append(layer)


def channel_axis(operand: relax.Expr, result: relax.Expr) -> int | None:
    """The axis of ``operand`` that meets axis 1 of ``result``; slopes of PReLU have but one."""
    if op_name(result) == "relax.nn.prelu" and operand.ty.ndim == 1:
        return 0
    axis = 1 - (int(result.ty.ndim) - int(operand.ty.ndim))
    return axis if axis >= 0 else None


def channels_of(operand: relax.Expr, result: relax.Expr) -> int | None:
    """Size of the axis of ``operand`` that meets axis 1 of ``result``; 1 where there is none."""
    values = getattr(getattr(operand.ty, "shape", None), "values", None)
    if values is None:
        return None
    axis = channel_axis(operand, result)
    if axis is None:
        return 1
    size = getattr(values[axis], "value", None)
    return None if size is None else int(size)


def _is_image_mean(value: relax.Expr) -> bool:
    """Whether ``value`` is a mean (or extremum, or sum) over axes behind the channels."""
    if op_name(value) not in ("relax.mean", "relax.sum", "relax.max", "relax.min"):
        return False
    rank, axes = int(value.args[0].ty.ndim), value.attrs.axis
    return axes is not None and all(int(axis) % rank > 1 for axis in axes)


def _who(value: relax.Expr) -> str:
    if not isinstance(value, relax.Call):
        return "a branch or a tuple"
    return f"{label(value)} ({', '.join(names_of(value)) or 'no node'})"


def _producer(graph: Graph, layer: Layer) -> Layer | None:
    """The convolution before ``layer`` whose channels nothing but ``layer`` tells apart."""
    between: set[relax.Expr] = set()
    made: Layer | None = None
    ahead: list[relax.Expr] = [layer.data]
    while ahead:
        variable = ahead.pop()
        if variable in between or (made is not None and variable.same_as(made.last)):
            continue
        value = graph.values.get(variable)
        if value is None:
            return None
        ending = _layer_ending(graph, variable, value)
        if ending is not None and made is None:
            made = ending
        elif ending is None and _treats_alike(value):
            between.add(variable)
            ahead += [one for one in value.args if isinstance(one, relax.Var)]
        else:
            return None
    if made is None or made.conv.groups != 1 or made.conv.out_channels != layer.conv.out_channels:
        return None
    allowed = between | {layer.first}
    inner = (*between, made.last)
    closed = all(set(graph.readers[one]) <= allowed for one in inner)
    return made if closed and graph.escapes.isdisjoint(inner) else None


def _treats_alike(value: relax.Expr) -> bool:
    """Whether a value is elementwise and has the same constants for all channels."""
    if KINDS.get(op_name(value)) is not Kind.ELEMENTWISE:
        return False
    constants = (constant_array(operand) for operand in value.args)
    return all(constant is None or constant.size == 1 for constant in constants)


def _layer_ending(graph: Graph, variable: relax.Var, value: relax.Expr) -> Layer | None:
    """The layer whose ``last`` is ``variable``."""
    if op_name(value) == CONVOLUTION:
        return layer_at(graph, variable)
    operands = [one for one in variables_in(value) if op_name(graph.values.get(one)) == CONVOLUTION]
    layer = layer_at(graph, operands[0]) if len(operands) == 1 else None
    return layer if layer is not None and layer.last.same_as(variable) else None
