"""Walking from a value to who reads it: what stands between one convolution and the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from tvm import relax
from tvm_ffi import structural_equal

from motet.passes.graph import definitions, use_counts, variables_in
from motet.passes.merging.axes import Layout, moves_axes, own
from motet.passes.merging.convolution import Conv
from motet.passes.merging.layers import is_convolution, linear
from motet.passes.names import merged_names, names_of
from motet.passes.op_kinds import Kind, kind_of, label, op_name


@dataclass(frozen=True)
class Step:
    """One thing between convolutions.

    convs: what a linear step does, as convolutions in a row; none for a view and for what does
    nothing. activation: whether it is elementwise and not linear; several calls where it is
    written out. result: what it computes. layout: of the result. names: ONNX nodes.
    """

    convs: tuple[Conv, ...]
    activation: bool
    calls: tuple[relax.Call, ...]
    result: relax.Var
    layout: Layout
    names: tuple[str, ...]
    pads: bool = False


@dataclass(frozen=True)
class Walk:
    """What follows a value up to the next convolution, or up to where the way ends.

    next: the variable of that convolution; None where the way ends, and ``reason`` says why.
    shortcut: the sum with another value that ends it, if that does.
    """

    steps: tuple[Step, ...]
    next: relax.Var | None = None
    reason: str = ""
    shortcut: relax.Var | None = None


class Flow:
    """The readers of each value in one block of bindings.

    ``total`` counts all reads in the function: a value that is read more often than its
    readers here do is a result, or is read in a branch.
    """

    def __init__(self, function: relax.Function, block: relax.BindingBlock) -> None:
        self.total: Counter[relax.Var] = use_counts(function)
        self.values = definitions(function)
        self.order = {binding.var: at for at, binding in enumerate(block.bindings)}
        self.readers: dict[relax.Var, list[relax.Var]] = {}
        for binding in block.bindings:
            for read in variables_in(binding.value):
                self.readers.setdefault(read, []).append(binding.var)

    def value(self, variable: relax.Expr) -> relax.Expr | None:
        """What ``variable`` is bound to, in this block or elsewhere."""
        return self.values.get(variable) if isinstance(variable, relax.Var) else None

    def readers_of(self, variable: relax.Var) -> list[relax.Var]:
        """Its readers in this block, each once, in order."""
        return list(dict.fromkeys(self.readers.get(variable, ())))

    def is_read_elsewhere(self, variable: relax.Var) -> bool:
        """Whether it is a result, or read outside this block."""
        return self.total[variable] != len(self.readers.get(variable, ()))

    def walk(self, start: relax.Var) -> Walk:
        """From the result ``start`` of a convolution on."""
        layout = own(start)
        if layout is None:
            return Walk((), reason="its shape is not known")
        steps: list[Step] = []
        variable = start
        while True:
            stop = self._stop(variable, layout)
            if stop is not None:
                return Walk(joined(steps), stop.next, stop.reason, stop.shortcut)
            step = self._linear(variable, layout) or self._activation(variable, layout)
            if step is None:
                return Walk(joined(steps), None, self._why(variable), self._sum(variable))
            steps.append(step)
            variable, layout = step.result, step.layout

    def _stop(self, variable: relax.Var, layout: Layout) -> Walk | None:
        """The next convolution, or why nothing follows."""
        readers = self.readers_of(variable)
        is_output = any(isinstance(self.values[reader], relax.Tuple) for reader in readers)
        if is_output or self.is_read_elsewhere(variable):
            return Walk((), reason="its result is an output of the model, or is read in a branch")
        if len(readers) != 1:
            return None
        value = self.values.get(readers[0])
        if value is None or not is_convolution(value):
            return None
        if not layout.is_own:
            return Walk((), reason=f"axes are moved between it and {_named(value)}")
        return Walk((), next=readers[0])

    def _linear(self, variable: relax.Var, layout: Layout) -> Step | None:
        readers = self.readers_of(variable)
        if len(readers) != 1:
            return None
        value, result = self.values[readers[0]], readers[0]
        if op_name(value) == "relax.nn.batch_norm":
            return self._norm(value, result, layout)
        return linear_step(value, result, layout)

    def _norm(self, norm: relax.Call, variable: relax.Var, layout: Layout) -> Step | None:
        """A batch-norm of which only the first result is read."""
        items = self.readers_of(variable)
        if len(items) != 1 or self.is_read_elsewhere(variable):
            return None
        item = self.values[items[0]]
        if not isinstance(item, relax.TupleGetItem) or item.index != 0:
            return None
        return linear_step(norm, items[0], layout)

    def _activation(self, variable: relax.Var, layout: Layout) -> Step | None:
        """Elementwise calls that read ``variable`` and constants alone, to where they meet."""
        remaining = Counter({variable: self.total[variable]})
        waiting: list[tuple[int, relax.Var]] = []
        seen: set[relax.Var] = set()
        calls: list[relax.Call] = []
        self._push(variable, waiting, seen)
        while waiting:
            result = heappop(waiting)[1]
            value = self.values[result]
            if not self._may_join(value, remaining):
                return None
            calls.append(value)
            remaining.subtract(variables_in(value))
            remaining[result] = self.total[result]
            alone = [v for v, count in remaining.items() if count > 0] in ([result], [])
            if alone and structural_equal(result.ty, variable.ty):
                return Step((), True, tuple(calls), result, layout, merged_names(calls))
            self._push(result, waiting, seen)
        return None

    def _push(
        self, variable: relax.Var, waiting: list[tuple[int, relax.Var]], seen: set[relax.Var]
    ) -> None:
        for reader in self.readers_of(variable):
            if reader not in seen:
                seen.add(reader)
                heappush(waiting, (self.order[reader], reader))

    def _may_join(self, value: relax.Expr, inner: Iterable[relax.Var]) -> bool:
        known = set(inner)
        elementwise = isinstance(value, relax.Call) and kind_of(value) is Kind.ELEMENTWISE
        return elementwise and known.issuperset(variables_in(value))

    def _why(self, variable: relax.Var) -> str:
        """Why nothing could be made of what reads ``variable``."""
        readers = self.readers_of(variable)
        if not readers:
            return "nothing reads its result"
        if len(readers) > 1:
            names = ", ".join(_named(self.values[reader]) for reader in readers[:3])
            return f"its result is read by {len(readers)} operators: {names}"
        value = self.values[readers[0]]
        if len(set(variables_in(value))) > 1:
            return f"its result meets another value in {_named(value)}"
        return f"{_named(value)} stands behind it"

    def _sum(self, variable: relax.Var) -> relax.Var | None:
        """The sum or difference with one other value that alone reads ``variable``."""
        readers = self.readers_of(variable)
        if len(readers) != 1 or self.is_read_elsewhere(variable):
            return None
        value = self.values[readers[0]]
        if op_name(value) not in ("relax.add", "relax.subtract"):
            return None
        return readers[0] if len(set(variables_in(value))) == 2 else None


def linear_step(value: relax.Expr, result: relax.Var, layout: Layout) -> Step | None:
    """A view, or a linear call, whose operand has ``layout``; None for anything else."""
    if not isinstance(value, relax.Call):
        return None
    if moves_axes(value):
        moved = layout.through(value)
        return None if moved is None else Step((), False, (value,), result, moved, names_of(value))
    convs = linear(value, layout)
    if convs is None:
        return None
    behind = _padded(layout, convs, 1)
    return Step(convs, False, (value,), result, behind, names_of(value), _pads(value))


def step_before(value: relax.Call, result: relax.Var, layout: Layout) -> tuple[Step, Layout] | None:
    """The same where ``layout`` is the result's; also the operand's layout."""
    if moves_axes(value):
        before = layout.before(value)
        convs: tuple[Conv, ...] | None = ()
    else:
        convs = linear(value, layout)
        before = None if convs is None else _padded(layout, convs, -1)
    if before is None or convs is None:
        return None
    return Step(convs, False, (value,), result, layout, names_of(value), _pads(value)), before


def _pads(value: relax.Call) -> bool:
    return op_name(value) == "relax.nn.pad"


def _padded(layout: Layout, convs: Iterable[Conv], sign: int) -> Layout:
    """``layout`` with the sizes behind zero padding (1), or in front of it (-1)."""
    sizes = list(layout.sizes)
    for one in convs:
        for axis, more in enumerate(map(sum, zip(one.begin, one.end, strict=True)), 2):
            sizes[axis] = sizes[axis] + sign * more if more else sizes[axis]
    return Layout(layout.groups, tuple(sizes))


def joined(steps: Iterable[Step]) -> tuple[Step, ...]:
    """``steps``, linear ones that come from an activation's own nodes made part of it.

    HardSigmoid is a scale, a shift and a clip: what stands in its place stands for all of them.
    """
    made: list[Step] = []
    for step in steps:
        if made and (step.activation or made[-1].activation) and _share(made[-1], step):
            before = made.pop()
            calls = (*before.calls, *step.calls)
            step = Step((), True, calls, step.result, step.layout, merged_names(calls))
            while made and not made[-1].activation and _share(made[-1], step):
                before = made.pop()
                calls = (*before.calls, *step.calls)
                step = Step((), True, calls, step.result, step.layout, merged_names(calls))
        made.append(step)
    return tuple(made)


def _share(one: Step, other: Step) -> bool:
    return not set(one.names).isdisjoint(other.names)


def _named(value: relax.Expr) -> str:
    """An operator as reports name it: its kind and its ONNX node."""
    if not isinstance(value, relax.Call):
        return "a tuple" if isinstance(value, relax.Tuple) else "a branch"
    names = names_of(value)
    return f"{label(value)} {names[-1]!r}" if names else label(value)
