"""Merges convolutions that read the same value into one (exact up to rounding).

Operator merge of IOS (Ding et al., MLSys 2021, section 3): the value is read once, and one large
product keeps a machine busier than several small ones. For convolutions W_i of one family
(``parallel_convolutions``), in the order in which a concatenation reads them, else in their own:

1. W has the output channels of all W_i one after another, every kernel in zeros at its place in
   the largest one; biases likewise, zeros where there is none. One convolution, one bias and one
   activation compute all results.
2. The result of each is a slice of channels: a view where that is one run of bytes (batch 1).
3. A concatenation along the channels that reads slices that lie side by side reads them as one;
   one that reads all of them and nothing else is the merged value itself.

Kernels of one size cost no multiply-accumulates more; a 1x1 in a 3x3 costs nine times its own.
Values of the image that only zeros of W meet count as 0, as long as they are finite. Sums are
those of the convolutions, in another order at most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import IRModule, relax, transform
from tvm.ir import Op

from motet.passes.dead_code import dead_code
from motet.passes.graph import bindings_of, constant_array, map_functions
from motet.passes.names import merged_names, names_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.parallel_convolutions import (
    Family,
    Sibling,
    bias_of,
    families,
    merged_window,
)
from motet.passes.rewrite import Rewriter
from motet.runtime.device import Array

Chooser = Callable[[Family], Iterable[Sequence[Sibling]]]
"""Of a family, sets of siblings without common members that shall be one each."""


def all_of(family: Family) -> list[Family]:
    """The whole family as one."""
    return [family]


def named(groups: Collection[frozenset[str]]) -> Chooser:
    """Those whose ONNX nodes a group of names holds."""

    def choose(family: Family) -> list[list[Sibling]]:
        return [[one for one in family if set(one.names) <= group] for group in groups]

    return choose


def merge_parallel(choose: Chooser = all_of) -> transform.Pass:
    """The pass; sets of fewer than two are left alone."""

    @transform.module_pass(opt_level=0, name="merge_parallel")
    def apply(mod: IRModule, _context: transform.PassContext) -> IRModule:
        return dead_code(map_functions(mod, lambda function: _merged(function, choose)))

    return apply


def _merged(function: relax.Function, choose: Chooser) -> relax.Function:
    orders = _concatenated(function)
    groups = [
        tuple(sorted(group, key=lambda one: (orders.get(one.result, _LAST), one.place)))
        for family in families(function)
        for group in choose(family)
        if len(group) > 1
    ]
    return _Merger(groups).function(function) if groups else function


_LAST = (1 << 60, 0)


def _concatenated(function: relax.Function) -> dict[relax.Var, tuple[int, int]]:
    """Of every operand of a concatenation: which is the first, and its place there."""
    orders: dict[relax.Var, tuple[int, int]] = {}
    for number, binding in enumerate(bindings_of(function)):
        for place, part in enumerate(_parts(binding.value)):
            orders.setdefault(part, (number, place))
    return orders


def _parts(value: relax.Expr) -> list[relax.Expr]:
    """The operands of a concatenation along the channels; none of anything else."""
    if op_name(value) != "relax.concat" or not isinstance(value.args[0], relax.Tuple):
        return []
    axis = value.attrs.axis
    return list(value.args[0].fields) if axis is not None and int(axis) == 1 else []


@dataclass(frozen=True)
class _Run:
    """Channels [begin, end) of the merged value of a group."""

    group: int
    begin: int
    end: int


class _Merger(Rewriter):
    """Puts merged convolutions where the first of a group was; what they replace is left dead."""

    def __init__(self, groups: Sequence[Family]) -> None:
        super().__init__()
        self.groups = groups
        self.first = {min(g, key=lambda one: one.place).variable: n for n, g in enumerate(groups)}
        self.runs: dict[relax.Var, _Run] = {}
        self.names: dict[relax.Var, tuple[str, ...]] = {}
        for number, group in enumerate(groups):
            ends = np.cumsum([0, *(one.channels for one in group)])
            for one, begin, end in zip(group, ends, ends[1:], strict=False):
                self.runs[one.result] = _Run(number, int(begin), int(end))
                self.names[one.result] = one.names
        self.made: dict[int, relax.Var] = {}

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if variable in self.first:
            number = self.first[variable]
            self.made[number] = self.merged(self.groups[number])
        run = self.runs.get(variable)
        if run is not None:
            return self.cut(run, self.names[variable])
        return self.concatenation(variable, value)

    def _binding(self, binding: relax.Binding) -> None:
        """Concatenations as they were, whose operands are known as results of siblings."""
        self.operands = _parts(binding.value)
        super()._binding(binding)

    def concatenation(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        """Rule 3."""
        if not any(operand in self.runs for operand in self.operands):
            return value
        joined: list[relax.Expr | _Run] = []
        for operand, read in zip(self.operands, _parts(value), strict=True):
            run, before = self.runs.get(operand), joined[-1] if joined else None
            if run is None:
                joined.append(read)
            elif isinstance(before, _Run) and (before.group, before.end) == (run.group, run.begin):
                joined[-1] = _Run(run.group, before.begin, run.end)
            else:
                joined.append(run)
        if len(joined) == len(self.operands):
            return value
        names = names_of(value)
        parts = [self.part(one, names) if isinstance(one, _Run) else one for one in joined]
        if len(parts) == 1:
            return parts[0]
        return with_names(relax.op.concat(parts, axis=1), names)

    def part(self, run: _Run, names: tuple[str, ...]) -> relax.Expr:
        """The channels of ``run`` as a variable."""
        cut = self.cut(run, names)
        return cut if isinstance(cut, relax.Var) else self.emit(cut)

    def cut(self, run: _Run, names: tuple[str, ...]) -> relax.Expr:
        """Rule 2; all channels are the merged value itself."""
        whole = self.made[run.group]
        if (run.begin, run.end) == (0, sum(one.channels for one in self.groups[run.group])):
            return whole
        return with_names(relax.op.strided_slice(whole, [1], [run.begin], [run.end]), names)

    def merged(self, group: Family) -> relax.Var:
        """Rule 1."""
        data, made = self.read(group[0].data), None
        for call in merged_calls(group, data):
            made = self.emit(call if made is None else with_first(call, made))
        assert made is not None
        return made


def merged_calls(group: Sequence[Sibling], data: relax.Expr) -> Iterator[relax.Call]:
    """Convolution of ``data``, bias and activation of all of ``group``, as far as there are any.

    Each is to read the one before it: its first operand is ``data``, but for the convolution's.
    """
    yield _convolution(group, data)
    if any(one.bias is not None for one in group):
        values = np.concatenate([_bias(one) for one in group], axis=1)
        called = [one.convolution if one.bias is None else one.bias for one in group]
        yield with_names(
            relax.Call(_ADD, [data, relax.const(values, values.dtype.name)]), merged_names(called)
        )
    activations = [one.activation for one in group if one.activation is not None]
    if activations:
        first = activations[0]
        call = relax.Call(first.op, [data, *first.args[1:]], first.attrs)
        yield with_names(call, merged_names(activations))


_ADD = Op.get("relax.add")


def with_first(call: relax.Call, operand: relax.Expr) -> relax.Call:
    """``call`` of another first operand, without a type."""
    return relax.Call(call.op, [operand, *call.args[1:]], call.attrs, call.ty_args, call.span)


def _convolution(group: Sequence[Sibling], data: relax.Expr) -> relax.Call:
    """One convolution of ``data`` for all of ``group``."""
    first = group[0].convolution
    axes = zip(*(one.axes for one in group), strict=True)
    windows = [merged_window(along) for along in axes]
    weights = _weights(group, [window.kernel for window in windows],
                       [window.offsets for window in windows])  # fmt: skip
    attrs = first.attrs
    make = relax.op.nn.conv1d if len(windows) == 1 else relax.op.nn.conv2d
    call = make(
        data,
        relax.const(weights, weights.dtype.name),
        strides=[int(size) for size in attrs.strides],
        padding=[*(window.before for window in windows), *(window.behind for window in windows)],
        dilation=[int(size) for size in attrs.dilation],
        data_layout=str(attrs.data_layout),
        kernel_layout=str(attrs.kernel_layout),
        out_layout=str(attrs.out_layout),
    )
    return with_names(call, merged_names(one.convolution for one in group))


def _weights(
    group: Sequence[Sibling], kernel: Sequence[int], offsets: Sequence[Sequence[int]]
) -> Array:
    """[channels of all, inputs, *kernel]: every kernel from its offsets on, zeros around it."""
    arrays = [constant_array(one.convolution.args[1]) for one in group]
    known = [array for array in arrays if array is not None]
    total = sum(len(array) for array in known)
    made = np.zeros((total, known[0].shape[1], *kernel), known[0].dtype)
    at = 0
    for array, *place in zip(known, *offsets, strict=True):
        window = [slice(o, o + k) for o, k in zip(place, array.shape[2:], strict=True)]
        made[(slice(at, at + len(array)), slice(None), *window)] = array
        at += len(array)
    return made


def _bias(one: Sibling) -> Array:
    """[1, channels, 1, ..]: zeros where there is none."""
    rank, dtype = int(one.convolution.ty.ndim), str(one.convolution.ty.dtype)
    shape = (1, one.channels, *(1,) * (rank - 2))
    operand = None if one.bias is None else bias_of(one.bias, one.convolution)
    array = None if operand is None else constant_array(operand)
    return np.zeros(shape, dtype) if array is None else array.reshape(shape)
