"""The schedulable operators of an array's workload, and their order.

A unit is coarser than a step: a depthwise convolution, and what has no products (an activation, a
sum, a move), joins the step that alone reads its result, as ``passes/units.py`` does with calls.
So ReLU, depthwise and pointwise convolution are one operator. Concatenations are no steps where
parts of a tensor are written in place; such a tensor with several writers and a reader
of all of it is an operator without steps, a join, which costs nothing: at joins networks are
cut into blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from motet.passes.scheduling.graph import OperatorGraph
from motet.targets.systolic.workload.dependencies import makers
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Convolution

Needs = dict[int, frozenset[int]]
"""What each node reads. A node is a step, by its number, or a join: steps + its tensor's number."""


@dataclass(frozen=True)
class ArrayUnits:
    """steps: by operator name, numbers of the workload's steps in order; none for a join."""

    graph: OperatorGraph
    steps: Mapping[str, tuple[int, ...]]


def units_of(workload: Workload) -> ArrayUnits:
    """The units of ``workload``, each named by the number of its last node."""
    needs = _with_joins(workload)
    last = _last_nodes(workload, needs)
    members: dict[int, list[int]] = {}
    for node in needs:
        members.setdefault(last[node], [])
        if node < len(workload.steps):
            members[last[node]].append(node)
    edges = {
        (str(last[other]), str(last[node]))
        for node, others in needs.items()
        for other in others
        if last[other] != last[node]
    }
    names = [str(node) for node in needs if last[node] == node]
    steps = {str(node): tuple(sorted(numbers)) for node, numbers in members.items()}
    return ArrayUnits(OperatorGraph.from_edges(names, sorted(edges)), steps)


def _with_joins(workload: Workload) -> Needs:
    """Steps and joins in an order in which they can run."""
    count = len(workload.steps)
    found: Needs = {}
    for number, made in enumerate(makers(workload)):
        needs: set[int] = set()
        for tensor, writers in made.items():
            if len(writers) > 1:
                found.setdefault(count + tensor, writers)
                needs.add(count + tensor)
            else:
                needs |= writers
        found[number] = frozenset(needs)
    return found


def _last_nodes(workload: Workload, needs: Needs) -> dict[int, int]:
    """The last node of the unit that each node is in."""
    readers: dict[int, list[int]] = {}
    for node, others in needs.items():
        for other in others:
            readers.setdefault(other, []).append(node)
    count = len(workload.steps)
    last: dict[int, int] = {}
    for node in reversed(list(needs)):
        after = readers.get(node, [])
        joins = (
            len(after) == 1
            and max(node, after[0]) < count
            and _joins_its_reader(workload.steps[node])
        )
        last[node] = last[after[0]] if joins else node
    return last


def _joins_its_reader(step: Step) -> bool:
    layer = step.layer
    return layer.macs == 0 or (isinstance(layer, Convolution) and layer.is_depthwise)
