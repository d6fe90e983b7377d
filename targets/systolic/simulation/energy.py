"""Energy of a run: events times energy per event, leakage times seconds, idle clock by cycle.

Each figure is the description's, with node, voltage and source; nothing is scaled here.
"""

from __future__ import annotations

from motet.targets.systolic.architecture import ArrayDescription, Energy
from motet.targets.systolic.formats import VectorFormat, format_named
from motet.targets.systolic.interconnect_cost import description_links_per_byte
from motet.targets.systolic.simulation.area import MEBIBYTE
from motet.targets.systolic.simulation.events import EventCounts

PICO = 1e-12
COMPONENTS = (
    "mac",
    "scratchpad",
    "accumulators",
    "vector",
    "interconnect",
    "dram",
    "registers",
    "leakage",
    "idle",
)


def energy_joules(
    events: EventCounts, description: ArrayDescription, seconds: float
) -> dict[str, float]:
    """Joules by component (``COMPONENTS``) of ``events`` that took ``seconds``.

    Empty where the description has no energy figures. ``registers`` is 0 where the figure of a
    multiply-accumulate includes them.
    """
    energy = description.energy
    if energy is None:
        return {}
    links = description_links_per_byte(description)
    at_rest = {name: watts * seconds for name, watts in _rest(energy, description).items()}
    return {name: pj * PICO for name, pj in _event_pj(events, energy, links).items()} | at_rest


def watts_at_rest(description: ArrayDescription) -> float:
    """Leakage and idle clock of an array that does nothing; 0 without energy figures."""
    return sum(_rest(description.energy, description).values()) if description.energy else 0.0


def _rest(energy: Energy, description: ArrayDescription) -> dict[str, float]:
    """Watts by component, whatever the array does."""
    idle = _idle_pj_per_cycle(energy, description) * PICO * description.clock_hz
    return {"leakage": _leakage_watts(energy, description), "idle": idle}


def _leakage_watts(energy: Energy, description: ArrayDescription) -> float:
    memories = sum(
        pod.count * (pod.scratchpad.bytes + pod.accumulators.bytes) for pod in description.pods
    )
    return (
        description.elements * energy.leakage_watts_per_element.value
        + memories / MEBIBYTE * energy.leakage_watts_per_mebibyte.value
    )


def _idle_pj_per_cycle(energy: Energy, description: ArrayDescription) -> float:
    return description.elements * energy.idle_pj_per_element_cycle.value


def _event_pj(events: EventCounts, energy: Energy, links: float) -> dict[str, float]:
    scratchpad = events.scratchpad_read_bytes + events.scratchpad_write_bytes
    accumulators = events.accumulator_read_bytes + events.accumulator_write_bytes
    dram = events.dram_read_bytes + events.dram_write_bytes
    register = energy.register_pj_per_byte
    return {
        "mac": sum(count * _mac_pj(energy, name) for name, count in events.macs.items())
        - sum(events.gated_products * _gated_pj(energy, name) for name in events.macs),
        "scratchpad": scratchpad * energy.scratchpad_pj_per_byte.value,
        "accumulators": accumulators * energy.accumulator_pj_per_byte.value,
        "vector": events.vector_operations * energy.vector_pj.value,
        "interconnect": events.interconnect_bytes
        * links
        * energy.interconnect_pj_per_byte_stage.value,
        "dram": dram * energy.dram_pj_per_byte.value,
        "registers": events.register_bytes * register.value if register else 0.0,
    }


def _mac_pj(energy: Energy, name: str) -> float:
    """Of a multiply-accumulate; of vectors, its share of the unit's work on two of them."""
    vectors = format_named(name).vectors
    if vectors is not None:
        return sum(vector_unit_pj(energy, vectors)) / vectors.length
    return next(figure.value for key, figure in energy.mac_pj.items() if key == name)


def _gated_pj(energy: Energy, name: str) -> float:
    vectors = format_named(name).vectors
    return 0.0 if vectors is None else vector_unit_pj(energy, vectors)[1]


def vector_unit_pj(energy: Energy, vectors: VectorFormat) -> tuple[float, float]:
    """What a unit spends on two vectors: on the product of their scales; on all behind it.

    Behind it are V products of integers, V - 1 additions of them, a product of that sum and the
    scale, and an addition to the accumulator: what a scale product of 0 gates. Multipliers by the
    pairs of bits of their operands, adders by the bits of their result.
    """
    pair, bit = energy.multiply_pj_per_bit_pair, energy.add_pj_per_bit
    assert pair is not None
    assert bit is not None, "an array with vector units has figures of their parts"
    weights, inputs = vectors.weights, vectors.inputs
    scales = weights.scale_bits * inputs.scale_bits
    pairs = vectors.length * weights.bits * inputs.bits
    pairs += vectors.dot_bits * vectors.scale_product_bits
    bits = (vectors.length - 1) * vectors.dot_bits + vectors.sum_bits
    return scales * pair.value, pairs * pair.value + bits * bit.value
