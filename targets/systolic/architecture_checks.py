"""What a description must hold across its keys: the machine can work at all.

Every range of a single key is checked where it is read; here are the rules between keys. A
rule that fails raises ``SpecError`` with file, key, value, what is needed and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from motet.targets.systolic.architecture import (
    MAX_PODS,
    ArrayDescription,
    DataflowName,
    Energy,
    Interconnect,
    Memory,
    Pod,
)
from motet.targets.systolic.architecture_values import wrong
from motet.targets.systolic.formats import ACCUMULATOR_BYTES, FORMATS

TAPS = 3
"""Taps of the least 1-D convolution that a spatially tiled pod must hold."""


class TileBytes(NamedTuple):
    """Bytes of the least full tiles of a dataflow, one of each kind."""

    scratchpad: int
    accumulators: int


def tile_bytes(pod: Pod, dataflow: DataflowName, number_format: str) -> TileBytes:
    """The least tiles that fill an R x C array: what one half of a double buffer takes.

    The product dataflows hold an operand of R x C, stream R vectors along the other side and
    keep R x C sums (the tile of SOSA's rule (rows, rows, columns), arXiv 2203.11540). Spatially
    tiled 1-D convolutions take R lines of C outputs and ``TAPS`` taps.
    """
    rows, columns = pod.rows, pod.columns
    if dataflow == "spatial-output-stationary":
        words = rows * (columns + TAPS - 1) + rows * TAPS
    else:
        words = rows * rows + rows * columns
    return TileBytes(FORMATS[number_format].bytes(words), rows * columns * ACCUMULATOR_BYTES)


def check(description: ArrayDescription, where: str) -> None:
    """Raise ``SpecError`` for the first rule that ``description`` breaks; ``where``: the file."""
    if description.pod_count > MAX_PODS:
        raise wrong(
            where, "pods", description.pod_count, f"all counts together: at most {MAX_PODS:,}"
        )
    for number, pod in enumerate(description.pods):
        _check_pod(pod, f"pods[{number}]", where)
    _check_interconnect(description.interconnect, description.pod_count, where)
    if description.dram_bytes_per_cycle < 1e-6:
        raise wrong(
            where,
            "dram.bytes_per_second",
            description.dram.bytes_per_second,
            "is less than a byte in a million cycles of clock_hz; give it in bytes per second",
        )
    if description.energy:
        _check_energy(description.energy, description, where)


def _check_pod(pod: Pod, path: str, where: str) -> None:
    for name in ("scratchpad", "accumulators"):
        _check_memory(getattr(pod, name), f"{path}.{name}", where)
    if pod.accumulators.bytes % ACCUMULATOR_BYTES:
        raise wrong(
            where,
            f"{path}.accumulators.bytes",
            pod.accumulators.bytes,
            f"must be a multiple of {ACCUMULATOR_BYTES}, the size of a partial sum",
        )
    scales = pod.per_vector
    if bool(scales.length) != bool(scales.scale_bits):
        raise wrong(
            where,
            f"{path}.per_vector.scale_bits",
            scales.scale_bits,
            f"with length = {scales.length}: give both, or 0 for both",
        )
    if scales.length and not any(FORMATS[name].is_integer for name in pod.formats):
        raise wrong(
            where,
            f"{path}.per_vector.length",
            scales.length,
            f"scales belong to integer formats, and {path}.formats has none; add int8 or int4, "
            "or leave per_vector out",
        )
    if scales.length > pod.rows:
        raise wrong(
            where,
            f"{path}.per_vector.length",
            scales.length,
            f"a vector unit is made of {scales.length} of the {pod.rows} rows of a column; give "
            "more rows or a shorter vector",
        )
    _check_capacity(pod, path, where)


def _check_memory(memory: Memory, path: str, where: str) -> None:
    if memory.bytes % memory.banks:
        raise wrong(
            where, f"{path}.banks", memory.banks, f"must divide {path}.bytes = {memory.bytes}"
        )
    if memory.ports > 2 * memory.banks:
        raise wrong(
            where,
            f"{path}.ports",
            memory.ports,
            f"{memory.banks} banks have at most {2 * memory.banks} ports, two each; give more"
            " banks or wider ports",
        )
    if memory.bytes_per_cycle > memory.bytes:
        raise wrong(
            where,
            f"{path}.port_bytes",
            memory.port_bytes,
            f"{memory.ports} ports would move {memory.bytes_per_cycle} bytes a cycle, more than "
            f"the memory's {memory.bytes}; give narrower ports or a larger memory",
        )


def _check_capacity(pod: Pod, path: str, where: str) -> None:
    """Two tiles of each kind must fit, for every dataflow in every format that is offered."""
    for name, index in (("scratchpad", 0), ("accumulators", 1)):
        given = getattr(pod, name).bytes
        needed, dataflow, number_format = max(
            (2 * tile_bytes(pod, dataflow, offered)[index], dataflow, offered)
            for dataflow in pod.dataflows
            for offered in pod.formats
        )
        if given < needed:
            raise wrong(
                where,
                f"{path}.{name}.bytes",
                given,
                f"a {pod.rows}x{pod.columns} array needs at least {needed} bytes for "
                f"double-buffered {dataflow} tiles in {number_format}; give it more, or offer "
                "fewer rows, columns, dataflows or formats",
            )


def _check_interconnect(interconnect: Interconnect, pods: int, where: str) -> None:
    kind = interconnect.kind
    if kind in ("butterfly", "benes") and pods & (pods - 1):
        raise wrong(
            where,
            "interconnect.kind",
            kind,
            f"needs a power of two of pods, and there are {pods}; change the pods' "
            "counts, or choose bus, crossbar or mesh",
        )
    planes = interconnect.expansion
    if planes > 1 and kind != "butterfly":
        raise wrong(
            where,
            "interconnect.expansion",
            planes,
            f"only a butterfly has parallel planes; a {kind} takes 1",
        )
    if planes & (planes - 1):
        raise wrong(where, "interconnect.expansion", planes, "must be a power of two")


def _check_energy(energy: Energy, description: ArrayDescription, where: str) -> None:
    missing = list(_formats_without_figure(energy, description))
    if missing:
        raise wrong(
            where,
            "energy.mac_pj",
            sorted(energy.mac_pj),
            f"the pods offer {', '.join(missing)} too; add [energy.mac_pj.{missing[0]}] with "
            "value, node_nm, volts and source, or do not offer it",
        )
    for key in ("multiply_pj_per_bit_pair", "add_pj_per_bit"):
        if getattr(energy, key) is None and any(p.per_vector.length for p in description.pods):
            raise wrong(
                where,
                f"energy.{key}",
                None,
                "a pod has vector units (per_vector); add it with value, node_nm, volts and "
                "source, or leave per_vector out",
            )


def _formats_without_figure(energy: Energy, description: ArrayDescription) -> Iterator[str]:
    return (name for name in description.formats if name not in energy.mac_pj)
