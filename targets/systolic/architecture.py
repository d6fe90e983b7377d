"""What a systolic array is: frozen structs, every field with its unit and range.

``architecture_file`` reads them from TOML; ``docs/ARRAY_DESCRIPTION.md`` has the keys. A pod is
an array of processing elements with a scratchpad, accumulators and a vector unit of its own;
an interconnect joins the pods' memories with each other and with DRAM. The annotations are
the one definition of units, ranges and meaning: the reader checks by them, and the document
is made from them. A constructor does not check.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta

from motet.targets.systolic.architecture_figures import (
    Area,
    Energy,
    Figure,
    FormatName,
    Frozen,
    unit,
)
from motet.targets.systolic.formats import ACCUMULATOR_BYTES, MOST_LENGTH, format_named

__all__ = [
    "Area",
    "ArrayDescription",
    "DataflowName",
    "Dram",
    "Energy",
    "Figure",
    "FormatName",
    "Interconnect",
    "InterconnectKind",
    "Memory",
    "PerVector",
    "Pod",
    "VectorUnit",
]

DataflowName = Literal[
    "weight-stationary", "output-stationary", "input-stationary", "spatial-output-stationary"
]
InterconnectKind = Literal["bus", "crossbar", "butterfly", "benes", "mesh"]

MAX_SIDE = 4096
MAX_PODS = 4096
MAX_MEMORY_BYTES = 2**30

Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]


class Memory(Frozen, frozen=True):
    """A memory of a pod.

    What its ports move together bounds what a cycle can read and write: ``bytes_per_cycle``.
    """

    bytes: Annotated[
        int,
        Meta(ge=1, le=MAX_MEMORY_BYTES, description="Capacity.", extra=unit("bytes")),
    ]
    banks: Annotated[
        int,
        Meta(ge=1, le=4096, description="Equal, independent parts; they divide `bytes`."),
    ] = 1
    ports: Annotated[
        int,
        Meta(ge=1, le=8192, description="Accesses at once; at most two per bank."),
    ] = 2
    port_bytes: Annotated[
        int,
        Meta(
            ge=1,
            le=2**20,
            description="Through one port in one cycle; all ports together take at most `bytes`.",
            extra=unit("bytes/cycle"),
        ),
    ] = 64

    @property
    def bytes_per_cycle(self) -> int:
        """Bytes that all ports together read or write in one cycle."""
        return self.ports * self.port_bytes


class VectorUnit(Frozen, frozen=True):
    """The unit that works on accumulator tiles value by value."""

    lanes: Annotated[
        int,
        Meta(ge=1, le=2**16, description="Values of one operation.", extra=unit("values/cycle")),
    ]
    latency_cycles: Annotated[
        int,
        Meta(
            ge=0,
            le=2**16,
            description="From the first value in to the first out.",
            extra=unit("cycles"),
        ),
    ] = 4


class PerVector(Frozen, frozen=True):
    """Vector units (VS-Quant): `length` multiply-accumulates and two scales make one of them.

    An array of rows x columns is rows / length x columns vector units in a program of vectors.
    """

    length: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_LENGTH,
            description="Values along the reduction that share a scale; 0: no vector units.",
            extra=unit("values"),
        ),
    ] = 0
    scale_bits: Annotated[
        int,
        Meta(
            ge=0,
            le=16,
            description="Of the scales that are multiplied; 0 with length 0.",
            extra=unit("bits"),
        ),
    ] = 0


class Pod(Frozen, frozen=True):
    """Equal pods: arrays of rows x columns processing elements, and their memories."""

    count: Annotated[
        int, Meta(ge=1, le=MAX_PODS, description="Pods of this kind.", extra=unit("pods"))
    ]
    rows: Annotated[
        Side,
        Meta(
            description="Of the array; along the reduction in weight-stationary.",
            extra=unit("processing elements"),
        ),
    ]
    columns: Annotated[
        Side,
        Meta(
            description="Of the array; along the output channels in weight-stationary.",
            extra=unit("processing elements"),
        ),
    ]
    scratchpad: Annotated[
        Memory, Meta(description="Holds tiles of inputs and weights, and resident tensors.")
    ]
    accumulators: Annotated[
        Memory, Meta(description="Hold 32-bit partial sums, and vectors of bias and scale.")
    ]
    vector: Annotated[VectorUnit, Meta(description="Bias, activation, pooling, softmax.")]
    dataflows: Annotated[
        tuple[DataflowName, ...],
        Meta(min_length=1, description="What may stay in the processing elements."),
    ] = ("weight-stationary",)
    formats: Annotated[
        tuple[FormatName, ...],
        Meta(min_length=1, description="Number formats of the multiply-accumulate units."),
    ] = ("fp32",)
    per_vector: Annotated[
        PerVector, Meta(description="Units for vectors of integers with a scale each.")
    ] = PerVector()

    def scratchpad_words(self, number_format: str) -> int:
        """Capacity of the scratchpad in words of a format."""
        return format_named(number_format).words(self.scratchpad.bytes)

    @property
    def accumulator_words(self) -> int:
        """Capacity of the accumulators in 32-bit words."""
        return self.accumulators.bytes // ACCUMULATOR_BYTES

    @property
    def elements(self) -> int:
        """Processing elements; each does one multiply-accumulate a cycle, in any format."""
        return self.rows * self.columns


class Interconnect(Frozen, frozen=True):
    """What joins pods with each other and with DRAM."""

    kind: Annotated[
        InterconnectKind,
        Meta(
            description="`benes` is with copy. A butterfly and a Benes need a power of two of pods."
        ),
    ] = "bus"
    link_bytes: Annotated[
        int,
        Meta(ge=1, le=2**20, description="Width of one link.", extra=unit("bytes/cycle")),
    ] = 64
    stage_cycles: Annotated[
        int,
        Meta(ge=0, le=2**16, description="Latency of a stage or hop.", extra=unit("cycles")),
    ] = 1
    expansion: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Parallel planes of a butterfly (its k), a power of two; 1 for others.",
        ),
    ] = 1


class Dram(Frozen, frozen=True):
    """DRAM as bandwidth and latency, with row-buffer locality as a parameter; no refresh."""

    bytes_per_second: Annotated[
        float,
        Meta(
            ge=1,
            le=1e18,
            description="Peak of all channels together, both ways.",
            extra=unit("bytes/s"),
        ),
    ]
    channels: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="Equal channels; addresses are interleaved: a request uses all.",
        ),
    ] = 1
    latency_cycles: Annotated[
        int,
        Meta(
            ge=0,
            le=2**20,
            description="Of the array's clock, until the first byte.",
            extra=unit("cycles"),
        ),
    ] = 100
    dma_requests: Annotated[
        int, Meta(ge=1, le=2**16, description="Requests in flight at once.", extra=unit("requests"))
    ] = 16
    row_bytes: Annotated[
        int, Meta(ge=1, le=2**20, description="A row of the DRAM.", extra=unit("bytes"))
    ] = 2048
    row_miss_cycles: Annotated[
        int,
        Meta(
            ge=0,
            le=2**20,
            description="What a channel loses at a row that is not open.",
            extra=unit("cycles"),
        ),
    ] = 0
    row_hit_fraction: Annotated[
        float,
        Meta(ge=0, le=1, description="Share of the rows that are open already."),
    ] = 1.0


class ArrayDescription(Frozen, frozen=True):
    """One machine: its pods (of one size or of several), interconnect, DRAM and clock.

    Pods are numbered through in the order of ``pods``.
    """

    name: Annotated[
        str, Meta(min_length=1, description="What reports and `--target` call the machine.")
    ]
    clock_hz: Annotated[
        float, Meta(ge=1, le=1e12, description="The clock of all pods.", extra=unit("Hz"))
    ]
    pods: Annotated[
        tuple[Pod, ...], Meta(min_length=1, description="One table for each kind of pod.")
    ]
    dram: Annotated[Dram, Meta(description="The memory outside.")]
    interconnect: Annotated[Interconnect, Meta(description="What joins pods and DRAM.")] = (
        Interconnect()
    )
    energy: Annotated[
        Energy | None, Meta(description="Energy per event; reports have none where absent.")
    ] = None
    area: Annotated[
        Area | None, Meta(description="Area by component; reports have none where absent.")
    ] = None

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
