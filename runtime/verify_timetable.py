"""Checks a bundle's timetable before it is played: who has which pods, and with which programs.

A file's slots may be written wrong, as programs may (``verify``): every slot has pods that there
are, no pod and not the host serves two slots at one tick, also across the hyperperiod's end, every
frame has each of its model's array calls once, one after the other, and a joint slot has a
program. That programs keep to the pods of their slots is asked of the programs themselves
(``targets/timetables/pod_checks.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from motet.runtime.errors import BundleError
from motet.runtime.pod_programs import PodProgram, array_calls, slot_programs
from motet.runtime.program import Program
from motet.runtime.timetable import Timetable, TimetableSlot, TimetableStage

HOST = -1
"""The host's lane; a pod's is its number."""


def verify_timetable(
    timetable: Timetable | None, made: Sequence[PodProgram], programs: Mapping[str, Program]
) -> None:
    """Raise ``BundleError`` for the first thing that is wrong; made: programs of its slots."""
    if timetable is None:
        return
    problem = shared_lane(timetable) or _pods(timetable) or _stages(timetable, programs)
    if problem is not None:
        raise BundleError(f"the bundle's timetable: {problem}: compile it with another")
    for _ in slot_programs(timetable, made, programs):
        pass


def shared_lane(timetable: Timetable) -> str | None:
    """What is said of the first two slots that have a pod, or the host, at one tick, or None."""
    lanes: dict[int, list[tuple[int, int, TimetableSlot]]] = {}
    for slot in timetable.slots:
        for lane, start, end in _pieces(slot, timetable.ticks):
            lanes.setdefault(lane, []).append((start, end, slot))
    for lane, pieces in sorted(lanes.items()):
        pieces.sort(key=lambda piece: piece[:2])
        for (_, end, one), (start, _, other) in pairwise(pieces):
            if start < end:
                name = "the host" if lane == HOST else f"pod {lane}"
                two = f"{name_of(one.stages[0])} and {name_of(other.stages[0])}"
                return f"{name} has {two} at tick {start}: it serves one at a time"
    return None


def _pieces(slot: TimetableSlot, whole: int) -> Iterator[tuple[int, int, int]]:
    """Lane, start and end within the hyperperiod."""
    pods = range(slot.first_pod, slot.first_pod + slot.pods) if slot.pods else range(HOST, 0)
    start = slot.start_tick % whole
    for lane in pods if slot.ticks else ():
        yield lane, start, min(start + slot.ticks, whole)
        if start + slot.ticks > whole:
            yield lane, 0, start + slot.ticks - whole


def _pods(timetable: Timetable) -> str | None:
    for slot in timetable.slots:
        is_host = slot.resource == "host"
        if slot.first_pod + slot.pods > timetable.pods or (slot.pods == 0) != is_host:
            return (
                f"{name_of(slot.stages[0])} has pods {slot.first_pod} to "
                f"{slot.first_pod + slot.pods - 1} of {timetable.pods}"
            )
    return None


def _stages(timetable: Timetable, programs: Mapping[str, Program]) -> str | None:
    """Every frame has as many slots on the array as its model's program has calls, in order."""
    frames: dict[tuple[str, int], list[tuple[int, int, int]]] = {}
    for slot in timetable.slots:
        for stage in slot.stages:
            own = frames.setdefault((stage.model, stage.frame), [])
            if slot.resource == "array":
                own.append((stage.stage, slot.start_tick, stage.done_ticks))
    for (model, frame), slots in frames.items():
        if model not in programs:
            return f"the bundle has no model {model!r}"
        calls = len(array_calls(programs[model]))
        if len(slots) != calls:
            return (
                f"model {model!r} frame {frame} has {len(slots)} slots on the array, and its "
                f"program {calls} calls"
            )
        for (_, start, ticks), (number, after, _) in pairwise(sorted(slots)):
            if after < start + ticks:
                return f"model {model!r} frame {frame} stage {number} begins before the one before"
    return None


def name_of(stage: TimetableStage) -> str:
    """What messages call a stage of a frame."""
    return f"model {stage.model!r} frame {stage.frame} stage {stage.stage}"
