"""Stages that a user pins: what ``motet schedule --json`` printed, maybe edited.

Operators are the units that ``motet schedule`` shows. What a compilation puts in an order are the
steps of an array's programs and the kernels of the host, which other passes cut: each belongs to
the operator that has the first of its ONNX nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from motet.runtime.errors import SpecError
from motet.runtime.schedule import Group, Groups, Kind

REMEDY = "write it with 'motet schedule MODEL --json'"


class PinnedStage(Struct, frozen=True):
    """Groups of operators that run side by side; pods: of every group, where they are pinned."""

    groups: Groups
    kind: Kind = "concurrent"
    pods: tuple[int, ...] | None = None


class PinnedStages(Struct, frozen=True):
    """In the order in which they run."""

    stages: tuple[PinnedStage, ...]


class PinnedOperator(Struct, frozen=True):
    """What an operator's name stands for."""

    onnx_nodes: tuple[str, ...]


class PinnedModel(Struct, frozen=True):
    """The stages of a model."""

    model: str
    schedule: PinnedStages
    operators: dict[str, PinnedOperator]

    @property
    def groups(self) -> list[tuple[int, int, Group]]:
        """Every group with the numbers of its stage and its place there."""
        return [
            (number, place, group)
            for number, stage in enumerate(self.schedule.stages)
            for place, group in enumerate(stage.groups)
        ]


@dataclass(frozen=True, order=True)
class Place:
    """Where something runs: the number of its stage, and of its group there."""

    stage: int
    group: int


@dataclass(frozen=True)
class Pins:
    """The pinned stages of one model.

    places: by ONNX node. merged: ONNX nodes of the operators that become one, stage by stage.
    """

    places: Mapping[str, Place]
    stages: tuple[PinnedStage, ...]
    merged: tuple[frozenset[str], ...] = ()

    def place_of(self, nodes: Iterable[str]) -> Place | None:
        """Of what is computed for these ONNX nodes; None where no operator has any of them."""
        return next((self.places[node] for node in nodes if node in self.places), None)


@dataclass(frozen=True)
class PinnedWorkload:
    """Where the steps of a workload are wanted, and the pods of those stages' groups."""

    places: tuple[Place | None, ...]
    stages: tuple[PinnedStage, ...]


def read_pins(path: Path | str) -> dict[str, PinnedModel]:
    """The pinned models of a file, by name; one, or a list of several.

    Raises ``SpecError``, which names the key, for a file that holds anything else.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        made = msgspec.json.decode(data, type=PinnedModel | list[PinnedModel])
    except OSError as error:
        raise SpecError(f"stages {path}: {error.strerror}; name a file that exists") from error
    except msgspec.MsgspecError as error:
        raise SpecError(f"stages {path}: {error}; {REMEDY}") from error
    models = [made] if isinstance(made, PinnedModel) else made
    for model in models:
        _check(model, f"stages {path}: model {model.model!r}")
    return {model.model: model for model in models}


def _check(model: PinnedModel, where: str) -> None:
    """What is wrong in the file itself, whatever the model is."""
    times = Counter(name for _, _, group in model.groups for name in group)
    for name, count in times.items():
        if name not in model.operators:
            raise SpecError(f"{where}: {name!r} is in a stage, but not among its operators")
        if count > 1:
            raise SpecError(f"{where}: operator {name!r} runs {count} times: leave it in one group")
    for number, stage in enumerate(model.schedule.stages):
        if stage.pods is not None and (len(stage.pods) != len(stage.groups) or min(stage.pods) < 1):
            raise SpecError(
                f"{where}: schedule.stages[{number}].pods is {list(stage.pods)}: one number for "
                f"each of its {len(stage.groups)} groups, at least 1, or none at all"
            )


def pins_of(model: PinnedModel) -> Pins:
    """The places of the ONNX nodes of a model's operators; the first that has a node has it."""
    places: dict[str, Place] = {}
    for stage, place, group in model.groups:
        for name in group:
            for node in model.operators[name].onnx_nodes:
                places.setdefault(node, Place(stage, place))
    stages = model.schedule.stages
    merged = (
        frozenset(
            node for group in stage.groups for name in group
            for node in model.operators[name].onnx_nodes
        )
        for stage in stages if stage.kind == "merged"
    )  # fmt: skip
    return Pins(places, stages, tuple(merged))
