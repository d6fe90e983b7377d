"""What compiled code works on in one run of a program: memories, tensors, tables."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]


class RunState(NamedTuple):
    """One run's arrays; n instructions, v views, t tensors.

    Attributes
    ----------
    program: structured [n] of ``isa.INSTRUCTION``. views: structured [v] of ``program.VIEW``.
    scratchpads, accumulators: of all pods, one after the other, ``scratchpad_words`` and
        ``accumulator_words`` each; words of ``Format.stored``, sums of ``Format.accumulated``.
    bits: the accumulators' memory as float32.
    tile: room for the largest input tile that is gathered from a resident tensor (words).
    second: room for the largest second source of a VECTOR (sums).
    segments: int64 [largest tile's rows, 4], see ``gather``.
    addresses, sizes: int64 [t], where tensors in DRAM lie in the host's memory, and their
        values; elements: uint8 [t], ``program.Element``.
    lows, highs: of each instruction, limits as sums [n]. constants: ``value`` as a sum [n].
    padding: sums [n], what a view's padding reads as.
    is_bf16: whether words are rounded to bf16.
    """

    program: Array
    views: Array
    scratchpads: Array
    accumulators: Array
    bits: Array
    scratchpad_words: int
    accumulator_words: int
    tile: Array
    second: Array
    segments: Array
    addresses: Array
    sizes: Array
    elements: Array
    lows: Array
    highs: Array
    constants: Array
    padding: Array
    is_bf16: bool
