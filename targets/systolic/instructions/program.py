"""A program of the array: tensors, views of them, and a queue of instructions per engine."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.formats import Format, format_named
from motet.targets.systolic.instructions.addressing import MAX_LOOPS, View
from motet.targets.systolic.instructions.isa import ENGINES, Engine, Instructions

MAX_RANK = 4


class Role(enum.IntEnum):
    """What a tensor is to the program; inputs and outputs are the caller's arrays.

    WEIGHT: an input whose values are known when the program is made.
    INTERNAL: made and used inside the program. An OUTPUT may be read, too, once it is written.
    """

    INPUT = 1
    WEIGHT = 2
    INTERNAL = 3
    OUTPUT = 4


class Element(enum.IntEnum):
    """Element types of tensors. WORD: a word of the program's format.

    In formats of vectors a WORD is a vector of a product's input, a WEIGHT one of its weight.
    SCALE: the scales of the vectors of the tensor before it, which has their integers: one
    tensor to the program, which views never name, two arrays to the host. INT64: exact sums.
    """

    WORD = 1
    FP32 = 2
    INT32 = 3
    WEIGHT = 4
    SCALE = 5
    INT64 = 6


def element_bits(number_format: Format, element: Element) -> int:
    """Bits of a value in DRAM; scales are counted with the words that they belong to."""
    if element is Element.WORD:
        return number_format.input_bits
    if element is Element.WEIGHT:
        return number_format.weight_bits
    return {Element.SCALE: 0, Element.INT64: 64}.get(element, 32)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the program, C-contiguous.

    Attributes
    ----------
    name: the ONNX value or initializer it comes from; may be empty.
    resident: address in words where it lies in the scratchpad of every pod that uses it, or
        None for a tensor in DRAM. Only INTERNAL tensors of WORDs are resident.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    element: Element = Element.WORD
    resident: int | None = None

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class StepInfo:
    """What reports say of a step: its ONNX nodes, kind, multiply-accumulates, dataflow, pods."""

    name: str
    kind: str
    macs: int
    dataflow: str = ""
    pods: int = 1


class Queue:
    """One engine's instructions, a slice of the program's."""

    def __init__(self, number: int, instructions: Instructions) -> None:
        self.number = number
        self.instructions = instructions

    @property
    def pod(self) -> int:
        """The engine's pod."""
        return self.number // ENGINES

    @property
    def engine(self) -> Engine:
        """Which engine of the pod."""
        return Engine(self.number % ENGINES)


@dataclass(frozen=True, eq=False)
class SystolicProgram:
    """One or more steps as instructions for the pods of an array.

    Attributes
    ----------
    format: name of the number format, as ``formats.format_named`` knows it.
    instructions: structured array [count] of dtype ``isa.INSTRUCTION``, queue after queue.
    queue_starts: int64 [4 x pods + 1]; queue q is instructions[queue_starts[q] :
        queue_starts[q + 1]], q = 4 x pod + engine.
    tensors, views: what ``operand`` names is a view; a view names its tensor.
    steps: what ``step`` names.
    """

    format: str
    instructions: Instructions
    queue_starts: NDArray[np.int64]
    tensors: tuple[Tensor, ...]
    views: tuple[View, ...]
    steps: tuple[StepInfo, ...] = field(default=())

    @property
    def number_format(self) -> Format:
        """The format that ``format`` names."""
        return format_named(self.format)

    @property
    def pods(self) -> int:
        """Pods that the program has queues for."""
        return (len(self.queue_starts) - 1) // ENGINES

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates of all steps."""
        return sum(step.macs for step in self.steps)

    @property
    def queues(self) -> Iterator[Queue]:
        """Every queue, in order of their numbers."""
        for number in range(len(self.queue_starts) - 1):
            begin, end = self.queue_starts[number : number + 2]
            yield Queue(number, self.instructions[begin:end])

    @property
    def arguments(self) -> tuple[int, ...]:
        """Numbers of the tensors that a caller gives: inputs and weights, in order."""
        return tuple(i for i, t in enumerate(self.tensors) if t.role in (Role.INPUT, Role.WEIGHT))

    @property
    def results(self) -> tuple[int, ...]:
        """Numbers of the tensors that a caller gets, in order."""
        return tuple(i for i, t in enumerate(self.tensors) if t.role is Role.OUTPUT)

    @cached_property
    def view_table(self) -> NDArray[Any]:
        """The views as records of ``VIEW``, for compiled code."""
        return np.array([_view_record(view, self.tensors) for view in self.views], VIEW)


VIEW = np.dtype(
    [
        ("tensor", "<u4"),
        ("resident", "<i8"),
        ("offset", "<i8"),
        ("group_extent", "<i8"),
        ("group_stride", "<i8"),
        ("row_extent", "<i8", (MAX_LOOPS,)),
        ("row_stride", "<i8", (MAX_LOOPS,)),
        ("column_extent", "<i8", (MAX_LOOPS,)),
        ("column_stride", "<i8", (MAX_LOOPS,)),
        ("padded", "<i8"),
        ("top", "<i8"),
        ("left", "<i8"),
        ("height", "<i8"),
        ("width", "<i8"),
        ("padded_height", "<i8"),
        ("padded_width", "<i8"),
    ]
)
"""A view with its tensor's place. Loops are right-aligned (the last is the fastest), unused
ones (1, 0). ``resident``: the tensor's scratchpad address, -1 in DRAM. ``padded``: whether there
is padding; then ``height`` and ``width`` are the tensor's last two axes."""


def _view_record(view: View, tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
    tensor = tensors[view.tensor]
    height, width = (1, 1, *view.shape)[-2:]
    padded_height, padded_width = (1, 1, *view.padded_shape)[-2:]
    rows, columns = _aligned(view.rows), _aligned(view.columns)
    return (
        view.tensor,
        -1 if tensor.resident is None else tensor.resident,
        view.offset,
        *view.group,
        *rows,
        *columns,
        int(any(view.padding)),
        view.padding[0],
        view.padding[1],
        height,
        width,
        padded_height,
        padded_width,
    )


def _aligned(loops: tuple[Any, ...]) -> tuple[list[int], list[int]]:
    full = [(1, 0)] * (MAX_LOOPS - len(loops)) + [tuple(loop) for loop in loops]
    return [extent for extent, _ in full], [stride for _, stride in full]
