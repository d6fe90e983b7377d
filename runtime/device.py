"""What the VM asks of an accelerator, so that the run time need not know any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerCounts:
    """What one run of an array program costs, all values per run.

    cycles: of the computation, from the first weight row captured to the last output
        registered, with every operand on chip in time.
    macs: useful multiply-accumulates of the layer (no padding of tiles).
    utilisation: macs / (cycles x rows x columns x pods), 0 to 1.
    dram_read_bytes, dram_write_bytes: traffic between DRAM and scratchpads.
    dram_cycles: the least cycles that this traffic needs at the DRAM's bandwidth.
    tiles: stationary tiles (folds) that were loaded.
    """

    cycles: int
    macs: int
    utilisation: float
    dram_read_bytes: int
    dram_write_bytes: int
    dram_cycles: int
    tiles: int

    @property
    def least_cycles(self) -> int:
        """No schedule is quicker: the larger of computation and DRAM traffic."""
        return max(self.cycles, self.dram_cycles)


class Accelerator(Protocol):
    """A device that holds programs and runs them on arrays that the VM lends it."""

    clock_hz: float

    def load(self, name: str, program: bytes) -> None:
        """Take an encoded program; raises ``BundleError`` where it cannot be decoded."""

    def invoke(self, name: str, inputs: Sequence[Array], output: Array) -> None:
        """Run program ``name``: reads ``inputs``, fills ``output`` in place.

        Shapes and dtypes are those the program was compiled for; the arrays are
        C-contiguous views of the VM's memory.
        """

    def counts(self, name: str) -> LayerCounts:
        """Cost of one run of program ``name``; it does not depend on the values."""
