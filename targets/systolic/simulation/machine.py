"""The description of an array as numbers for compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.architecture import ArrayDescription, Pod
from motet.targets.systolic.formats import format_named
from motet.targets.systolic.instructions.program import SystolicProgram, element_bits
from motet.targets.systolic.vector_units import as_computed

FRACTION_BITS = 20
"""DRAM channels are busy in cycles of 2**20 parts, so that bandwidth is not rounded."""

POD = np.dtype(
    [
        ("rows", "<i8"),
        ("columns", "<i8"),
        ("ports", "<i8"),
        ("port_bytes", "<i8"),
        ("accumulator_bytes", "<i8"),
        ("lanes", "<i8"),
        ("latency", "<i8"),
    ]
)
"""A pod in units of the format. ``accumulator_bytes``: per cycle, of all ports, 4 to a word."""


def pod_table(description: ArrayDescription, number_format: str) -> NDArray[Any]:
    """Every pod of the machine, structured [pods] of dtype ``POD``."""
    machine = as_computed(description, format_named(number_format))
    records = [record for pod in machine.pods for record in [_pod_record(pod)] * pod.count]
    return np.array(records, POD)


def _pod_record(pod: Pod) -> tuple[int, ...]:
    return (
        pod.rows,
        pod.columns,
        pod.scratchpad.ports,
        pod.scratchpad.port_bytes,
        pod.accumulators.ports * pod.accumulators.port_bytes,
        pod.vector.lanes,
        pod.vector.latency_cycles,
    )


def view_bits(program: SystolicProgram) -> NDArray[np.int64]:
    """Bits of a value in memory of the tensor of every view, int64 [views]."""
    made = program.number_format
    bits = [element_bits(made, program.tensors[view.tensor].element) for view in program.views]
    return np.array(bits, np.int64)
