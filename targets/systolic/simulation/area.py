"""Silicon area of a machine, by component, from the description's figures."""

from __future__ import annotations

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.interconnect_cost import cost

MEBIBYTE = 2**20


def area_mm2(description: ArrayDescription) -> dict[str, float]:
    """Square millimetres of elements, scratchpads, accumulators, vector and interconnect.

    Empty where the description has no area figures. No control, wires between pods or pads.
    """
    area = description.area
    if area is None:
        return {}
    pods, net = description.pods, description.interconnect
    scratchpad = sum(pod.count * pod.scratchpad.bytes for pod in pods) / MEBIBYTE
    accumulators = sum(pod.count * pod.accumulators.bytes for pod in pods) / MEBIBYTE
    links = cost(net.kind, description.pod_count, net.expansion) * net.link_bytes
    return {
        "elements": description.elements * area.element_mm2.value,
        "scratchpads": scratchpad * area.scratchpad_mm2_per_mebibyte.value,
        "accumulators": accumulators * area.accumulator_mm2_per_mebibyte.value,
        "vector": sum(pod.count * pod.vector.lanes for pod in pods) * area.vector_lane_mm2.value,
        "interconnect": links * area.interconnect_mm2_per_byte_stage.value,
    }
