"""What a bundle says of itself: its models, its passes, and where its parts lie.

Stored as JSON at the head of the file (``bundle`` has the layout); equal manifests give
equal bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from motet.runtime.exact_numbers import Rational
from motet.runtime.pod_programs import PodProgram
from motet.runtime.timetable import Timetable

Rate = Annotated[float, Meta(gt=0)]


class Section(msgspec.Struct, frozen=True):
    """Where a part of the file is: byte offset and size, SHA-256 in hexadecimal."""

    name: str
    offset: int
    size: int
    sha256: str


Lane = Literal["int64", "uint64", "int32", "uint32", "int16", "uint16", "int8", "uint8", "float32"]
"""What the bytes of a packed constant are read as."""
Bits = Literal[1, 2, 4, 8, 16, 32]
"""Of a lane in the file."""


class Packing(msgspec.Struct, frozen=True):
    """How a constant lies in fewer bits than kernels read it in (``weight_packing``).

    lane: what its bytes are read as; bits: of a lane in the file; base: added to each, modulo
    the lane's range. kind: what the bits mean.
    """

    lane: Lane
    bits: Bits
    base: int = 0
    kind: Literal["integer", "bfloat16", "float16"] = "integer"


class Weight(msgspec.Struct, frozen=True):
    """A constant: byte offset inside the weights section, numpy dtype name, shape.

    packing: None where its bytes lie there as they are.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]
    packing: Packing | None = None


class Source(msgspec.Struct, frozen=True):
    """The ONNX file a model came from, relative to the bundle where it can be."""

    path: str
    sha256: str


class FixedInput(msgspec.Struct, frozen=True):
    """The value that an input was fixed to when compiling: numpy dtype name, shape, bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Port(msgspec.Struct, frozen=True):
    """An input or output of the ONNX model, as the program's tensors.

    ``count`` tensors of the program stand for it: one for a tensor, one per item for a
    sequence (of element type ``dtype``), none for an optional output that is empty.
    """

    name: str
    kind: Literal["tensor", "sequence", "none"] = "tensor"
    count: int = 1
    dtype: str = ""


class Quota(msgspec.Struct, frozen=True):
    """The most that a model may have of the machine; None: no limit.

    arena_bytes: of each run in flight. threads: of its kernels. pods: of the array. time_share: of
    the time of all workers, 0 to 1 (``time_shares``).
    """

    arena_bytes: int | None = None
    threads: int | None = None
    pods: int | None = None
    time_share: float | None = None


NO_QUOTA = Quota()


class ModelEntry(msgspec.Struct, frozen=True):
    """A model as the specification asked for it.

    wires: own input -> ``model.output``. fixed: inputs of the ONNX model that the bundle has not.
    input_ports, output_ports: how the program's inputs and outputs are grouped, in order;
    empty where all are tensors.
    """

    name: str
    source: Source
    rate_hz: Rate | Rational | None = None
    deadline_ms: float | None = None
    priority: int = 0
    after: tuple[str, ...] = ()
    probability: float = 1.0
    wires: dict[str, str] = {}
    input_ports: tuple[Port, ...] = ()
    output_ports: tuple[Port, ...] = ()
    fixed: dict[str, FixedInput] = {}
    quota: Quota = NO_QUOTA
    phase_ms: float | None = None


class PassRecord(msgspec.Struct, frozen=True):
    """A pass that ran and what it did, in one line.

    details: what it did where, and why not elsewhere, a line each.
    """

    name: str
    summary: str
    details: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True):
    """What the bundle holds; ``sections`` is filled by the writer.

    timetable: which model has which pods when, over a hyperperiod, where one was given.
    pod_programs: those of its slots that are not a model's own, for the whole array.
    """

    name: str
    motet_version: str
    target: str
    cpu: str
    cpu_features: tuple[str, ...]
    threads: int | None
    models: tuple[ModelEntry, ...]
    passes: tuple[PassRecord, ...] = ()
    weights: tuple[Weight, ...] = ()
    sections: tuple[Section, ...] = ()
    timetable: Timetable | None = None
    pod_programs: tuple[PodProgram, ...] = ()
