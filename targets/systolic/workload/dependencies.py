"""Which steps of a workload read what others write."""

from __future__ import annotations

from motet.targets.systolic.workload.graph import Workload


def predecessors(workload: Workload) -> tuple[frozenset[int], ...]:
    """Of every step the numbers of those whose results it reads, parts of them included."""
    return tuple(frozenset().union(*made.values()) for made in makers(workload))


def makers(workload: Workload) -> tuple[dict[int, frozenset[int]], ...]:
    """Of every step, by the tensors that it reads, the numbers of the steps that write them.

    Steps that write a part of a tensor, or a whole that it is a part of, are among them.
    """
    spans = _spans(workload)
    writers: dict[int, list[tuple[int, int, int]]] = {}
    found = []
    for number, step in enumerate(workload.steps):
        made = {}
        for tensor in step.reads:
            whole, start, stop = spans[tensor]
            made[tensor] = frozenset(
                w for w, low, high in writers.get(whole, ()) if low < stop and start < high
            )
        found.append(made)
        whole, start, stop = spans[step.output]
        writers.setdefault(whole, []).append((number, start, stop))
    return tuple(found)


def _spans(workload: Workload) -> list[tuple[int, int, int]]:
    """(whole, first value, stop) of every tensor; most are their own wholes."""
    sizes = [tensor.elements for tensor in workload.tensors]
    spans = [(number, 0, size) for number, size in enumerate(sizes)]
    for part in workload.parts:
        spans[part.tensor] = (part.whole, part.offset, part.offset + sizes[part.tensor])
    return spans
