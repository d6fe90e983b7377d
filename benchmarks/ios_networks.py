"""Networks of the zoo as regions of an array of SOSA's pods, as they are and with merges."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from msgspec.structs import replace
from tvm import IRModule, relax
from tvm.ir import GlobalVar

from motet.benchmarks.zoo import registry
from motet.compiler.frontend.load import load_model, merge
from motet.compiler.kernels import region_binding
from motet.compiler.neutral_passes import neutral_passes
from motet.compiler.parallel_merging import Groups, of_equal_kernels, proposed
from motet.compiler.pipeline import lowering_steps
from motet.compiler.spec import PassesSpec
from motet.passes.graph import bindings_of
from motet.passes.merge_parallel import merge_parallel, named
from motet.passes.names import ARRAY, TARGET
from motet.passes.options import ScheduleOptions
from motet.passes.parallel_convolutions import siblings
from motet.passes.unit_cost import ArrayTarget, HostTarget
from motet.simulation_input import array_of
from motet.targets.host.machine import machine_for
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.workload.graph import Workload

BASE = "sosa-256x32x32"
NETWORKS = {
    "inception_v3": "plain",
    "squeezenet": "bypass",
    "randwire": "ws-154",
    "nasnet_a_large": "large",
}
"""The variants of which the paper gives latencies."""
_ENTRY = "network"


def scaled(array: str) -> ArrayDescription:
    """A shipped array or a file, or SOSA's with other pods: ``PxRxC``, in proportion."""
    found = re.fullmatch(r"(\d+)x(\d+)x\2", array)
    if found is None:
        return array_of(array)
    base, (pods, side) = array_of(BASE), map(int, found.groups())
    pod = base.pods[0]
    times = side / pod.rows
    memories = (
        replace(
            memory, bytes=int(memory.bytes * times**2), port_bytes=int(memory.port_bytes * times)
        )
        for memory in (pod.scratchpad, pod.accumulators)
    )
    scratchpad, accumulators = memories
    made = replace(
        pod,
        count=pods,
        rows=side,
        columns=side,
        scratchpad=scratchpad,
        accumulators=accumulators,
        vector=replace(pod.vector, lanes=side),
    )
    links = replace(base.interconnect, link_bytes=int(base.interconnect.link_bytes * times))
    return replace(base, name=f"sosa-{array}", pods=(made,), interconnect=links)


@dataclass(frozen=True)
class Network:
    """A network of the zoo behind the passes that know no target.

    size: edge of the images, 0 for the published one.
    """

    name: str
    batch: int = 1
    size: int = 0

    @cached_property
    def module(self) -> IRModule:
        """One entry function of units."""
        variant = NETWORKS[self.name] + (f"@{self.size}" if self.size else "")
        model = registry.build(self.name, variant)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = self.batch
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{self.name}.onnx")
            path.write_bytes(model.SerializeToString())
            loaded = load_model(path, _ENTRY)
        return neutral_passes(PassesSpec(), False, False)(merge([loaded]))

    def regions(self, merged: Groups = ()) -> list[Workload]:
        """What SOSA's array is given, with these convolutions merged."""
        mod = merge_parallel(named(merged))(self.module) if merged else self.module
        for step in lowering_steps(PassesSpec(), array_of(BASE)):
            mod = step.apply(mod)
        called = [
            mod[binding.value.op]
            for binding in bindings_of(mod[_ENTRY])
            if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, GlobalVar)
        ]
        placed = [function for function in called if function.attrs[TARGET] == ARRAY]
        return [region_binding(mod, function).workload for function in placed]

    def proposals(self, array: ArrayDescription, number_format: str) -> list[Groups]:
        """Sets of merges as a compilation tries them."""
        machine = machine_for("native")
        target = ArrayTarget(array, number_format, HostTarget(machine, machine.cores))
        function = self.module[_ENTRY]
        made = [
            proposed(function, _ENTRY, target, ScheduleOptions(enabled=True)),
            of_equal_kernels(function),
        ]
        return [groups for groups in dict.fromkeys(made) if groups]

    def counted(self, groups: Groups) -> tuple[int, int]:
        """How many convolutions become how many."""
        found = [one for _, one in siblings(self.module[_ENTRY])]
        return sum(set(one.names) <= group for one in found for group in groups), len(groups)


def workloads(network: str, batch: int = 1, size: int = 0) -> list[Workload]:
    """The regions of a network of the zoo as the compiler places it on SOSA's array."""
    return Network(network, batch, size).regions()
