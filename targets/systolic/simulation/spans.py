"""What was busy when: spans of cycles on tracks, from the timing view, for traces and plots."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.isa import ENGINES, Engine, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.timing import Timing

Ints = NDArray[np.int64]
_LINK_END = "link end"
"""Where a link is free again: it passes bytes on before they arrive."""


@dataclass(frozen=True, eq=False)
class Track:
    """What one resource did, spans in order of time.

    Attributes
    ----------
    group, name: of the resource: ("pod 0", "array"), ("DRAM", "channel 0"). lane: which of the
        tracks that show the resource's work at the same time; -1 where there is one.
    begin, end: int64 [spans], cycles. step: int64 [spans], the steps worked for.
    count: int64 [spans], instructions that a span joins: neighbours of one step without a gap.
    """

    group: str
    name: str
    lane: int
    begin: Ints
    end: Ints
    step: Ints
    count: Ints


def tracks(
    program: SystolicProgram, description: ArrayDescription, timing: Timing
) -> Iterator[Track]:
    """All tracks that did anything: engines by pod, DRAM channels, links.

    An engine with several instructions in flight has as many tracks as that takes. Links are the
    bus, or else the ends that messages left and reached.
    """
    found = _Spans(program, description, timing)
    queue = timing.costs["queue"]
    for pod in range(program.pods):
        for engine in Engine:
            mine = (queue == pod * ENGINES + engine) & (found.opcode < Opcode.SIGNAL)
            yield from _engine_tracks(found, f"pod {pod}", engine, mine)
    dram = np.isin(found.opcode, (Opcode.LOAD, Opcode.STORE))
    for channel in range(description.dram.channels):
        mine = dram & (timing.records["other"] == channel)
        yield from found.lanes("DRAM", f"channel {channel}", mine, "first_begin", "first_end")
    yield from _link_tracks(found, program, description, timing)


def _engine_tracks(found: _Spans, pod: str, engine: Engine, mine: Any) -> Iterator[Track]:
    if engine is Engine.ARRAY:
        captured = mine & (found.records["first_end"] > found.records["first_begin"])
        yield from found.lanes(pod, "capture", captured, "first_begin", "first_end")
        yield from found.lanes(pod, "array", mine, "second_begin", "second_end")
    elif engine is Engine.VECTOR:
        yield from found.lanes(pod, "vector", mine, "first_begin", "first_end")
    else:
        yield from found.lanes(pod, engine.name.lower(), mine, "start", "end")


def _link_tracks(
    found: _Spans, program: SystolicProgram, description: ArrayDescription, timing: Timing
) -> Iterator[Track]:
    one, opcode = program.instructions, found.opcode
    moves = np.isin(opcode, (Opcode.LOAD, Opcode.STORE, Opcode.TRANSFER))
    own = (opcode == Opcode.TRANSFER) & (one["target_pods"] == 1)
    moves &= ~(own & (one["target_pod"] == one["pod"]))
    if description.interconnect.kind == "bus":
        yield from found.lanes("interconnect", "bus", moves, "second_begin", _LINK_END)
        return
    for channel in range(description.dram.channels):
        for way, code in (("out of", Opcode.LOAD), ("into", Opcode.STORE)):
            mine = (opcode == code) & (timing.records["other"] == channel)
            name = f"{way} DRAM channel {channel}"
            yield from found.lanes("interconnect", name, mine, "second_begin", _LINK_END)
    first, last = one["target_pod"], one["target_pod"] + one["target_pods"]
    for pod in range(description.pod_count):
        leaves = moves & (opcode != Opcode.LOAD) & (one["pod"] == pod)
        reaches = moves & (opcode != Opcode.STORE) & (first <= pod) & (pod < last)
        for way, mine in (("out of", leaves), ("into", reaches)):
            name = f"{way} pod {pod}"
            yield from found.lanes("interconnect", name, mine, "second_begin", _LINK_END)


class _Spans:
    """Spans of chosen instructions."""

    def __init__(
        self, program: SystolicProgram, description: ArrayDescription, timing: Timing
    ) -> None:
        self.opcode = program.instructions["opcode"]
        self.step = program.instructions["step"].astype(np.int64)
        self.records = timing.records
        held = -(-timing.costs["bytes"] // description.interconnect.link_bytes)
        self.link_ends = timing.records["second_begin"] + np.maximum(held, 1)

    def lanes(
        self, group: str, name: str, which: NDArray[np.bool_], begin: str, end: str
    ) -> Iterator[Track]:
        """Tracks without overlaps of the instructions ``which``, by fields of their records."""
        chosen = np.flatnonzero(which)
        if not len(chosen):
            return
        chosen = chosen[np.argsort(self.records[begin][chosen], kind="stable")]
        begins = self.records[begin][chosen]
        ends = self.link_ends[chosen] if end == _LINK_END else self.records[end][chosen]
        if group == "DRAM":  # transfers that share a cycle
            ends[:-1] = np.minimum(ends[:-1], begins[1:])
        lane = _lanes(begins, ends)
        for number in range(int(lane.max()) + 1):
            mine = lane == number
            label = number if lane.max() else -1
            step = self.step[chosen[mine]]
            yield Track(group, name, label, *_joined(begins[mine], ends[mine], step))


def _lanes(begins: Ints, ends: Ints) -> Ints:
    """The lowest lane that is free, for spans in order of their beginnings."""
    lanes = np.zeros(len(begins), np.int64)
    if (begins[1:] >= ends[:-1]).all():
        return lanes
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    for i, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lanes[i] = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, int(lanes[i])))
    return lanes


def _joined(begin: Ints, end: Ints, step: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Begin, end, step and number of spans, neighbours of one step without a gap joined."""
    first = np.ones(len(begin), np.bool_)
    first[1:] = (begin[1:] > end[:-1]) | (step[1:] != step[:-1])
    at = np.flatnonzero(first)
    last = np.append(at[1:], len(begin)) - 1
    return begin[at], end[last], step[at], last - at + 1
