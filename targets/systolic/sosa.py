"""SOSA's power model: thermal power and peak throughput of a multi-pod array.

Yuzuguler et al., Scale-out Systolic Arrays (arXiv 2203.11540). With N pods of r x c elements
at f, all working, in watts:

* data: (r + 5 c) N x 2.7 pJ/byte x f. In a cycle a pod reads r bytes of inputs, c of weights
  and 2 c of partial sums, and writes 2 c of them, from and to memory banks of 256 kB.
* compute: r c N x 0.4 pJ x f, an int8 multiply-accumulate of every element.
* interconnect: I0 x cost x (r + 5 c), I0 = 2.875e-5 W per byte and cycle at 1 GHz, with the
  costs of ``interconnect_cost``.

``of_description`` takes these numbers from an array description, so that the model holds for
other machines too; ``sosa-256x32x32`` has SOSA's.
"""

from __future__ import annotations

from dataclasses import dataclass

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture import ArrayDescription, InterconnectKind
from motet.targets.systolic.interconnect_cost import cost

PICO = 1e-12
BUDGET_WATTS = 400.0
"""The thermal design power that SOSA scales throughput to."""


@dataclass(frozen=True)
class PowerFigures:
    """What the model is made of; the defaults are SOSA's.

    mac_pj: picojoules of a multiply-accumulate. memory_pj: per byte read or written.
    link_pj: per byte, cycle and unit of the interconnect's cost (I0 / f).
    """

    clock_hz: float = 1e9
    mac_pj: float = 0.4
    memory_pj: float = 2.7
    link_pj: float = 0.02875


SOSA = PowerFigures()


@dataclass(frozen=True)
class Machine:
    """Pods of rows x columns behind an interconnect; ``expansion`` is a butterfly's k."""

    pods: int
    rows: int
    columns: int
    interconnect: InterconnectKind = "butterfly"
    expansion: int = 2

    @property
    def bytes_per_cycle(self) -> int:
        """What one pod consumes and makes in a cycle: r + 5 c bytes."""
        return self.rows + 5 * self.columns

    @property
    def elements(self) -> int:
        """Processing elements of all pods."""
        return self.pods * self.rows * self.columns


def thermal_watts(machine: Machine, figures: PowerFigures = SOSA) -> dict[str, float]:
    """Watts by component (data, compute, interconnect) with every pod at work."""
    rate = machine.bytes_per_cycle * figures.clock_hz * PICO
    links = cost(machine.interconnect, machine.pods, machine.expansion)
    return {
        "data": rate * machine.pods * figures.memory_pj,
        "compute": machine.elements * figures.clock_hz * PICO * figures.mac_pj,
        "interconnect": rate * links * figures.link_pj,
    }


def peak_tops(machine: Machine, figures: PowerFigures = SOSA) -> float:
    """Tera operations per second at the peak; a multiply-accumulate is two operations."""
    return 2 * machine.elements * figures.clock_hz / 1e12


def scaled_peak_tops(
    machine: Machine, figures: PowerFigures = SOSA, budget_watts: float = BUDGET_WATTS
) -> float:
    """Peak throughput if the machine were scaled, power and throughput alike, to a budget."""
    watts = sum(thermal_watts(machine, figures).values())
    return peak_tops(machine, figures) * budget_watts / watts


def of_description(
    description: ArrayDescription, number_format: str = "int8"
) -> tuple[Machine, PowerFigures]:
    """Machine and figures of a description with pods of one size.

    Raises
    ------
    SpecError: pods of several sizes, no energy figures, or none for ``number_format``.
    """
    energy, net = description.energy, description.interconnect
    if len(description.pods) != 1:
        raise SpecError(f"{description.name}: SOSA's power model takes pods of one size")
    if energy is None:
        raise SpecError(f"{description.name}: the description has no energy figures; add [energy]")
    macs = {str(name): figure.value for name, figure in energy.mac_pj.items()}
    if number_format not in macs:
        raise SpecError(
            f"{description.name}: energy.mac_pj has no {number_format}; it has {', '.join(macs)}"
        )
    pod = description.pods[0]
    machine = Machine(pod.count, pod.rows, pod.columns, net.kind, net.expansion)
    return machine, PowerFigures(
        description.clock_hz,
        macs[number_format],
        energy.scratchpad_pj_per_byte.value,
        energy.interconnect_pj_per_byte_stage.value,
    )
