"""Which steps of a workload read what others write."""

from __future__ import annotations

from motet.targets.systolic.workload.graph import Workload


def predecessors(workload: Workload) -> tuple[frozenset[int], ...]:
    """Of every step the numbers of those whose results it reads, parts of them included."""
    spans = [_span(workload, tensor) for tensor in range(len(workload.tensors))]
    writers: dict[int, list[tuple[int, int, int]]] = {}
    found: list[frozenset[int]] = []
    for number, step in enumerate(workload.steps):
        before = set()
        for tensor in step.reads:
            whole, start, stop = spans[tensor]
            before |= {w for w, low, high in writers.get(whole, ()) if low < stop and start < high}
        found.append(frozenset(before))
        whole, start, stop = spans[step.output]
        writers.setdefault(whole, []).append((number, start, stop))
    return tuple(found)


def _span(workload: Workload, tensor: int) -> tuple[int, int, int]:
    """(whole, first value, stop) of a tensor that may be a part."""
    count = workload.tensors[tensor].elements
    for part in workload.parts:
        if part.tensor == tensor:
            return part.whole, part.offset, part.offset + count
    return tensor, 0, count
