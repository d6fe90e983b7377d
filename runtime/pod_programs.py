"""Array programs for some of the pods, and of two models together: what a timetable's slots run.

A bundle that was compiled with a timetable has, beside each model's programs for the whole array,
one for every place in which the timetable has a call of it. A model's program stays what it
is, and is what a run by itself does: with the whole array, up to the model's quota. A place only
says which array program a call runs when the timetable is played.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec import Struct

from motet.runtime.errors import BundleError
from motet.runtime.program import ArrayCall, Program
from motet.runtime.timetable import Timetable, TimetableSlot

Calls = tuple[tuple[str, int], ...]
"""Models, and which of a run's array calls it is, from 0 on; two of them are a joint stage."""

Place = tuple[Calls, int, int]
"""Calls, first pod and pods of a slot."""


class PodProgram(Struct, frozen=True):
    """A program of ``calls`` on pods [first_pod, first_pod + pods).

    share: pods that it uses, with the bandwidth that comes with them; at most ``pods``. cycles:
    simulated, which is what its slots have at least. done_cycles: until each call is done.
    """

    calls: Calls
    first_pod: int
    pods: int
    share: int
    program: str
    cycles: int
    done_cycles: tuple[int, ...]

    @property
    def place(self) -> Place:
        """What it is found by."""
        return self.calls, self.first_pod, self.pods


def array_slots(timetable: Timetable) -> Iterator[tuple[TimetableSlot, Calls]]:
    """Every slot of the array with the calls that it does, in the timetable's order."""
    numbers: dict[tuple[str, int], list[int]] = {}
    on_array = [slot for slot in timetable.slots if slot.resource == "array"]
    for slot in on_array:
        for stage in slot.stages:
            numbers.setdefault((stage.model, stage.frame), []).append(stage.stage)
    for own in numbers.values():
        own.sort()
    for slot in on_array:
        calls = ((s.model, numbers[s.model, s.frame].index(s.stage)) for s in slot.stages)
        yield slot, tuple(calls)


def place_of(slot: TimetableSlot, calls: Calls) -> Place:
    """What the program of a slot is found by."""
    return calls, slot.first_pod, slot.pods


def slot_programs(
    timetable: Timetable, made: Collection[PodProgram], programs: Mapping[str, Program]
) -> Iterator[tuple[TimetableSlot, Calls, str]]:
    """Every slot of the array, its calls, and the array program that it runs.

    That of its place, else the model's own. Raises ``BundleError`` for a joint slot without one.
    """
    by_place = {one.place: one.program for one in made}
    own = {model: array_calls(program) for model, program in programs.items()}
    for slot, calls in array_slots(timetable):
        name = by_place.get(place_of(slot, calls))
        if name is None and len(calls) > 1:
            raise BundleError("the bundle lacks the program of a joint stage: compile it again")
        model, number = calls[0]
        yield slot, calls, own[model][number].program if name is None else name


def array_calls(program: Program) -> list[ArrayCall]:
    """The array calls of a model's program, in order."""
    return [step for step in program.instructions if isinstance(step, ArrayCall)]


def verify_pod_programs(
    made: Sequence[PodProgram],
    programs: Mapping[str, Program],
    array_programs: Collection[str],
) -> None:
    """Raise ``BundleError`` where a program for pods is of nothing that the bundle has."""
    for one in made:
        missing = one.program not in array_programs
        counts = {model: len(array_calls(program)) for model, program in programs.items()}
        stray = any(not 0 <= number < counts.get(model, 0) for model, number in one.calls)
        if missing or stray or not 0 < one.share <= one.pods or one.first_pod < 0:
            raise BundleError(
                f"array program {one.program!r} on pods {one.first_pod} to "
                f"{one.first_pod + one.pods - 1} is of no call that the bundle has"
            )
