"""Models as stages: what the array does, region by region, and what is left to the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from motet.targets.systolic.instructions.program import Element, Role, SystolicProgram
from motet.targets.systolic.workload.graph import Epilogue, Requantise, Step, Workload


@dataclass(frozen=True)
class Stage:
    """One call of a model's program, in order.

    macs: multiply-accumulates; 0 where they depend on open sizes. workload: what the array does;
    program: the same, compiled already. Without both it is an operator of the host, and bytes are
    those of its tensors, each read or written once; 0 where they depend on open sizes.
    """

    op: str
    kind: str
    onnx_nodes: tuple[str, ...]
    macs: int
    workload: Workload | None = None
    program: SystolicProgram | None = None
    bytes: int = 0


@dataclass(frozen=True)
class ModelWork:
    """A model as stages; a loop or branch counts every stage once.

    placement: what was placed where, and why. assumed: the shapes of inputs whose open sizes were
    taken as 1.
    """

    model: str
    stages: tuple[Stage, ...]
    placement: str = ""
    assumed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def stages_of(workload: Workload) -> tuple[Stage, ...]:
    """Every step of a workload as a stage of its own: nothing stays on chip in between."""
    return tuple(
        Stage(step.name, step.kind, (step.name,), step.layer.macs, _alone(workload, step))
        for step in workload.steps
    )


def _alone(workload: Workload, step: Step) -> Workload:
    read = [n for number in step.reads for n in (number, *_scales_of(workload, number))]
    numbers = tuple(dict.fromkeys((*read, step.output)))
    new = {old: i for i, old in enumerate(numbers)}
    tensors = []
    for old in numbers:
        tensor = workload.tensors[old]
        role = Role.OUTPUT if old == step.output else tensor.role
        role = Role.INPUT if old != step.output and role in (Role.INTERNAL, Role.OUTPUT) else role
        tensors.append(replace(tensor, role=role))
    moved = replace(
        step,
        inputs=tuple(new[i] for i in step.inputs),
        output=new[step.output],
        epilogue=_renumbered(step.epilogue, new),
    )
    return Workload(tuple(tensors), (moved,), vectors=workload.vectors)


def _scales_of(workload: Workload, tensor: int) -> list[int]:
    """The tensor behind one of vectors, which has their scales."""
    after = workload.tensors[tensor + 1 : tensor + 2]
    return [tensor + 1] if after and after[0].element is Element.SCALE else []


def _renumbered(epilogue: Epilogue, new: dict[int, int]) -> Epilogue:
    requantise = epilogue.requantise
    return replace(
        epilogue,
        bias=None if epilogue.bias is None else new[epilogue.bias],
        residual=None if epilogue.residual is None else new[epilogue.residual],
        requantise=requantise and Requantise(new[requantise.scale], requantise.zero_point),
        dequantise=None if epilogue.dequantise is None else new[epilogue.dequantise],
    )
