"""What a run of a program costs, from its own instruction stream.

* Compute cycles: the sequence of MATMULs by the double-buffered closed form of
  ``closed_form``; a MATMUL of T rows streams T rows through its stationary tile.
* DRAM cycles: the traffic (``traffic``) at peak bandwidth, plus one latency.

The two are stated beside each other: loads overlap computation through the double
buffers, so neither bound contains the other.
"""

from __future__ import annotations

import math

from motet.runtime.device import LayerCounts
from motet.targets.systolic.closed_form import ws_double_buffered_cycles
from motet.targets.systolic.description import ArrayDescription
from motet.targets.systolic.isa import Opcode
from motet.targets.systolic.program import SystolicProgram
from motet.targets.systolic.traffic import dram_bytes


def tile_rows(program: SystolicProgram) -> list[int]:
    """T_k: the rows that each MATMUL streams, in order."""
    instructions = program.instructions
    rows: list[int] = instructions["rows"][instructions["opcode"] == Opcode.MATMUL].tolist()
    return rows


def program_cycles(program: SystolicProgram, description: ArrayDescription) -> int:
    """Cycles from the first weight row captured to the last output registered."""
    return ws_double_buffered_cycles(tile_rows(program), description.rows, description.columns)


def layer_counts(program: SystolicProgram, description: ArrayDescription) -> LayerCounts:
    """Everything that a run of ``program`` costs."""
    tiles = len(tile_rows(program))
    cycles = program_cycles(program, description)
    read, written = dram_bytes(program)
    capacity = cycles * description.rows * description.columns * description.pods
    return LayerCounts(
        cycles=cycles,
        macs=program.macs,
        utilisation=program.macs / capacity if capacity else 0.0,
        dram_read_bytes=read,
        dram_write_bytes=written,
        dram_cycles=dram_cycles(read + written, description),
        tiles=tiles,
    )


def dram_cycles(transferred: int, description: ArrayDescription) -> int:
    """The least cycles in which ``transferred`` bytes pass, the first one's latency included."""
    bytes_per_cycle = description.dram_bytes_per_second / description.clock_hz
    return math.ceil(transferred / bytes_per_cycle) + description.dram_latency_cycles
