"""A schedule of one model: its stages in order, as plain data that is written as JSON.

A stage holds groups of operators. *Concurrent* groups run side by side, the operators of
a group in order; a *merged* stage is one convolution made of all its operators. The next
stage starts when all groups have ended. The compiler makes schedules, the run time
executes them, and a user may write or edit one.
"""

from __future__ import annotations

from collections import Counter
from math import fsum, isclose
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from motet.runtime.errors import SpecError

FORMAT_VERSION = 1

Kind = Literal["concurrent", "merged"]
FoundBy = Literal["optimal", "budget", "greedy", "sequential"]
"""optimal: the dynamic programme ended (optimal for its costs, pruning and blocks); budget:
its time was up and this is the best it had; greedy, sequential: that simple rule was best."""

Seconds = Annotated[float, Meta(ge=0)]
Group = Annotated[tuple[str, ...], Meta(min_length=1)]
Groups = Annotated[tuple[Group, ...], Meta(min_length=1)]


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Groups of operator names that run together; ``seconds`` by the cost it was chosen with."""

    groups: Groups
    seconds: Seconds
    kind: Kind = "concurrent"
    block: Annotated[int, Meta(ge=0)] = 0

    @property
    def operators(self) -> tuple[str, ...]:
        """All operators, group by group."""
        return tuple(name for group in self.groups for name in group)


class Block(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the model that was scheduled by itself, and how its stages were found."""

    operators: Annotated[int, Meta(ge=0)]
    seconds: Seconds
    found_by: FoundBy


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All stages of a model in the order in which they run.

    seconds: the sum over the stages. blocks: in order; ``Stage.block`` counts them.
    r, s: the most operators in a group and groups in a stage that were tried; null is
    without bound.
    """

    version: int = FORMAT_VERSION
    seconds: Seconds
    stages: tuple[Stage, ...]
    blocks: tuple[Block, ...]
    r: Annotated[int, Meta(ge=1)] | None = None
    s: Annotated[int, Meta(ge=1)] | None = None


def total_seconds(stages: tuple[Stage, ...]) -> float:
    """The seconds of stages one after another, without an error that grows with them."""
    return fsum(stage.seconds for stage in stages)


def encode(schedule: Schedule) -> bytes:
    """Indented JSON; equal schedules give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(schedule), indent=2) + b"\n"


def decode(data: bytes, where: str = "schedule") -> Schedule:
    """Read what ``encode`` wrote; ``where`` names the file in errors.

    Raises SpecError for what is no schedule, is of another version, or contradicts itself.
    Whether it fits a model is for its reader to check.
    """
    version = _version(data, where)
    if version != FORMAT_VERSION:
        raise SpecError(
            f"{where}: version {version} of a schedule, this Motet reads {FORMAT_VERSION}: "
            "make the schedule again or install the Motet that wrote it"
        )
    try:
        schedule = msgspec.json.decode(data, type=Schedule)
    except msgspec.ValidationError as error:
        raise SpecError(f"{where}: {error}; make the schedule again or mend the key") from error
    problem = _contradiction(schedule)
    if problem:
        raise SpecError(f"{where}: {problem}")
    return schedule


def _version(data: bytes, where: str) -> int:
    class Head(Struct):
        version: int

    try:
        return msgspec.json.decode(data, type=Head).version
    except msgspec.DecodeError as error:
        raise SpecError(f"{where}: not a schedule: {error}") from error


def _contradiction(schedule: Schedule) -> str | None:
    """What is wrong inside a schedule, with the remedy; None where nothing is."""
    names = Counter(name for stage in schedule.stages for name in stage.operators)
    for name, times in names.items():
        if times > 1:
            return f"operator {name!r} runs {times} times: leave it in one group"
    for index, stage in enumerate(schedule.stages):
        if stage.block >= len(schedule.blocks):
            return f"stages[{index}].block is {stage.block}, of {len(schedule.blocks)} blocks"
        if stage.kind == "merged" and (len(stage.groups) < 2 or max(map(len, stage.groups)) > 1):
            return f"stages[{index}] is merged: it needs two or more groups of one operator each"
    total = total_seconds(schedule.stages)
    if not isclose(schedule.seconds, total, rel_tol=1e-9):
        return f"seconds is {schedule.seconds}, its stages add up to {total}: correct one of them"
    return None
