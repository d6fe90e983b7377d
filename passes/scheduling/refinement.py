"""Colours of operators, refined by their neighbours' (Weisfeiler and Leman 1968).

Operators that some automorphism maps onto each other have equal colours; the converse does not
hold for every graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from motet.passes.scheduling.graph import OperatorGraph, bits

Colours = dict[int, int]
"""By operator, numbered from 0 in an order that comes of the labels and edges alone."""


def colours_of(graph: OperatorGraph, labels: Mapping[int, tuple[Any, ...]]) -> Colours:
    """The coarsest stable colours of the operators that ``labels`` has, by those among them."""
    part = sum(1 << bit for bit in labels)
    near = {
        bit: (
            tuple(bits(graph.predecessors[bit] & part)),
            tuple(bits(graph.successors[bit] & part)),
        )
        for bit in labels
    }
    operators = list(labels)
    colours = _ranked(operators, [labels[bit] for bit in operators])
    while True:
        around = [
            (colours[bit], *(tuple(sorted(colours[b] for b in side)) for side in near[bit]))
            for bit in operators
        ]
        refined = _ranked(operators, around)
        if max(refined.values(), default=0) == max(colours.values(), default=0):
            return refined
        colours = refined


def single_order(graph: OperatorGraph, colours: Colours) -> tuple[int, ...]:
    """The operators in an order that equal branches share: one after another is singled out.

    Of the first colour that several have, the one with the lowest number gets a colour of its
    own, which is refined; until all have their own.
    """
    while True:
        times = Counter(colours.values())
        shared = [colour for colour, count in times.items() if count > 1]
        if not shared:
            return tuple(sorted(colours, key=colours.__getitem__))
        chosen = min(bit for bit, colour in colours.items() if colour == min(shared))
        given = {bit: (colour, bit != chosen) for bit, colour in colours.items()}
        colours = colours_of(graph, given)


def _ranked(operators: Sequence[int], values: Sequence[tuple[Any, ...]]) -> Colours:
    rank = {value: index for index, value in enumerate(sorted(set(values)))}
    return {bit: rank[value] for bit, value in zip(operators, values, strict=True)}
