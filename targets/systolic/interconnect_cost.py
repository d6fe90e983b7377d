"""What an interconnect costs, and how long a byte is under way in it, by kind.

From SOSA (Yuzuguler et al., arXiv 2203.11540), for N pods and n = log2 N:

===============  ==============  ============
kind             cost            stages
===============  ==============  ============
bus              1               1
crossbar         N^2             1
butterfly-k      k N log2 N      n + log2 k
Benes with copy  4 N log2 N      4 n - 1
===============  ==============  ============

The cost is the number of links that are driven when every pod moves a byte: I0 x cost x
bytes per pod and cycle is the interconnect's power. SOSA gives no mesh. Here it is the most
nearly square grid of routers with dimension-ordered routing: a byte takes a link for each
hop of the mean distance between two pods and one to leave, and the stages are those of the
longest way.
"""

from __future__ import annotations

import math

from motet.targets.systolic.architecture import ArrayDescription, InterconnectKind


def cost(kind: InterconnectKind, pods: int, expansion: int = 1) -> float:
    """Cost in SOSA's unit; ``expansion`` is a butterfly's k. No pods: ``ValueError``."""
    levels = _levels(pods)
    if kind == "bus":
        return 1.0
    if kind == "crossbar":
        return float(pods) ** 2
    if kind == "butterfly":
        return expansion * pods * levels
    if kind == "benes":
        return 4 * pods * levels
    return pods * (1 + _mean_hops(pods))


def stages(kind: InterconnectKind, pods: int, expansion: int = 1) -> int:
    """Stages (or hops) that a byte passes one after the other, at least 1."""
    levels = math.ceil(_levels(pods))
    if kind in ("bus", "crossbar"):
        return 1
    if kind == "butterfly":
        return max(1, levels + math.ceil(math.log2(expansion)))
    if kind == "benes":
        return max(1, 4 * levels - 1)
    rows, columns = mesh_shape(pods)
    return rows + columns - 1


def links_per_byte(kind: InterconnectKind, pods: int, expansion: int = 1) -> float:
    """Links that are driven for each byte moved: what one byte's energy is a multiple of.

    All pods but those of a bus move a byte at once, so that a byte's share is cost / pods; a
    bus moves one at a time.
    """
    whole = cost(kind, pods, expansion)
    return whole if kind == "bus" else whole / pods


def description_latency(description: ArrayDescription) -> int:
    """Cycles from the first byte into the interconnect to the first byte out."""
    net = description.interconnect
    return stages(net.kind, description.pod_count, net.expansion) * net.stage_cycles


def description_links_per_byte(description: ArrayDescription) -> float:
    """``links_per_byte`` of a description's interconnect."""
    net = description.interconnect
    return links_per_byte(net.kind, description.pod_count, net.expansion)


def mesh_shape(pods: int) -> tuple[int, int]:
    """Rows and columns of the most nearly square grid of exactly ``pods`` routers."""
    rows = next(r for r in range(math.isqrt(pods), 0, -1) if pods % r == 0)
    return rows, pods // rows


def _mean_hops(pods: int) -> float:
    """Mean distance of two pods drawn independently: (s - 1/s) / 3 along a side of s."""
    return sum((side - 1 / side) / 3 for side in mesh_shape(pods))


def _levels(pods: int) -> float:
    if pods < 1:
        raise ValueError(f"an interconnect joins at least one pod, not {pods}")
    return math.log2(pods)
