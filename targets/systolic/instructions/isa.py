"""The instruction set: what a record holds, and what each instruction means.

A pod has four engines, each with a queue of its own that it works through in order:

=======  ====================  ====================================================
engine   instructions          works on
=======  ====================  ====================================================
LOAD     LOAD                  DRAM -> scratchpads or accumulators of one or more pods
ARRAY    MATMUL, CONV1D        scratchpad x scratchpad -> accumulators, of its pod
VECTOR   VECTOR                accumulators (and scratchpad) -> accumulators, of its pod
STORE    STORE, TRANSFER       accumulators -> DRAM, or -> scratchpads of one or more pods
=======  ====================  ====================================================

Between queues nothing is ordered but by semaphores: every queue has one, which counts
up only. SIGNAL adds one to its own queue's semaphore when all instructions before it in
that queue are complete; WAIT holds its queue until the ``semaphore`` of queue number
``semaphore`` (``queue_number``) has reached ``value``.

A *tile* of ``rows`` x ``columns`` is dense in its memory, column by column: value
(r, c) at address + c x rows + r. Scratchpad addresses are words of the program's
format, accumulator addresses words of its sums (32 bits; of vectors 32 or 64). A *view*
(``operand``) places a tile in a tensor, in DRAM or resident in scratchpads: value (r, c) is value
(``group``, ``row`` + r,
``column`` + c) of the view.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_OPERAND = 0xFFFF


class Engine(enum.IntEnum):
    """The engines of a pod, in the order of their queues."""

    LOAD = 0
    ARRAY = 1
    VECTOR = 2
    STORE = 3


ENGINES = len(Engine)


class Opcode(enum.IntEnum):
    """What an instruction does; fields that it does not name are 0 (``operand``: NO_OPERAND).

    LOAD: tile [rows, columns] of view ``operand`` at (group, row, column) into the memory of
        pods target_pod ... target_pod + target_pods - 1, at ``address`` of the scratchpad, or
        with ACCUMULATORS at ``accumulator_address`` of the accumulators.
    MATMUL: input tile [rows, depth] times weight tile [depth, columns] at ``second_address``
        to accumulator tile [rows, columns] at ``accumulator_address``. The input tile is at
        ``address``, or with RESIDENT it is read from a tensor in this pod's scratchpad
        through view ``operand`` at (group, row, column). Sums start from what the tile holds
        (ACCUMULATE), from the vector [columns] at ``third_address`` of the accumulators
        (BIAS), or from zero. ``dataflow`` says which of the three operands stays.
    CONV1D: 1-D convolutions of ``rows`` lines, ``columns`` outputs each, ``depth`` taps, output
        x reading inputs x * stride ... x * stride + depth - 1: input tile [rows,
        (columns - 1) * stride + depth] (as MATMUL's), a line's weights in tile [rows, depth]
        at ``second_address``, accumulator tile [rows, columns]. ``value`` is the stride. BIAS
        starts line r from value r of the vector [rows].
        In a format of vectors words are vectors, and MATMUL adds
        round(scale x scale) x (sum of their integers' products) for each pair of them.
    VECTOR: d = clamp(activation(function(d, s))) on the accumulator tile d [rows, columns] at
        ``accumulator_address``; ``Function`` has s. ``low`` and ``high`` clamp.
    STORE: accumulator tile at ``accumulator_address``, clamped, converted to the tensor's
        element type, into view ``operand`` (in DRAM) at (group, row, column).
    TRANSFER: as STORE, into a resident tensor in the scratchpads of pods target_pod ...
        (all of them; its own needs no interconnect). Without a view: dense tile [rows,
        columns] from this pod's scratchpad at ``second_address`` to the targets' at
        ``address``; with ACCUMULATORS from ``accumulator_address`` to the targets'
        ``third_address``.
    SIGNAL, WAIT: see the module.
    """

    LOAD = 1
    MATMUL = 2
    CONV1D = 3
    VECTOR = 4
    STORE = 5
    TRANSFER = 6
    SIGNAL = 7
    WAIT = 8


ENGINE_OF: dict[Opcode, Engine] = {
    Opcode.LOAD: Engine.LOAD,
    Opcode.MATMUL: Engine.ARRAY,
    Opcode.CONV1D: Engine.ARRAY,
    Opcode.VECTOR: Engine.VECTOR,
    Opcode.STORE: Engine.STORE,
    Opcode.TRANSFER: Engine.STORE,
}
"""Where each opcode runs; SIGNAL and WAIT run wherever they stand."""


class Dataflow(enum.IntEnum):
    """What stays in the processing elements."""

    NONE = 0
    WEIGHT_STATIONARY = 1
    OUTPUT_STATIONARY = 2
    INPUT_STATIONARY = 3
    SPATIAL_OUTPUT_STATIONARY = 4


DATAFLOW_NAMES: dict[str, Dataflow] = {
    "weight-stationary": Dataflow.WEIGHT_STATIONARY,
    "output-stationary": Dataflow.OUTPUT_STATIONARY,
    "input-stationary": Dataflow.INPUT_STATIONARY,
    "spatial-output-stationary": Dataflow.SPATIAL_OUTPUT_STATIONARY,
}


class Flag(enum.IntFlag):
    """Bits of ``flags``."""

    NONE = 0
    ACCUMULATE = 1
    BIAS = 2
    RESIDENT = 4
    ACCUMULATORS = 8
    PAD_LOWEST = 16
    """Padding of a view reads as the format's lowest value, not zero (max pooling)."""


class Function(enum.IntEnum):
    """What a VECTOR does with the accumulator tile d and the second source s.

    s of COPY to MAXIMUM: the tile [rows, columns] at ``second_address`` of the scratchpad; with
    ACCUMULATORS of the accumulators; with RESIDENT through view ``operand``.
    s of the others: a vector in the accumulators at ``third_address``.
    ``alpha`` scales s in ADD (d + alpha s).

    COLUMN_SCALE: d[r, c] * s[c]; COLUMN_ADD: d[r, c] + s[c].
    ROW_MAXIMUM, ROW_SUM, ROW_SUM_SQUARES: s[r] = over c of d[r, c] (with ACCUMULATE joined to
        what s held); d stays as it is.
    ROW_SUBTRACT: d[r, c] - s[r]; ROW_MULTIPLY: d[r, c] * s[r].
    REQUANTISE: int32 d to round_half_even(d * s[c]) + value, s fp32 bits, ``value`` the zero
        point as int32; integer formats only. ROW_REQUANTISE: the same with s[r].
    SCALE: d * alpha + value, ``value`` as fp32 bits (layer norm's epsilon, an average's 1/n); in
        integer formats round_half_even(d * alpha) + value as int32.
    DEQUANTISE: sums of products of vectors to fp32: float(d[r, c]) * s[c], two roundings;
        formats of vectors only, where it alone takes integers. s is fp32.
    """

    NONE = 0
    COPY = 1
    ADD = 2
    MULTIPLY = 3
    MAXIMUM = 4
    COLUMN_SCALE = 5
    COLUMN_ADD = 6
    ROW_MAXIMUM = 7
    ROW_SUM = 8
    ROW_SUM_SQUARES = 9
    ROW_SUBTRACT = 10
    ROW_MULTIPLY = 11
    REQUANTISE = 12
    SCALE = 13
    ROW_REQUANTISE = 14
    DEQUANTISE = 15


class Activation(enum.IntEnum):
    """A function of one value; ``alpha`` is its parameter where it has one."""

    NONE = 0
    SIGMOID = 1
    TANH = 2
    ERF = 3
    GELU = 4
    GELU_TANH = 5
    SILU = 6
    HARD_SIGMOID = 7
    HARD_SWISH = 8
    LEAKY_RELU = 9
    ELU = 10
    SOFTPLUS = 11
    MISH = 12
    EXP = 13
    SQRT = 14
    RECIPROCAL = 15
    RSQRT = 16
    ABS = 17
    NEGATE = 18


INSTRUCTION = np.dtype(
    [
        ("opcode", "<u1"),
        ("function", "<u1"),
        ("activation", "<u1"),
        ("flags", "<u1"),
        ("dataflow", "<u1"),
        ("reserved", "<u1"),
        ("operand", "<u2"),
        ("pod", "<u2"),
        ("target_pod", "<u2"),
        ("target_pods", "<u2"),
        ("step", "<u2"),
        ("group", "<u4"),
        ("row", "<u4"),
        ("column", "<u4"),
        ("rows", "<u4"),
        ("columns", "<u4"),
        ("depth", "<u4"),
        ("address", "<u4"),
        ("second_address", "<u4"),
        ("third_address", "<u4"),
        ("accumulator_address", "<u4"),
        ("semaphore", "<u4"),
        ("value", "<u4"),
        ("low", "<f4"),
        ("high", "<f4"),
        ("alpha", "<f4"),
    ]
)
"""One instruction, 76 bytes, little-endian, no padding. ``pod`` is where it runs, ``step`` the
number of the workload's step that it belongs to."""

Instructions = NDArray[Any]
"""A structured array of dtype ``INSTRUCTION``."""


def queue_number(pod: int, engine: Engine) -> int:
    """Number of a queue and of its semaphore."""
    return pod * ENGINES + int(engine)


def empty_instructions(count: int) -> Instructions:
    """``count`` records with the defaults: no operand, no limits, one target pod."""
    made = np.zeros(count, INSTRUCTION)
    made["operand"] = NO_OPERAND
    made["target_pods"] = 1
    made["low"], made["high"] = -np.inf, np.inf
    return made
