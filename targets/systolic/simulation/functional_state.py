"""What compiled code works on in one run of a program: memories, tensors, tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


TENSOR = np.dtype(
    [("address", "<i8"), ("size", "<i8"), ("element", "<i8"), ("is_bf16", "?")], align=True
)
"""A tensor: where in the host's memory its ``size`` values lie (0 where resident), its
``program.Element``, and whether its values are rounded to bf16."""

LOW, HIGH, CONSTANT, PADDING = range(4)
"""Columns of ``RunState.numbers``."""


class RunState(NamedTuple):
    """One run's arrays; n instructions, v views, t tensors.

    Attributes
    ----------
    program: structured [n] of ``isa.INSTRUCTION``. views: structured [v] of ``program.VIEW``.
    tensors: structured [t] of ``TENSOR``.
    numbers: of each instruction as sums [n, 4]: its limits, its ``value``, and what padding of
        its view reads as.
    scratchpads, accumulators: of all pods, one after the other, ``scratchpad_words`` and
        ``accumulator_words`` each; words of ``Format.stored``, sums of ``Format.accumulated``.
    tile: room for the largest input tile that is gathered from a resident tensor (words).
    second: room for the largest second source of a VECTOR (sums).
    segments: int64 [largest tile's rows, 4], see ``gather``.
    """

    program: Array
    views: Array
    tensors: Array
    numbers: Array
    scratchpads: Array
    accumulators: Array
    scratchpad_words: int
    accumulator_words: int
    tile: Array
    second: Array
    segments: Array
