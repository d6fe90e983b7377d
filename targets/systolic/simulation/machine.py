"""The description of an array as numbers for compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.architecture import ArrayDescription, Pod
from motet.targets.systolic.formats import ACCUMULATOR_BYTES, FORMATS
from motet.targets.systolic.instructions.program import Element, SystolicProgram

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
        ("scale_length", "<i8"),
        ("scale_bits", "<i8"),
    ]
)
"""A pod. ``accumulator_bytes``: per cycle, of all ports. ``scale_length``: 0 without scales."""


def pod_table(description: ArrayDescription, number_format: str) -> NDArray[Any]:
    """Every pod of the machine, structured [pods] of dtype ``POD``."""
    records = [
        record
        for pod in description.pods
        for record in [_pod_record(pod, FORMATS[number_format].is_integer)] * pod.count
    ]
    return np.array(records, POD)


def _pod_record(pod: Pod, has_scales: bool) -> tuple[int, ...]:
    scales = pod.per_vector if has_scales else None
    return (
        pod.rows,
        pod.columns,
        pod.scratchpad.ports,
        pod.scratchpad.port_bytes,
        pod.accumulators.ports * pod.accumulators.port_bytes,
        pod.vector.lanes,
        pod.vector.latency_cycles,
        scales.length if scales else 0,
        scales.scale_bits if scales else 0,
    )


def view_bits(program: SystolicProgram) -> NDArray[np.int64]:
    """Bits of a value in memory of the tensor of every view, int64 [views]."""
    word = program.number_format.bits
    bits = [
        word if program.tensors[view.tensor].element is Element.WORD else ACCUMULATOR_BYTES * 8
        for view in program.views
    ]
    return np.array(bits, np.int64)
