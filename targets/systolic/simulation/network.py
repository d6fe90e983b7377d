"""Contended links of the interconnect: who waits for whom, and how long a message is under way.

A message holds every link of its way for ceil(bytes / link_bytes) cycles (cut-through), the
first byte taking ``latency`` cycles more. Ways are asked for in order of time, and a message
that finds a link taken waits for all of its links together.

=========  =====================================================================================
bus        one link for all
crossbar   a link out of every source and one into every destination
benes      with copy: rearrangeable, so that only its ends contend, as a crossbar's
butterfly  ``expansion`` planes of ceil(log2 pods) stages; stage i ends on the wire whose top
           i + 1 bits are the destination's and whose others are the source's (destination-tag
           routing); the plane that is free first is taken
mesh       most nearly square, row by row; first along x, then along y; no copies
=========  =====================================================================================

DRAM channels have ports of their own at the ends of bus, crossbar and Benes, evenly spread
over pods in butterfly and mesh. All but the mesh deliver one message to several pods in one pass.

Links are numbered: out of every pod, out of every channel, then into each of them in the same order
(crossbar, Benes); by plane, then stage, then wire (butterfly); by node east, west, south, north,
then out of every channel, then into every one (mesh).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.interconnect_cost import description_latency, mesh_shape
from motet.targets.systolic.simulation.compiled import kernel

BUS, ENDS, BUTTERFLY, MESH = range(4)
_SHAPES = {"bus": BUS, "crossbar": ENDS, "benes": ENDS, "butterfly": BUTTERFLY, "mesh": MESH}

NETWORK = np.dtype(
    [
        ("shape", "<i8"),
        ("pods", "<i8"),
        ("channels", "<i8"),
        ("planes", "<i8"),
        ("stages", "<i8"),
        ("side", "<i8"),
        ("links", "<i8"),
        ("link_bytes", "<i8"),
        ("latency", "<i8"),
        ("hop", "<i8"),
    ]
)
"""``stages`` of a butterfly; ``side``: nodes in a row of a mesh; ``latency`` in cycles, of a
message but for a mesh, whose hops take ``hop`` cycles each."""


def network_record(description: ArrayDescription) -> NDArray[Any]:
    """The interconnect as one record of ``NETWORK``, [1]."""
    join, pods, channels = (
        description.interconnect,
        description.pod_count,
        description.dram.channels,
    )
    levels = math.ceil(math.log2(pods))
    planes = join.expansion if join.kind == "butterfly" else 1
    side = mesh_shape(pods)[1]
    shape = _SHAPES[join.kind]
    links = {
        BUS: 1,
        ENDS: 2 * (pods + channels),
        BUTTERFLY: planes * max(levels, 1) * 2**levels,
        MESH: 4 * pods + 2 * channels,
    }[shape]
    fields = (pods, channels, planes, levels, side, links, join.link_bytes)
    return np.array(
        [(shape, *fields, description_latency(description), join.stage_cycles)], NETWORK
    )


@kernel
def send(
    network: Any, links: Any, source: int, first: int, count: int, now: int, size: int
) -> tuple[int, int, int]:
    """Book the way of ``size`` bytes from end ``source`` to ends first ... first + count - 1.

    Ends: pods, then DRAM channels. ``links``: int64 [links, 2], when each is free and how long it
    was busy. Returns when the first byte enters, when the last one has entered, and the latency.
    """
    cycles = max(-(-size // network.link_bytes), 1)
    if network.shape == MESH:
        return _send_mesh(network, links, source, first, count, now, cycles)
    if network.shape == BUTTERFLY:
        start = _send_butterfly(network, links, source, first, count, now, cycles)
    elif network.shape == ENDS:
        start = _send_ends(network, links, source, first, count, now, cycles)
    else:
        start = max(now, links[0, 0])
        _hold(links, 0, start, cycles)
    return start, start + cycles, network.latency


@kernel
def _hold(links: Any, link: int, start: int, cycles: int) -> None:
    links[link, 0] = start + cycles
    links[link, 1] += cycles


@kernel
def _send_ends(
    network: Any, links: Any, source: int, first: int, count: int, now: int, cycles: int
) -> int:
    into = network.pods + network.channels
    start = max(now, links[source, 0])
    for target in range(first, first + count):
        if target != source:
            start = max(start, links[into + target, 0])
    _hold(links, source, start, cycles)
    for target in range(first, first + count):
        if target != source:
            _hold(links, into + target, start, cycles)
    return int(start)


@kernel
def _place(network: Any, end: int) -> int:
    """The pod beside which an end lies."""
    if end < network.pods:
        return end
    return int((end - network.pods) * network.pods // network.channels)


@kernel
def _send_butterfly(
    network: Any, links: Any, source: int, first: int, count: int, now: int, cycles: int
) -> int:
    stages = max(network.stages, 1)
    wires = 1 << network.stages
    origin = _place(network, source)
    best, plane = -1, 0
    for candidate in range(network.planes):
        free = now
        for target in range(first, first + count):
            if target != source:
                goal = _place(network, target)
                for stage in range(stages):
                    wire = _wire(network.stages, stage, origin, goal)
                    free = max(free, links[(candidate * stages + stage) * wires + wire, 0])
        if best < 0 or free < best:
            best, plane = free, candidate
        if best == now:
            break
    for target in range(first, first + count):
        if target != source:
            goal = _place(network, target)
            for stage in range(stages):
                link = (plane * stages + stage) * wires + _wire(network.stages, stage, origin, goal)
                if links[link, 0] != best + cycles:
                    _hold(links, link, best, cycles)
    return best


@kernel
def _wire(stages: int, stage: int, origin: int, goal: int) -> int:
    """The wire after ``stage``: its top stage + 1 bits are the goal's."""
    kept = max(stages - stage - 1, 0)
    return (goal >> kept << kept) | (origin & ((1 << kept) - 1))


@kernel
def _send_mesh(
    network: Any, links: Any, source: int, first: int, count: int, now: int, cycles: int
) -> tuple[int, int, int]:
    """One message after the other: a mesh does not copy."""
    earliest, last, latency = -1, now, 0
    for target in range(first, first + count):
        if target == source:
            continue
        start, hops = _mesh_way(network, links, source, target, now, 0)
        _mesh_way(network, links, source, target, start, cycles)
        if earliest < 0:
            earliest = start
        if start + cycles + hops * network.hop >= last + latency:
            last, latency = start + cycles, hops * network.hop
        now = start + cycles
    return max(earliest, 0), last, latency


@kernel
def _mesh_way(
    network: Any, links: Any, source: int, target: int, now: int, cycles: int
) -> tuple[int, int]:
    """When the links of a way are free, and their number; books them where ``cycles`` > 0."""
    side, start, hops = network.side, now, 0
    at, goal = _place(network, source), _place(network, target)
    extra = 3 * network.pods
    if source >= network.pods:
        start = _take(links, extra + source, start, cycles)
        hops += 1
    while at != goal:
        x, y = at % side, at // side
        if x != goal % side:
            way, step = (0, 1) if x < goal % side else (1, -1)
        else:
            way, step = (2, side) if y < goal // side else (3, -side)
        start = _take(links, 4 * at + way, start, cycles)
        at += step
        hops += 1
    if target >= network.pods:
        start = _take(links, extra + network.channels + target, start, cycles)
        hops += 1
    return start, hops


@kernel
def _take(links: Any, link: int, start: int, cycles: int) -> int:
    if cycles > 0:
        _hold(links, link, start, cycles)
        return start
    return int(max(start, links[link, 0]))
