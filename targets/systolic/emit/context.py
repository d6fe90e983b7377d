"""What code generation of one step is given: the step, its mapping, and where things lie."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import dataclass, field

from motet.targets.systolic.architecture import ArrayDescription, Pod
from motet.targets.systolic.formats import Format
from motet.targets.systolic.instructions.addressing import View
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.mappings.mapping import Mapping, Place
from motet.targets.systolic.workload.graph import Step, Workload


@dataclass
class ViewTable:
    """The views of a program; equal ones are kept once.

    staging: tensors that steps add to the workload's for their own use, parts of an input that
        lie in a scratchpad while several views read them (INTERNAL, resident). The program's
        tensors are the workload's followed by these.
    """

    views: list[View] = field(default_factory=list)
    staging: list[Tensor] = field(default_factory=list)
    _numbers: dict[View, int] = field(default_factory=dict)

    def number(self, view: View) -> int:
        """The number that instructions name ``view`` by."""
        if view not in self._numbers:
            self._numbers[view] = len(self.views)
            self.views.append(view)
        return self._numbers[view]

    def stage(self, shape: tuple[int, ...], address: int) -> int:
        """The place in ``staging`` of a tensor of ``shape`` at ``address`` of the scratchpad."""
        tensor = Tensor("", shape, Role.INTERNAL, resident=address)
        if tensor not in self.staging:
            self.staging.append(tensor)
        return self.staging.index(tensor)


@dataclass
class Reach:
    """The first words of each memory after all that a step's tiles took."""

    scratchpad: int = 0
    accumulators: int = 0

    def note(self, memory: str, stop: int) -> None:
        """``memory`` is taken up to word ``stop``."""
        setattr(self, memory, max(stop, getattr(self, memory)))


@dataclass(frozen=True)
class StepContext:
    """One step, and the resources that it may use.

    Attributes
    ----------
    number: of the step, for the instructions' ``step``.
    resident: places of the tensors that lie in scratchpads; all others are in DRAM.
    scratchpad: words [start, stop) of each pod's scratchpad that the step's tiles may use.
    accumulators: 32-bit words [start, stop) of each pod's accumulators, likewise.
    reach: what emission took of them.
    """

    number: int
    step: Step
    workload: Workload
    description: ArrayDescription
    format: Format
    mapping: Mapping
    views: ViewTable
    resident: Dict[int, Place]
    scratchpad: range
    accumulators: range
    reach: Reach = field(default_factory=Reach)

    @property
    def pod(self) -> Pod:
        """What the pods of the step are."""
        return self.description.pod(self.mapping.first_pod)

    def stage(self, shape: tuple[int, ...], address: int) -> int:
        """The number of a tensor of the step's own at ``address`` of the scratchpad."""
        return len(self.workload.tensors) + self.views.stage(shape, address)
