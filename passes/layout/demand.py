"""Which values take the blocked layout: those that can, and that somebody wants so.

A value can where its operator has a blocked form and its channels come in whole blocks; it is
wanted where a convolution or a pooling reads it, through operators that keep the layout. What
is read by others alone stays plain: its convolution then writes the plain layout itself.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tvm import relax

from motet.passes.graph import bindings_of, static_shape
from motet.passes.layout.forms import broadcasts, feature_map, shape_of
from motet.passes.names import HOST, target_of
from motet.passes.op_kinds import Kind, kind_of, op_name

POOLS = frozenset(("relax.nn.max_pool2d", "relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d"))
REDUCTIONS = frozenset(("relax.mean", "relax.sum", "relax.max"))
_SCALED = frozenset(("relax.quantize", "relax.dequantize"))
_NARROW = frozenset(("int8", "uint8", "int16"))
"""What blocked convolutions multiply exactly, in pairs."""


def is_convolution(call: relax.Expr, block: int) -> bool:
    """Whether ``call`` has a blocked form: whole blocks in every group, or depthwise."""
    if op_name(call) != "relax.nn.conv2d" or target_of(call) != HOST:
        return False
    attrs, shape, kernel = call.attrs, feature_map(call.args[0]), static_shape(call.args[1])
    plain = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout) == ("NCHW", "OIHW", "NCHW")
    if not plain or shape is None or kernel is None or feature_map(call) is None:
        return False
    if str(call.ty.dtype) != "float32" and not _multiplies_pairs(call):
        return False
    groups, channels, outs = int(attrs.groups), shape[1], kernel[0]
    if groups == 1:
        return channels % block == 0 or outs % block == 0
    if channels == groups == outs:
        return channels % block == 0
    return (channels // groups) % block == 0 and (outs // groups) % block == 0


def _multiplies_pairs(call: relax.Call) -> bool:
    """Whether ``call`` sums products of at most 16 bits in int32."""
    return str(call.ty.dtype) == "int32" and all(str(a.ty.dtype) in _NARROW for a in call.args)


def reduces_planes(call: relax.Expr) -> bool:
    """Whether ``call`` reduces (N, C, H, W) over H and W."""
    if op_name(call) not in REDUCTIONS or feature_map(call.args[0]) is None:
        return False
    axes = call.attrs.axis
    return axes is not None and sorted(int(a) % 4 for a in axes) == [2, 3]


def cuts_channels(call: relax.Expr, block: int) -> tuple[int, int] | None:
    """First and last block of a slice of whole blocks of channels; None for any other call."""
    if op_name(call) != "relax.strided_slice" or feature_map(call) is None:
        return None
    bounds: list[list[Any]] = [[getattr(v, "value", None) for v in p] for p in call.args[1:]]
    axes, begins, ends, *rest = bounds
    source = feature_map(call.args[0])
    if source is None or None in (*axes, *begins, *ends) or [a % 4 for a in axes] != [1]:
        return None
    if rest and rest[0] != [1]:
        return None
    begin, end = (at + source[1] if at < 0 else at for at in (*begins, *ends))
    begin, end = max(begin, 0), min(end, source[1])
    if begin >= end or source[1] % block or begin % block or end % block:
        return None
    return begin // block, end // block


class Demand:
    """What is blocked in one function, for blocks of ``block`` channels."""

    def __init__(self, function: relax.Function, block: int) -> None:
        self.block = block
        self.calls = {
            b.var: b.value for b in bindings_of(function) if isinstance(b.value, relax.Call)
        }
        self.able: set[relax.Var] = set()
        for variable, call in self.calls.items():
            if self._is_able(call):
                self.able.add(variable)
        self.wanted = self._wanted()

    def is_blocked(self, expr: relax.Expr) -> bool:
        """Whether a value of the function is made in the blocked layout."""
        if expr not in self.able:
            return False
        return expr in self.wanted or self._follows(self.calls[expr])

    def keeps_layout(self, call: relax.Expr) -> bool:
        """Whether ``call`` computes in whatever layout its operands have."""
        return target_of(call) == HOST and (
            (kind_of(call) is Kind.ELEMENTWISE and _scales_all_alike(call))
            or op_name(call) in ("relax.concat", "relax.image.resize2d", "relax.nn.pad")
            or cuts_channels(call, self.block) is not None
        )

    def takes_blocked(self, call: relax.Expr) -> bool:
        """Whether ``call`` itself is a reason to have its data blocked."""
        return target_of(call) == HOST and (op_name(call) in POOLS or reduces_planes(call))

    def _whole_blocks(self, expr: relax.Expr) -> bool:
        shape = feature_map(expr)
        return shape is not None and shape[1] % self.block == 0

    def _is_able(self, call: relax.Call) -> bool:
        if not self._whole_blocks(call):
            return False
        if is_convolution(call, self.block):
            return True
        if self.takes_blocked(call):
            return call.args[0] in self.able
        if not self.keeps_layout(call):
            return False
        name = op_name(call)
        if name == "relax.concat":
            return self._concat_is_able(call)
        if name == "relax.nn.pad":
            return call.args[0] in self.able and not any(int(p) for p in call.attrs.pad_width[:4])
        if name == "relax.image.resize2d":
            return call.args[0] in self.able and call.attrs.layout == "NCHW"
        if name == "relax.strided_slice":
            return call.args[0] in self.able
        return self._elementwise_is_able(call)

    def _concat_is_able(self, call: relax.Call) -> bool:
        parts = list(call.args[0]) if isinstance(call.args[0], relax.Tuple) else []
        if int(call.attrs.axis if call.attrs.axis is not None else 0) % 4 != 1:
            return False
        if not parts or not all(map(self._whole_blocks, parts)):
            return False
        channels = [(p, (feature_map(p) or (0, 0))[1]) for p in parts]
        return 2 * sum(c for p, c in channels if p in self.able) >= sum(c for _, c in channels)

    def _elementwise_is_able(self, call: relax.Call) -> bool:
        if op_name(call) == "relax.nn.prelu" and int(call.attrs.axis) % 4 != 1:
            return False
        channels = (feature_map(call) or (0, 0))[1]
        tensors = [a for a in call.args if isinstance(a.ty, relax.TensorType)]
        shapes = [shape_of(a) for a in tensors]
        prelu = op_name(call) == "relax.nn.prelu"
        fits = all(
            s is not None and (broadcasts(s, channels) or (prelu and k == 1))
            for k, s in enumerate(shapes)
        )
        return fits and any(a in self.able and _same(a, call) for a in tensors)

    def _follows(self, call: relax.Call) -> bool:
        """Whether ``call`` writes what it reads: a pooling, a convolution by groups."""
        grouped = op_name(call) == "relax.nn.conv2d" and int(call.attrs.groups) > 1
        return (grouped or self.takes_blocked(call)) and self.is_blocked(call.args[0])

    def _wanted(self) -> set[relax.Var]:
        readers: dict[relax.Var, list[relax.Var]] = defaultdict(list)
        for variable, call in self.calls.items():
            for value in _data(call):
                if isinstance(value, relax.Var):
                    readers[value].append(variable)
        wanted: set[relax.Var] = set()
        for variable in reversed(list(self.calls)):
            if any(self._wants(reader, wanted) for reader in readers[variable]):
                wanted.add(variable)
        return wanted

    def _wants(self, reader: relax.Var, wanted: set[relax.Var]) -> bool:
        call = self.calls[reader]
        if op_name(call) == "relax.nn.conv2d":
            return is_convolution(call, self.block) and self._whole_blocks(call.args[0])
        if self.takes_blocked(call):
            return True
        return self.keeps_layout(call) and reader in self.able and reader in wanted


def _scales_all_alike(call: relax.Call) -> bool:
    """Whether ``call`` is no quantisation with a scale per channel."""
    return op_name(call) not in _SCALED or all(shape_of(a) == [] for a in call.args[1:])


def _same(left: relax.Expr, right: relax.Expr) -> bool:
    return feature_map(left) == feature_map(right)


def _data(call: relax.Call) -> list[relax.Expr]:
    """The tensors that a call computes with; of a convolution not its weights."""
    if op_name(call) == "relax.nn.conv2d":
        return [call.args[0]]
    parts: list[relax.Expr] = []
    for argument in call.args:
        parts += list(argument) if isinstance(argument, relax.Tuple) else [argument]
    return parts
