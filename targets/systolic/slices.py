"""A slice of an array: the bandwidth that comes with some of its pods.

A share of k of P pods comes with k/P of DRAM's bandwidth and of a bus, so that shares that work at
the same time do not slow each other down: what an accelerator that is cut into slices guarantees.
"""

from __future__ import annotations

import math

import msgspec

from motet.targets.systolic.architecture import ArrayDescription


def sliced(description: ArrayDescription, pods: int) -> ArrayDescription:
    """The array with the bandwidth that comes with ``pods`` of its pods; it still has them all."""
    part = pods / description.pod_count
    dram = msgspec.structs.replace(
        description.dram, bytes_per_second=description.dram.bytes_per_second * part
    )
    join = description.interconnect
    if join.kind == "bus":
        join = msgspec.structs.replace(join, link_bytes=max(1, math.floor(join.link_bytes * part)))
    return msgspec.structs.replace(description, dram=dram, interconnect=join)
