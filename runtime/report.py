"""What a run cost: a plain record per operator, with the unit in every name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from motet.runtime.device import LayerCounts


@dataclass(frozen=True)
class LayerReport:
    """One operator's run.

    ``seconds`` is measured wall time; on the simulated array it is the simulator's
    own, and ``array`` holds what the machine would need.
    """

    op: str
    kind: str
    onnx_nodes: tuple[str, ...]
    target: str
    macs: int
    seconds: float
    array: LayerCounts | None = None


@dataclass(frozen=True)
class RunReport:
    """One run of one model. ``clock_hz`` is the array's, None without an array."""

    model: str
    target: str
    layers: tuple[LayerReport, ...]
    clock_hz: float | None = None

    @property
    def cycles(self) -> int:
        """Compute cycles of the array, operators one after another, DRAM left out."""
        return sum(layer.array.cycles for layer in self.layers if layer.array)

    @property
    def least_cycles(self) -> int:
        """Cycles with DRAM, at least: each operator's larger bound, one after another."""
        return sum(layer.array.least_cycles for layer in self.layers if layer.array)

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
    def array_seconds(self) -> float | None:
        """Simulated time on the array, at least: ``least_cycles`` over the clock."""
        return self.least_cycles / self.clock_hz if self.clock_hz else None

    @property
    def host_seconds(self) -> float:
        """Measured wall time of the operators that the host ran."""
        return sum(layer.seconds for layer in self.layers if layer.array is None)

    @property
    def dram_bytes(self) -> int:
        """Bytes between DRAM and the array, both ways."""
        return sum(
            layer.array.dram_read_bytes + layer.array.dram_write_bytes
            for layer in self.layers
            if layer.array
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the fields and the totals."""
        totals = {
            "cycles": self.cycles,
            "least_cycles": self.least_cycles,
            "macs": self.macs,
            "array_macs": self.array_macs,
            "array_share": self.array_share,
            "array_seconds": self.array_seconds,
            "host_seconds": self.host_seconds,
            "dram_bytes": self.dram_bytes,
        }
        return asdict(self) | totals
