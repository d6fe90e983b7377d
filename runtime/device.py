"""What the VM asks of an accelerator, so that the run time need not know any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class StepCounts:
    """What one step (layer) of an array program costs.

    start_cycle, end_cycle: from the first cycle in which an array streams a tile or a vector unit
        works for it (for a step that only moves data: its first instruction's start) to its last
        instruction's end, stores included. Loads ahead of that are not in it; steps overlap, as
        the next may work while this one's last results are stored.
    array_cycles: cycles in which some pod's array worked for it, summed over pods.
    macs: useful multiply-accumulates (no padding of tiles).
    utilisation: macs / (array_cycles x rows x columns of a pod), 0 to 1.
    compute_bound, scratchpad_bound, dram_bound: cycles that peak arithmetic, scratchpad ports
        and DRAM bandwidth each take at least, with nothing else in the way.
    """

    name: str
    kind: str
    dataflow: str
    pods: int
    start_cycle: int
    end_cycle: int
    array_cycles: int
    macs: int
    utilisation: float
    tiles: int
    dram_read_bytes: int
    dram_write_bytes: int
    interconnect_bytes: int
    compute_bound: int
    scratchpad_bound: int
    dram_bound: int

    @property
    def speed_of_light(self) -> int:
        """No schedule is quicker: the largest of the bounds, in cycles."""
        return max(self.compute_bound, self.scratchpad_bound, self.dram_bound)


@dataclass(frozen=True)
class ProgramCounts:
    """What one run of an array program costs.

    It does not depend on the values, but for ``gated_products`` and the energy that they save.

    cycles: from the first instruction's start to the last one's end, memories included.
    utilisation: macs / (cycles x processing elements of all pods), 0 to 1.
    stalls: cycles by what the pods' arrays did or waited for ("busy", and causes), summed over
        all pods: they add up to cycles x pods.
    energy_joules: by component; empty where the description has no energy figures.
    vector_products: pairs of vectors that were multiplied; 0 in formats of single values.
    gated_products: those of them whose scales' product was 0, in the last run; None before one.
    """

    cycles: int
    macs: int
    utilisation: float
    pods: int
    dram_read_bytes: int
    dram_write_bytes: int
    interconnect_bytes: int
    stalls: dict[str, int]
    energy_joules: dict[str, float]
    steps: tuple[StepCounts, ...]
    vector_products: int = 0
    gated_products: int | None = None

    @property
    def speed_of_light(self) -> int:
        """No schedule is quicker: the largest of the three bounds, each summed over the steps."""
        bounds = [(s.compute_bound, s.scratchpad_bound, s.dram_bound) for s in self.steps]
        return max(map(sum, zip(*bounds, strict=True)), default=0)


class Accelerator(Protocol):
    """A device that holds programs and runs them on arrays that the VM lends it."""

    clock_hz: float

    def load(self, name: str, program: bytes) -> None:
        """Take an encoded program; raises ``BundleError`` where it cannot be decoded."""

    def invoke(self, name: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Run program ``name``: reads ``inputs``, fills ``outputs`` in place.

        Dtypes and numbers of values are those the program was compiled for; the arrays are
        C-contiguous views of the VM's memory.
        """

    def counts(self, name: str) -> ProgramCounts:
        """Cost of one run of program ``name``."""
