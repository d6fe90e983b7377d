"""What a systolic array is: frozen structs, every field with its unit.

``description`` reads them from TOML; ``docs/ARRAY.md`` has the keys. A pod is an array of
processing elements with a scratchpad, accumulators and a vector unit of its own; an
interconnect joins the pods' memories with each other and with DRAM.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from motet.targets.systolic.formats import ACCUMULATOR_BYTES, FORMATS

DataflowName = Literal[
    "weight-stationary", "output-stationary", "input-stationary", "spatial-output-stationary"
]
FormatName = Literal["fp32", "bf16", "int8", "int4"]
InterconnectKind = Literal["bus", "crossbar", "butterfly", "benes", "mesh"]


class _Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all structs of a description share."""


class Memory(_Frozen):
    """A memory of a pod.

    bytes: capacity. banks: independent parts; a port is a way into one bank.
    ports: accesses that go on at once. port_bytes: bytes per cycle through one port.
    """

    bytes: int
    banks: int = 1
    ports: int = 2
    port_bytes: int = 64


class VectorUnit(_Frozen):
    """lanes: values per cycle. latency_cycles: from the first value in to the first out."""

    lanes: int
    latency_cycles: int = 4


class PerVector(_Frozen):
    """Per-vector scales of integer formats (VS-Quant): ``scale_bits`` bits for ``length`` values.

    They count in bytes moved and stored and in energy; 0 is none.
    """

    length: int = 0
    scale_bits: int = 0


class Pod(_Frozen):
    """``count`` equal pods: rows x columns processing elements, and their memories."""

    count: int
    rows: int
    columns: int
    scratchpad: Memory
    accumulators: Memory
    vector: VectorUnit
    dataflows: tuple[DataflowName, ...] = ("weight-stationary",)
    formats: tuple[FormatName, ...] = ("fp32",)
    per_vector: PerVector = PerVector()

    def scratchpad_words(self, number_format: str) -> int:
        """Capacity of the scratchpad in words of a format."""
        return FORMATS[number_format].words(self.scratchpad.bytes)

    @property
    def accumulator_words(self) -> int:
        """Capacity of the accumulators in 32-bit words."""
        return self.accumulators.bytes // ACCUMULATOR_BYTES

    @property
    def elements(self) -> int:
        """Processing elements; each does one multiply-accumulate a cycle, in any format."""
        return self.rows * self.columns


class Interconnect(_Frozen):
    """What joins pods with each other and with DRAM.

    kind: bus, crossbar, butterfly (``expansion`` parallel planes), benes (with copy), mesh.
    link_bytes: bytes per cycle of one link. stage_cycles: cycles per stage or hop.
    """

    kind: InterconnectKind = "bus"
    link_bytes: int = 64
    stage_cycles: int = 1
    expansion: int = 1


class Dram(_Frozen):
    """DRAM as bandwidth and latency, with row-buffer locality as a parameter.

    bytes_per_second: peak of all channels together. channels: interleaved by requests.
    latency_cycles: of the array's clock, until the first byte. dma_requests: requests in
    flight at once. row_bytes, row_miss_cycles, row_hit_fraction: every ``row_bytes`` bytes
    that are not a hit cost ``row_miss_cycles`` of the channel more; no refresh.
    """

    bytes_per_second: float
    channels: int = 1
    latency_cycles: int = 100
    dma_requests: int = 16
    row_bytes: int = 2048
    row_miss_cycles: int = 0
    row_hit_fraction: float = 1.0


class Figure(_Frozen):
    """A number with its origin: value (unit in the key), node in nm, volts, and source."""

    value: float
    node_nm: float
    volts: float
    source: str


class Energy(_Frozen):
    """Energy per event, in picojoules, and power at rest, in watts, by component.

    mac_pj: per format. register_pj: per value moved between neighbouring processing elements.
    leakage_watts: of all memories and logic, always; idle_watts: of the clock, per pod.
    """

    mac_pj: dict[FormatName, Figure]
    scratchpad_pj_per_byte: Figure
    accumulator_pj_per_byte: Figure
    vector_pj: Figure
    interconnect_pj_per_byte: Figure
    dram_pj_per_byte: Figure
    leakage_watts: Figure
    idle_watts: Figure
    register_pj: Figure | None = None


class Area(_Frozen):
    """Silicon area in square millimetres, by component."""

    element_mm2: Figure
    scratchpad_mm2_per_mebibyte: Figure
    accumulator_mm2_per_mebibyte: Figure
    vector_lane_mm2: Figure
    interconnect_mm2: Figure


class ArrayDescription(_Frozen):
    """One machine: its pods (of one size or of several), interconnect, DRAM and clock.

    Pods are numbered through in the order of ``pods``.
    """

    name: str
    clock_hz: float
    pods: tuple[Pod, ...]
    dram: Dram
    interconnect: Interconnect = Interconnect()
    energy: Energy | None = None
    area: Area | None = None

    @property
    def pod_count(self) -> int:
        """Pods of all kinds."""
        return sum(pod.count for pod in self.pods)

    @property
    def elements(self) -> int:
        """Processing elements of all pods: multiply-accumulates per cycle at the peak."""
        return sum(pod.count * pod.elements for pod in self.pods)

    @property
    def dram_bytes_per_cycle(self) -> float:
        """Peak DRAM bandwidth in bytes per cycle of the array's clock."""
        return self.dram.bytes_per_second / self.clock_hz

    @property
    def formats(self) -> tuple[FormatName, ...]:
        """Formats that some pod offers, in the order of the pods."""
        return tuple(dict.fromkeys(name for pod in self.pods for name in pod.formats))

    def pod(self, number: int) -> Pod:
        """What pod ``number`` is."""
        for pod in self.pods:
            if number < pod.count:
                return pod
            number -= pod.count
        raise IndexError(f"{self.name} has {self.pod_count} pods")

    def first_of(self, kind: int) -> int:
        """The number of the first pod of the ``kind``-th entry of ``pods``."""
        return sum(pod.count for pod in self.pods[:kind])

    def seconds(self, cycles: float) -> float:
        """Cycles of the array's clock in seconds."""
        return cycles / self.clock_hz if math.isfinite(cycles) else math.inf
