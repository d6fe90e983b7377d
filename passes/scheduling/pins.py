"""Stages that a user pins: what ``motet schedule --json`` printed, maybe edited.

Operators are the units that ``motet schedule`` shows. What a compilation puts in an order are the
steps of an array's programs and the kernels of the host, which other passes cut: each belongs to
the operator that has the first of its ONNX nodes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from motet.runtime.errors import SpecError
from motet.runtime.schedule import FORMAT_VERSION, Group, Groups, Kind
from motet.targets.systolic.architecture_values import nearest

REMEDY = "write it with 'motet schedule MODEL --json'"


class PinnedStage(Struct, frozen=True, forbid_unknown_fields=True):
    """Groups of operators that run side by side; pods: of every group, where they are pinned.

    None for a group without work of the array. What else is written of a stage is told, not read.
    """

    groups: Groups
    kind: Kind = "concurrent"
    pods: tuple[int | None, ...] | None = None
    threads: Any = None
    block: Any = None
    seconds: Any = None


class PinnedStages(Struct, frozen=True, forbid_unknown_fields=True):
    """In the order in which they run."""

    stages: tuple[PinnedStage, ...]
    version: int = FORMAT_VERSION
    seconds: Any = None
    blocks: Any = None
    r: Any = None
    s: Any = None


class PinnedOperator(Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator's name stands for."""

    onnx_nodes: tuple[str, ...]
    kind: Any = None


class PinnedModel(Struct, frozen=True, forbid_unknown_fields=True):
    """The stages of a model."""

    model: str
    schedule: PinnedStages
    operators: dict[str, PinnedOperator]
    target: Any = None
    seconds: Any = None
    sequential_seconds: Any = None
    greedy_seconds: Any = None
    simulated: Any = None

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
        raise SpecError(f"stages {path}: {error}{_meant(str(error))}; {REMEDY}") from error
    models = [made] if isinstance(made, PinnedModel) else made
    if not models:
        raise SpecError(f"stages {path}: there is no model in it; {REMEDY}")
    found: dict[str, PinnedModel] = {}
    for model in models:
        if model.model in found:
            raise SpecError(
                f"stages {path}: model {model.model!r} is there twice: leave one of them"
            )
        _check(model, f"stages {path}: model {model.model!r}")
        found[model.model] = model
    return found


def _meant(error: str) -> str:
    """The keys that there are, where ``error`` is about one that there is not."""
    unknown = re.search(r"unknown field `([^`]*)`(?: - at `(.*)`)?$", error)
    if unknown is None:
        return ""
    key, place = unknown[1], unknown[2] or ""
    owner = next((one for part, one in _OWNERS if part in place), PinnedModel)
    keys = owner.__struct_fields__
    return f"{nearest(key, keys)} (keys are {', '.join(keys)})"


_OWNERS = ((".stages[", PinnedStage), (".operators", PinnedOperator), (".schedule", PinnedStages))
"""Whose keys a path in a file is about."""


def _check(model: PinnedModel, where: str) -> None:
    """What is wrong in the file itself, whatever the model is."""
    version = model.schedule.version
    if version != FORMAT_VERSION:
        raise SpecError(
            f"{where}: schedule.version is {version}, this Motet reads {FORMAT_VERSION}: schedule "
            "the model again, or take the Motet that wrote it"
        )
    times = Counter(name for _, _, group in model.groups for name in group)
    for name, count in times.items():
        if name not in model.operators:
            raise SpecError(f"{where}: {name!r} is in a stage, but not among its operators")
        if count > 1:
            raise SpecError(f"{where}: operator {name!r} runs {count} times: leave it in one group")
    for number, stage in enumerate(model.schedule.stages):
        if stage.pods is not None and not _is_one_each(stage.pods, stage.groups):
            raise SpecError(
                f"{where}: schedule.stages[{number}].pods is {list(stage.pods)}: one number for "
                f"each of its {len(stage.groups)} groups, at least 1 (null where the host runs a "
                "group), or none at all"
            )


def _is_one_each(pods: Sequence[int | None], groups: Groups) -> bool:
    return len(pods) == len(groups) and all(count is None or count >= 1 for count in pods)


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
