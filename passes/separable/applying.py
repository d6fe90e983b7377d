"""Rewrites a function by decisions: rows and columns in the place of depthwise convolutions.

Elementwise operators behind a depthwise convolution are done to rows and columns apart, so that
each joins the kernel of its convolution, and the concatenation comes last: it is a view where
its parts are computed in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax

from motet.passes.decisions import NewWeights, Replacement
from motet.passes.graph import constant_array
from motet.passes.names import names_of, with_names
from motet.passes.rewrite import Rewriter
from motet.passes.separable.layers import Layer
from motet.passes.separable.sites import Site, channel_axis, channels_of
from motet.runtime.device import Array
from motet.runtime.errors import SpecError


@dataclass(frozen=True)
class Edit:
    """A site and what was decided for it."""

    site: Site
    decision: Replacement

    @property
    def is_full(self) -> bool:
        """Whether rows and columns have all channels."""
        return self.decision.variant == "full"


def replaced(
    function: relax.Function, edits: Sequence[Edit], weights: Mapping[str, Array]
) -> relax.Function:
    """``function`` with the edits applied; what they replace is left behind, dead.

    Raises ``SpecError`` where a decision names layers that the function does not have.
    """
    return _Replacer(edits, weights).function(function)


class _Replacer(Rewriter):
    def __init__(self, edits: Sequence[Edit], weights: Mapping[str, Array]) -> None:
        super().__init__()
        self.weights = weights
        self.starts = {edit.site.found.last: edit for edit in edits}
        self.chains = {v: edit for edit in edits for v in edit.site.chain - {edit.site.found.last}}
        self.widened = {
            v: edit for edit in edits if edit.is_full for v in edit.site.widened
        }  # fmt: skip
        self.layers = {
            layer.last: (layer, new)
            for edit in edits
            for new in edit.decision.layers
            for layer in (_named(edit, new),)
        }
        made = [edit.site.found for edit in edits] + [layer for layer, _ in self.layers.values()]
        self.dropped = {layer.first for layer in made} - {layer.last for layer in made}
        self.pairs: dict[relax.Expr, tuple[relax.Var, relax.Var]] = {}

    def value(self, _variable: relax.Var, value: relax.Expr) -> relax.Expr:
        return value

    def _binding(self, binding: relax.Binding) -> None:
        """What an edit concerns is made anew: its operands may have other channels by now."""
        if binding.var in self.dropped:
            return
        made = self.made(binding.var, binding.value)
        if made is None:
            super()._binding(binding)
        else:
            self._bind(binding.var, self._typed(made))

    def made(self, variable: relax.Var, value: relax.Expr) -> relax.Expr | None:
        if variable in self.starts:
            return self.lines(self.starts[variable])
        if variable in self.layers:
            return self.layer(*self.layers[variable])
        if variable in self.chains:
            return self.apart(value, self.chains[variable])
        if variable in self.widened:
            return self.with_doubled(value, self.widened[variable].site)
        return None

    def lines(self, edit: Edit) -> relax.Expr:
        """The 1 x K and the K x 1 convolution, and their concatenation."""
        site, one = edit.site, edit.decision
        layer, data = site.found, self.read(site.found.data)
        channels, rows = layer.conv.out_channels, one.rows
        of_rows = (0, channels) if edit.is_full else (0, rows)
        of_columns = (0, channels) if edit.is_full else (rows, channels)
        row = self.line(layer, data, of_rows, one.row, one.row_bias)
        column = self.line(layer, data, of_columns, one.column, one.column_bias)
        return self.joined(row, column, layer.nodes)

    def line(
        self, layer: Layer, data: relax.Expr, channels: tuple[int, int], weight: str, bias: str
    ) -> relax.Var:
        """A depthwise convolution of ``channels`` (from, to) of the data."""
        kernel = self.weights[weight].shape[2:]
        padding, crops = line_padding(layer.conv.padding, layer.conv.kernel, kernel)
        cut = self.cut(data, channels, crops, layer.nodes)
        groups = channels[1] - channels[0]
        return self.convolved(layer, cut, weight, bias, padding, groups)

    def cut(
        self,
        data: relax.Expr,
        channels: tuple[int, int],
        crops: Sequence[int],
        names: Sequence[str],
    ) -> relax.Expr:
        """The channels (from, to) of ``data``, its image cropped; ``data`` where it is all."""
        sizes = list(data.ty.shape.values)
        ranges = {1: (channels[0], channels[1])} if channels != (0, int(sizes[1])) else {}
        for axis in (2, 3):
            begin, end = crops[axis - 2], crops[axis]
            if begin or end:
                ranges[axis] = (begin, int(sizes[axis]) - end)
        if not ranges:
            return data
        begins, ends = zip(*ranges.values(), strict=True)
        made = relax.op.strided_slice(data, list(ranges), list(begins), list(ends))
        return self.emit(with_names(made, names))

    def convolved(
        self,
        layer: Layer,
        data: relax.Expr,
        weight: str,
        bias: str,
        padding: Sequence[int],
        groups: int,
    ) -> relax.Var:
        """A convolution as ``layer`` is, with other weights."""
        dtype = str(layer.call.ty.dtype)
        values = self.weights[weight].astype(dtype)
        product = relax.op.nn.conv2d(
            data,
            relax.const(values, dtype),
            strides=list(layer.conv.stride),
            padding=list(padding),
            dilation=list(layer.conv.dilation),
            groups=groups,
            out_dtype=str(layer.call.attrs.out_dtype or "") or None,
        )
        made = self.emit(with_names(product, layer.nodes))
        shift = self.weights[bias].astype(dtype)
        if not shift.any():
            return made
        added = relax.op.add(made, relax.const(shift.reshape(1, -1, 1, 1), dtype))
        return self.emit(with_names(added, layer.nodes))

    def layer(self, layer: Layer, new: NewWeights) -> relax.Expr:
        """``layer`` with new weights, on what is in the place of its operand now."""
        padding, groups = layer.conv.padding, layer.conv.groups
        data = self.read(layer.data)
        return self.convolved(layer, data, new.weight, new.bias, padding, groups)

    def joined(self, row: relax.Var, column: relax.Var, names: Sequence[str]) -> relax.Var:
        """Both along the channels; what comes next may still take them apart."""
        whole = relax.op.concat([row, column], axis=1)
        made = self.emit(with_names(whole, names))
        self.pairs[made] = (row, column)
        return made

    def apart(self, call: relax.Call, edit: Edit) -> relax.Expr:
        """An elementwise call on rows and on columns."""
        row, column = (self.on_side(call, edit, side) for side in (0, 1))
        return self.joined(row, column, names_of(call))

    def on_side(self, call: relax.Call, edit: Edit, side: int) -> relax.Var:
        args = [self.part(self.read(one), call, edit, side) for one in call.args]
        made = relax.Call(call.op, args, call.attrs, call.ty_args)
        return self.emit(with_names(made, names_of(call)))

    def part(self, operand: relax.Expr, call: relax.Call, edit: Edit, side: int) -> relax.Expr:
        """What rows (side 0) or columns (1) meet of an operand."""
        if operand in self.pairs:
            return self.pairs[operand][side]
        values = constant_array(operand)
        whole = edit.site.found.conv.out_channels
        if values is None or edit.is_full or channels_of(operand, call) != whole or whole == 1:
            return operand
        bounds = (0, edit.decision.rows, whole)
        part = values.take(range(bounds[side], bounds[side + 1]), axis=channel_axis(operand, call))
        return relax.const(part, values.dtype.name)

    def with_doubled(self, call: relax.Call, site: Site) -> relax.Expr:
        """A call whose operands of C channels are given to rows and columns alike."""
        channels = site.found.conv.out_channels
        args = []
        for operand in map(self.read, call.args):
            narrow = isinstance(operand.ty, relax.TensorType) and channels_of(operand, call)
            args.append(self.doubled(operand, call) if narrow == channels else operand)
        made = relax.Call(call.op, args, call.attrs, call.ty_args)
        return with_names(made, names_of(call))

    def doubled(self, operand: relax.Expr, call: relax.Call) -> relax.Expr:
        axis = channel_axis(operand, call)
        values = constant_array(operand)
        if values is not None:
            twice = np.concatenate([values, values], axis=axis)
            return relax.const(twice, values.dtype.name)
        made = relax.op.concat([operand, operand], axis=axis)
        return self.emit(with_names(made, names_of(call)))


def line_padding(
    padding: Sequence[int], kernel: Sequence[int], line: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What a line of a K x K kernel pads, and what it crops: (top, left, bottom, right) each.

    A line lies in the middle of the kernel, so that it meets (K - 1) / 2 positions less before
    and behind.
    """
    less = [(kernel[axis % 2] - line[axis % 2]) // 2 for axis in range(4)]
    left = [pad - fewer for pad, fewer in zip(padding, less, strict=True)]
    return [max(pad, 0) for pad in left], [max(-pad, 0) for pad in left]


def _named(edit: Edit, new: NewWeights) -> Layer:
    """The layer beside ``edit``'s site that a decision gives new weights."""
    layers = [*edit.site.readers, *filter(None, [edit.site.producer])]
    found = next((layer for layer in layers if layer.nodes == new.nodes), None)
    if found is None:
        raise SpecError(
            f"decisions: {edit.decision.nodes[0]!r} has new weights for {new.output!r}, which does"
            " not stand beside it in this model; make the decisions anew"
        )
    return found
