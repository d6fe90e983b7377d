"""Convolutions with their bias, as a function has them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm import relax

from motet.passes.affine import of_arithmetic
from motet.passes.graph import bindings_of, constant_array, definitions, use_counts, variables_in
from motet.passes.merging.convolution import Conv, conv
from motet.passes.names import merged_names
from motet.passes.op_kinds import op_name
from motet.runtime.device import Array

CONVOLUTION = "relax.nn.conv2d"


class Graph:
    """A function by its variables.

    values: what each is bound to. readers: the variables whose values read it, in order; a
    branch reads all that it holds. escapes: what the function returns.
    """

    def __init__(self, function: relax.Function) -> None:
        self.values: Mapping[relax.Var, relax.Expr] = definitions(function)
        self.readers: dict[relax.Var, list[relax.Var]] = defaultdict(list)
        counted = use_counts(function)
        for binding in bindings_of(function):
            for variable in dict.fromkeys(variables_in(binding.value)):
                self.readers[variable].append(binding.var)
        self.escapes = {
            variable
            for variable in self.values
            if counted[variable] > sum(_reads(self.values[r], variable)
                                       for r in self.readers[variable])
        }  # fmt: skip

    def only_reader(self, variable: relax.Var) -> relax.Var | None:
        """The one variable whose value reads ``variable``, None where it is not the only use."""
        readers = self.readers[variable]
        return readers[0] if len(readers) == 1 and variable not in self.escapes else None


def _reads(value: relax.Expr, variable: relax.Var) -> int:
    return sum(one.same_as(variable) for one in variables_in(value))


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution of constant weights and the bias that is added to it.

    first: bound to the convolution, ``call``. last: to the result with the bias; the same
    variable where there is none. nodes: ONNX nodes of both.
    """

    first: relax.Var
    last: relax.Var
    call: relax.Call
    nodes: tuple[str, ...]
    conv: Conv

    @property
    def data(self) -> relax.Expr:
        """What the convolution reads."""
        return self.call.args[0]


def layer_at(graph: Graph, first: relax.Var) -> Layer | None:
    """The layer whose convolution ``first`` is bound to; None where its weights vary, or it is
    none over images of plain layout in floating point.
    """
    call = graph.values.get(first)
    if call is None or op_name(call) != CONVOLUTION or not is_plain(call):
        return None
    weight = constant_array(call.args[1])
    if weight is None:
        return None
    bias, last = _bias(graph, first, call)
    calls = [call] if last.same_as(first) else [call, graph.values[last]]
    attrs = call.attrs
    made = conv(
        weight,
        bias,
        [int(s) for s in attrs.strides],
        [int(p) for p in attrs.padding],
        [int(d) for d in attrs.dilation],
        int(attrs.groups),
    )
    return Layer(first, last, call, merged_names(calls), made)


def is_plain(call: relax.Call) -> bool:
    """Whether a convolution is one of floats over NCHW, with weights of its type."""
    attrs = call.attrs
    return (
        str(call.ty.dtype).startswith("float")
        and str(call.args[1].ty.dtype) == str(call.ty.dtype)
        and attrs.data_layout == "NCHW"
        and attrs.kernel_layout == "OIHW"
        and attrs.out_layout in ("", "NCHW")
    )


def _bias(graph: Graph, first: relax.Var, call: relax.Call) -> tuple[Array, relax.Var]:
    """Bias [O] in float64, and the variable that has it added."""
    channels = int(call.args[1].ty.shape.values[0])
    reader = graph.only_reader(first)
    added = graph.values[reader] if reader is not None else None
    if reader is not None and op_name(added) in ("relax.add", "relax.subtract"):
        step = of_arithmetic(added, 1)
        if step is not None and bool((step.scale == 1).all()):
            return np.broadcast_to(step.shift, (channels,)).astype(np.float64), reader
    return np.zeros(channels), first
