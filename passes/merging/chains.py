"""Finds convolutions that follow each other, by data flow, and what stands between.

A chain is as long as it goes: from a convolution to the next whose operand it alone computes.
Between two of them stand linear steps, views and activations (``flow.Step``); where a chain
ends the ``Walk`` behind its last convolution says why. A ``Span`` is a part of a chain that one
convolution could take the place of: convolutions ``first`` to ``last``, all that is between, what
linear stands right in front and behind, and the shortcut around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from tvm import relax
from tvm_ffi import structural_equal

from motet.passes.graph import blocks_of, variables_in
from motet.passes.merging.axes import Layout, moves_axes, own
from motet.passes.merging.convolution import Conv
from motet.passes.merging.flow import Flow, Step, Walk, step_before
from motet.passes.merging.layers import convolution, is_convolution
from motet.passes.names import names_of
from motet.passes.op_kinds import op_name


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution of the graph: what it is bound to, and as numbers."""

    variable: relax.Var
    call: relax.Call

    @cached_property
    def conv(self) -> Conv:
        """Its weights in float64."""
        return convolution(self.call)

    @property
    def name(self) -> str:
        """Of its ONNX node."""
        return next(iter(names_of(self.call)), self.variable.name)


@dataclass(frozen=True)
class Shortcut:
    """A sum with a value from further up: ``result = chain + scale source``.

    sign: of what the chain computes; -1 where it is subtracted.
    """

    result: relax.Var
    source: relax.Expr
    sign: float
    scale: float
    calls: tuple[relax.Call, ...]


@dataclass(frozen=True, eq=False)
class Chain:
    """Convolutions in a row.

    head: linear steps and views in front of the first, whose operand only they compute;
    source: what the head reads. walks: what follows each convolution; ``walks[-1].reason`` says
    why the chain ends. shortcut: around its end, if a sum ends it. values: what the function's
    variables are bound to.
    """

    model: str
    layers: tuple[Layer, ...]
    head: tuple[Step, ...]
    source: relax.Expr
    walks: tuple[Walk, ...]
    shortcut: Shortcut | None
    values: Mapping[relax.Var, relax.Expr]

    @property
    def links(self) -> tuple[tuple[Step, ...], ...]:
        """The activations between each convolution and the next."""
        inner = self.walks[:-1]
        return tuple(tuple(s for s in walk.steps if s.activation) for walk in inner)

    def runs(self) -> Iterator[range]:
        """Convolutions between which activations stand: the chain cut where none does."""
        start = 0
        for at, link in enumerate((*self.links, ())):
            if not link:
                yield range(start, at + 1)
                start = at + 1

    def front(self, first: int) -> tuple[tuple[Step, ...], relax.Expr]:
        """Linear steps right in front of a convolution that may join it, and what they read."""
        if first == 0:
            return self.head, self.source
        steps = self.walks[first - 1].steps
        begin = len(steps)
        before = self.layers[first - 1].variable
        for at in range(len(steps) - 1, -1, -1):
            if steps[at].activation or at < self._own_tail(first - 1):
                break
            if self._result(first - 1, at - 1)[1]:
                begin = at
        source = steps[begin - 1].result if begin else before
        return steps[begin:], source

    def behind(self, last: int) -> tuple[tuple[Step, ...], relax.Var]:
        """Linear steps right behind a convolution that may join it, and the last one's result."""
        end = self._own_tail(last)
        steps = self.walks[last].steps
        return steps[:end], self._result(last, end - 1)[0]

    def _own_tail(self, layer: int) -> int:
        """How many steps behind a convolution are its own: no activation, no padding."""
        end = 0
        for at, step in enumerate(self.walks[layer].steps):
            if step.activation or step.pads:
                break
            if step.layout.is_own:
                end = at + 1
        return end

    def _result(self, layer: int, step: int) -> tuple[relax.Var, bool]:
        """The value behind a step (-1: the convolution), and whether its axes are its own."""
        if step < 0:
            return self.layers[layer].variable, True
        found = self.walks[layer].steps[step]
        return found.result, found.layout.is_own


def chains_of(function: relax.Function, model: str) -> tuple[Chain, ...]:
    """All chains of a function, single convolutions included, in graph order."""
    found: list[Chain] = []
    for block in blocks_of(function):
        flow = Flow(function, block)
        layers = {b.var: Layer(b.var, b.value) for b in block.bindings if is_convolution(b.value)}
        walks = {variable: flow.walk(variable) for variable in layers}
        follows = {walk.next for walk in walks.values() if walk.next is not None}
        starts = [variable for variable in layers if variable not in follows]
        found += [_chain(flow, layers, walks, start, model) for start in starts]
    return tuple(found)


def _chain(
    flow: Flow,
    layers: dict[relax.Var, Layer],
    walks: dict[relax.Var, Walk],
    start: relax.Var,
    model: str,
) -> Chain:
    run = [start]
    while (following := walks[run[-1]].next) is not None:
        run.append(following)
    head, source = _head(flow, layers[start])
    return Chain(
        model,
        tuple(layers[variable] for variable in run),
        head,
        source,
        tuple(walks[variable] for variable in run),
        _shortcut(flow, walks[run[-1]], run[-1]),
        flow.values,
    )


def _head(flow: Flow, layer: Layer) -> tuple[tuple[Step, ...], relax.Expr]:
    """Backwards over linear calls and views that alone feed ``layer``."""
    operand = layer.call.args[0]
    layout = own(operand)
    steps: list[Step] = []
    ends, source = 0, operand
    while layout is not None and _is_inner(flow, operand):
        value, data = _operand(flow, operand)
        step = None if value is None else step_before(value, operand, layout)
        if step is None:
            break
        steps.append(step[0])
        operand, layout = data, step[1]
        if layout.is_own:
            ends, source = len(steps), operand
    return tuple(reversed(steps[:ends])), source


def _is_inner(flow: Flow, operand: relax.Expr) -> bool:
    """Whether ``operand`` is computed in the block, for one reader there."""
    if not isinstance(operand, relax.Var) or operand not in flow.order:
        return False
    return not flow.is_read_elsewhere(operand) and len(flow.readers_of(operand)) == 1


def _operand(flow: Flow, variable: relax.Var) -> tuple[relax.Call | None, relax.Expr]:
    """The call that computes ``variable``, and its one operand that is no constant."""
    value = flow.values[variable]
    if isinstance(value, relax.TupleGetItem) and value.index == 0:
        value = flow.values.get(value.tuple_value)
    if not isinstance(value, relax.Call):
        return None, variable
    read = list(variables_in(value))
    return (value, read[0]) if len(read) == 1 else (None, variable)


def _shortcut(flow: Flow, walk: Walk, last: relax.Var) -> Shortcut | None:
    """The sum behind the chain, where its other operand is a value or a view of one."""
    if walk.shortcut is None:
        return None
    call = flow.values[walk.shortcut]
    layout, mine = own(last), last
    if walk.steps:
        layout, mine = walk.steps[-1].layout, walk.steps[-1].result
    if layout is None or not structural_equal(call.ty, mine.ty):
        return None
    is_left = call.args[0].same_as(mine)
    other, before = _viewed(flow, call.args[1] if is_left else call.args[0], layout)
    result, behind = _restored(flow, walk.shortcut, layout)
    if result is None or other is None:
        return None
    subtracts = op_name(call) == "relax.subtract"
    sign = -1.0 if subtracts and not is_left else 1.0
    scale = -1.0 if subtracts and is_left else 1.0
    return Shortcut(result, other, sign, scale, (*before, call, *behind))


def _viewed(
    flow: Flow, value: relax.Expr, layout: Layout
) -> tuple[relax.Expr | None, tuple[relax.Call, ...]]:
    """What ``value`` is in the convolution's own axes, and the views that it goes through."""
    calls: list[relax.Call] = []
    while not layout.is_own:
        call = flow.value(value)
        before = layout.before(call) if call is not None and moves_axes(call) else None
        if call is None or before is None:
            return None, ()
        calls.insert(0, call)
        value, layout = call.args[0], before
    return value, tuple(calls)


def _restored(
    flow: Flow, variable: relax.Var, layout: Layout
) -> tuple[relax.Var | None, tuple[relax.Call, ...]]:
    """The value behind ``variable`` that has the convolution's own axes again."""
    calls: list[relax.Call] = []
    while not layout.is_own:
        readers = flow.readers_of(variable)
        if len(readers) != 1 or flow.is_read_elsewhere(variable):
            return None, ()
        call = flow.values[readers[0]]
        behind = layout.through(call) if moves_axes(call) else None
        if behind is None:
            return None, ()
        calls.append(call)
        variable, layout = readers[0], behind
    return variable, tuple(calls)
