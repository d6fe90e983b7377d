"""What counts as an operator for scheduling: the units of an entry function.

Read from a function of high-level calls, before fusion. Units are coarser than the kernels
that ``fuse`` makes; nothing is rewritten here. The rules, in this order:

1. A convolution, matrix product, pooling, normalisation, reduction, or what moves values is a
   unit, and so is a concatenation. Views (reshape and its kin) are looked through.
2. An elementwise call of one computed value joins the unit that computes it where nothing
   else reads it: bias, activation, folded batch-norm. So do several that come together
   again, as in x * clip(x + 3). A concatenation, whose operands are written into place without
   a kernel, takes in behind it only what alone reads it and is read by several, so that a
   block still ends in one operator where their equal activations are computed once.
3. A depthwise convolution joins the pointwise one that alone reads it.
4. An elementwise call of one value that others read too joins the product that alone reads
   it: ReLU and convolution are one unit, so with rule 3 ReLU, depthwise and pointwise are.
5. A sum (any elementwise call of several computed values) with one reader is a part of that
   reader; one with several is a unit. So is one with one reader that joins a block, as
   ``scheduling.blocks`` cuts them: every path through the network passes through it.
6. A product that alone reads such a sum, and that several read, ends the block in the sum's
   place: but for the block's end the two were one operator.

The rules are those by which the operators of IOS's networks are counted (Ding et al. 2021,
section 5); they hold for any graph. What is left of elementwise work, as an activation of a
concatenation before a pooling, is a unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import relax

from motet.passes.names import merged_names, names_of
from motet.passes.op_kinds import label
from motet.passes.scheduling.blocks import STATE_LIMIT, cut_blocks
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.unit_merging import Part, merged
from motet.passes.unit_signature import signature_of
from motet.passes.unit_values import Role, Values, values_of

CallKey = tuple[tuple[str, ...], str]
"""What tells a call apart in all forms of its model: its ONNX nodes and its operator's name."""


@dataclass(frozen=True)
class Unit:
    """A schedulable operator.

    name: ``<model>/<number>``, unique in the model, in an order in which the units can run.
    kind: its calls joined by "+", as reports have it. onnx_nodes: the nodes that it came from.
    bindings: of the entry function, in its order, views between them included; the last one
        is the result. signature: equal for units that compute alike. role: of what names it.
    is_sum: whether it is elementwise work on the results of several units. title: how reports
        name it, which is the ONNX node of what names it. kept_on_host: calls that placement
        leaves there though the array takes them (``unit_placement``).
    """

    name: str
    kind: str
    onnx_nodes: tuple[str, ...]
    bindings: tuple[relax.Binding, ...]
    signature: str
    role: Role
    is_sum: bool
    title: str
    kept_on_host: frozenset[CallKey] = frozenset()


@dataclass(frozen=True)
class Units:
    """The units of an entry function and their order.

    graph: operators are named as units are. units: as ``graph`` numbers them.
    """

    graph: OperatorGraph
    units: tuple[Unit, ...]

    @property
    def by_name(self) -> Mapping[str, Unit]:
        """The units by name."""
        return {unit.name: unit for unit in self.units}

    def blocks(self, state_limit: int = STATE_LIMIT) -> tuple[OperatorGraph, ...]:
        """The blocks that are scheduled one by one."""
        return cut_blocks(self.graph, state_limit)

    def named(self, names: Sequence[str]) -> tuple[Unit, ...]:
        """The units of these names, as a block or a stage lists them."""
        units = self.by_name
        return tuple(units[name] for name in names)


def units_of(function: relax.Function, model: str) -> Units:
    """The units of an entry function; ``model`` is the first half of their names."""
    values = values_of(function)
    parts = merged(values.computed)
    held = _bindings(values, parts)
    units = tuple(
        _unit(f"{model}/{n}", part, values.computed[part.anchor].binding, bindings)
        for n, (part, bindings) in enumerate(zip(parts, held, strict=True))
    )
    names = [unit.name for unit in units]
    edges = [(names[read], names[n]) for n, part in enumerate(parts) for read in part.reads]
    joins = [name for name, part in zip(names, parts, strict=True) if _ends_block(part, parts)]
    return Units(OperatorGraph.from_edges(names, edges, joins), units)


def _ends_block(part: Part, parts: Sequence[Part]) -> bool:
    """Rule 6."""
    if part.role is not Role.PRODUCT or len(part.reads) != 1 or len(part.readers) < 2:
        return False
    (before,) = (parts[number] for number in part.reads)
    return before.is_sum and len(before.readers) == 1 and not before.is_result


def _unit(name: str, part: Part, anchor: relax.Binding, bindings: Sequence[relax.Binding]) -> Unit:
    calls = [binding.value for binding in bindings]
    return Unit(
        name=name,
        kind="+".join(filter(None, map(_label, calls))),
        onnx_nodes=merged_names(calls),
        bindings=tuple(bindings),
        signature=signature_of(bindings),
        role=part.role,
        is_sum=part.is_sum,
        title=next(reversed(names_of(anchor.value)), name),
    )


def _label(value: relax.Expr) -> str:
    """What a call is called; a condition is an ``if``, and views have no name."""
    if isinstance(value, relax.If):
        return "if"
    return label(value) if isinstance(value, relax.Call) else ""


def _bindings(values: Values, parts: Sequence[Part]) -> list[list[relax.Binding]]:
    """The bindings of each part in order; a view is a part's where only the part reads it."""
    owner = {number: at for at, part in enumerate(parts) for number in part.members}
    results = {part.members[-1] for part in parts}
    held: list[list[relax.Binding]] = [[] for _ in parts]
    for entry in values.bindings:
        if isinstance(entry, int):
            held[owner[entry]].append(values.computed[entry].binding)
        elif entry.of and results.isdisjoint(entry.of):
            held[owner[entry.of[0]]].append(entry.binding)
    return held
