"""What a run cost: a plain record per operator, with the unit in every name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from motet.runtime.device import ProgramCounts, StepCounts


@dataclass(frozen=True)
class LayerReport:
    """One operator's run: a host kernel, or a program of the array.

    ``seconds`` is measured wall time; on the simulated array it is the simulator's own, and
    ``array`` holds what the machine would need, step by step.
    """

    op: str
    kind: str
    onnx_nodes: tuple[str, ...]
    target: str
    macs: int
    seconds: float
    array: ProgramCounts | None = None


@dataclass(frozen=True)
class RunReport:
    """One run of one model. ``clock_hz`` is the array's, None without an array.

    Programs of the array run one after another; the steps of one program overlap.
    """

    model: str
    target: str
    layers: tuple[LayerReport, ...]
    clock_hz: float | None = None

    @property
    def programs(self) -> tuple[ProgramCounts, ...]:
        """What each program of the array costs, in the order of their calls."""
        return tuple(layer.array for layer in self.layers if layer.array is not None)

    @property
    def steps(self) -> Iterator[StepCounts]:
        """The steps of all programs, in order."""
        return (step for program in self.programs for step in program.steps)

    @property
    def cycles(self) -> int:
        """Cycles of the array with its memories, programs one after another."""
        return sum(program.cycles for program in self.programs)

    @property
    def speed_of_light_cycles(self) -> int:
        """No schedule is quicker: for each program the largest of its three bounds."""
        return sum(program.speed_of_light for program in self.programs)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operators, wherever they ran."""
        return sum(layer.macs for layer in self.layers)

    @property
    def array_macs(self) -> int:
        """Multiply-accumulates that ran on the array."""
        return sum(layer.macs for layer in self.layers if layer.array)

    @property
    def array_share(self) -> float:
        """``array_macs / macs``, 0 to 1; 0 where there is nothing to multiply."""
        return self.array_macs / self.macs if self.macs else 0.0

    @property
    def utilisation(self) -> float:
        """Multiply-accumulates / (cycles x processing elements of all pods), 0 to 1."""
        return sum(p.utilisation * p.cycles for p in self.programs) / max(self.cycles, 1)

    @property
    def array_seconds(self) -> float | None:
        """Simulated time on the array: ``cycles`` over the clock."""
        return self.cycles / self.clock_hz if self.clock_hz else None

    @property
    def host_seconds(self) -> float:
        """Measured wall time of the operators that the host ran."""
        return sum(layer.seconds for layer in self.layers if layer.array is None)

    @property
    def dram_bytes(self) -> int:
        """Bytes between DRAM and the array, both ways."""
        return sum(p.dram_read_bytes + p.dram_write_bytes for p in self.programs)

    @property
    def stall_cycles(self) -> dict[str, int]:
        """Cycles of the pods' arrays by what they did or waited for, summed over pods.

        They add up to the programs' cycles times pods.
        """
        total: Counter[str] = Counter()
        for program in self.programs:
            total.update(program.stalls)
        return dict(total)

    @property
    def energy_joules(self) -> dict[str, float]:
        """Energy by component; empty where the description has no figures."""
        total: dict[str, float] = {}
        for program in self.programs:
            for component, joules in program.energy_joules.items():
                total[component] = total.get(component, 0.0) + joules
        return total

    @property
    def gated_share(self) -> float | None:
        """Share of the products of vectors whose scales' product was 0; None without any."""
        counted = [p for p in self.programs if p.vector_products]
        total = sum(program.vector_products for program in counted)
        return sum(p.gated_products or 0 for p in counted) / total if total else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the fields and the totals."""
        totals = {
            "cycles": self.cycles,
            "speed_of_light_cycles": self.speed_of_light_cycles,
            "macs": self.macs,
            "array_macs": self.array_macs,
            "array_share": self.array_share,
            "utilisation": self.utilisation,
            "array_seconds": self.array_seconds,
            "host_seconds": self.host_seconds,
            "dram_bytes": self.dram_bytes,
            "stall_cycles": self.stall_cycles,
            "energy_joules": self.energy_joules,
            "gated_share": self.gated_share,
        }
        return asdict(self) | totals
