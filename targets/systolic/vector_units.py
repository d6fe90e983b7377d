"""Which products of vectors a pod computes, and the machine as such a program sees it.

A pod with ``per_vector`` has its multiply-accumulates in columns of vector units, each made of
``length`` rows: R x C of them are R / V x C units (rows that are left over rest), so that peak
arithmetic is that of the plain integer format and the array's skew is shorter. Sums of 64 bits
take two words of the accumulators, and of their ports.
"""

from __future__ import annotations

from typing import Any

import msgspec

from motet.targets.systolic.architecture import ArrayDescription, Pod
from motet.targets.systolic.formats import FORMATS, Format, VectorFormat


def as_computed(description: ArrayDescription, number_format: Format) -> ArrayDescription:
    """The machine in units of ``number_format``: itself for formats of single values.

    Pods that compute in it say so in their ``formats``; their rows are vector units, and their
    accumulators have half the words and half the port where sums are wide. For mappings, checks
    and timing; energy and area are those of ``description``.
    """
    vectors = number_format.vectors
    if vectors is None or number_format.name in description.formats:
        return description
    pods = tuple(
        pod if refusal_of(pod, vectors) else _in_units(pod, number_format)
        for pod in description.pods
    )
    return msgspec.structs.replace(description, pods=pods)


def _in_units(pod: Pod, number_format: Format) -> Pod:
    """``pod`` with vector units for processing elements."""
    assert number_format.vectors is not None
    held: Any = pod.accumulators
    if number_format.vectors.sum_bits > 32:
        half = max(1, held.port_bytes // 2)
        held = msgspec.structs.replace(held, bytes=held.bytes // 2, port_bytes=half)
    formats: Any = (*pod.formats, number_format.name)
    return msgspec.structs.replace(
        pod, rows=pod.rows // number_format.vectors.length, accumulators=held, formats=formats
    )


def refusal(description: ArrayDescription, vectors: VectorFormat) -> str | None:
    """Why no pod computes products of such vectors; None where one does."""
    found = [refusal_of(pod, vectors) for pod in description.pods]
    return None if None in found else f"array {description.name!r}: {found[0]}"


def refusal_of(pod: Pod, vectors: VectorFormat) -> str | None:
    """Why ``pod`` does not compute products of such vectors; None where it does."""
    given = pod.per_vector
    if not given.length:
        return "its pods have no vector units (per_vector)"
    if given.length != vectors.length:
        return f"vectors have {vectors.length} integers, its vector units take {given.length}"
    if pod.rows < given.length:
        return f"its arrays have {pod.rows} rows, a vector unit is made of {given.length}"
    widest = max(FORMATS[name].bits for name in pod.formats if FORMATS[name].is_integer)
    for side, operand in (("weights", vectors.weights), ("activations", vectors.inputs)):
        if operand.bits > widest:
            return f"{side} have {operand.bits} bits, its multipliers {widest}"
        if operand.scale_bits > given.scale_bits:
            return (
                f"scales of {side} have {operand.scale_bits} bits, its vector units take "
                f"{given.scale_bits}"
            )
    return None
