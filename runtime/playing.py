"""A bundle's timetable, run: every frame of a hyperperiod once, slot by slot.

An array slot runs the array program that the bundle has for its pods, a joint one both models'
calls at once; what lies between a model's array calls, the host's, is done as soon as its operands
are there. Values are those of plain runs; cycles are the device's, and say whether a slot is long
enough for what it has to do.

A frame that fails stops no other: its slots are left out, and frames that read it fail with it. Of
a joint slot the other model's call then runs alone, by its own program.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from motet.runtime.bundle import Bundle
from motet.runtime.errors import BundleError, InputError, SpecError
from motet.runtime.model import ModelSession
from motet.runtime.pod_programs import slot_programs
from motet.runtime.timetable import Timetable, TimetableSlot
from motet.runtime.vm import Machine


@dataclass(frozen=True)
class PlayedSlot:
    """A slot of the array and the program that it ran: at most ``slot.ticks`` cycles, if it is as
    long as it should be.
    """

    slot: TimetableSlot
    program: str
    cycles: int


@dataclass(frozen=True)
class FrameFailure:
    """Why a frame has no outputs."""

    model: str
    frame: int
    error: Exception


@dataclass(frozen=True)
class Played:
    """outputs: by model those of every frame, by name, None for one that failed. slots: of the
    array, as they began. failures: in the order in which they came.
    """

    outputs: Mapping[str, tuple[dict[str, Any] | None, ...]]
    slots: tuple[PlayedSlot, ...]
    failures: tuple[FrameFailure, ...] = ()

    @property
    def too_long(self) -> tuple[PlayedSlot, ...]:
        """Slots whose programs take longer than they have."""
        return tuple(one for one in self.slots if one.cycles > one.slot.ticks)


def played(
    models: Mapping[str, ModelSession],
    bundle: Bundle,
    machine: Machine,
    inputs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Played:
    """As ``Session.play``."""
    timetable = bundle.manifest.timetable
    if timetable is None:
        raise SpecError(
            "the bundle has no timetable: compile it with --timetable FILE.json, which 'motet "
            "timetable -o' makes"
        )
    if inputs is None:
        inputs = {
            name: _without(model.random_inputs(), model.entry.wires)
            for name, model in models.items()
        }
    return _Player(models, bundle, timetable, machine, inputs).play()


def _without(inputs: Mapping[str, Any], wired: Mapping[str, str]) -> dict[str, Any]:
    return {name: array for name, array in inputs.items() if name not in wired}


_Frame = tuple[str, int]
"""A model and the number of its frame."""


@dataclass
class _Run:
    """A frame on its way; call: the array call that it waits at, None where it has ended."""

    steps: Generator[Sequence[Any], None, dict[str, Any]]
    call: Sequence[Any] | None = None


@dataclass
class _Player:
    models: Mapping[str, ModelSession]
    bundle: Bundle
    timetable: Timetable
    machine: Machine
    inputs: Mapping[str, Mapping[str, Any]]
    runs: dict[_Frame, _Run] = field(default_factory=dict)
    ended: dict[_Frame, dict[str, Any] | None] = field(default_factory=dict)
    newest: dict[str, _Frame] = field(default_factory=dict)
    failures: list[FrameFailure] = field(default_factory=list)

    def play(self) -> Played:
        made = self.bundle.manifest.pod_programs
        names = {
            id(slot): name
            for slot, _, name in slot_programs(self.timetable, made, self.bundle.programs)
        }
        slots = []
        for slot in sorted(self.timetable.slots, key=lambda slot: slot.start_tick):
            for stage in slot.stages:
                self._begin((stage.model, stage.frame))
            if slot.resource == "array":
                slots += self._on_array(slot, names[id(slot)])
        outputs: dict[str, list[dict[str, Any] | None]] = {name: [] for name in self.models}
        for (model, _), values in sorted(self.ended.items(), key=lambda one: one[0]):
            outputs[model].append(values)
        found = {name: tuple(frames) for name, frames in outputs.items()}
        return Played(found, tuple(slots), tuple(self.failures))

    def _begin(self, frame: _Frame) -> None:
        if frame in self.runs or frame in self.ended:
            return
        model = self.models[frame[0]]
        try:
            given = {**self.inputs.get(frame[0], {}), **self._wired(model)}
        except _SourceError as error:
            self._failed(frame, InputError(f"model {frame[0]!r}: {error}"))
            return
        self.runs[frame] = _Run(model.array_calls(given))
        self._go_on(frame)

    def _wired(self, model: ModelSession) -> dict[str, Any]:
        """Inputs from the newest frames upstream."""
        found = {}
        for name, wire in model.entry.wires.items():
            source, _, output = wire.partition(".")
            if source not in self.newest:
                raise BundleError(
                    f"the bundle's timetable begins model {model.name!r} before {source!r}, which "
                    "it reads, has ended: compile it with another"
                )
            values = self.ended[self.newest[source]]
            if values is None:
                raise _SourceError(f"input {name!r} is of {source!r}, whose frame failed")
            found[name] = values[output]
        return found

    def _failed(self, frame: _Frame, error: Exception) -> None:
        self.runs.pop(frame, None)
        self.ended[frame], self.newest[frame[0]] = None, frame
        self.failures.append(FrameFailure(*frame, error))

    def _go_on(self, frame: _Frame) -> None:
        """Up to the next array call, or to the end."""
        run = self.runs[frame]
        try:
            run.call = next(run.steps)
        except StopIteration as end:
            run.call = None
            self.ended[frame], self.newest[frame[0]] = end.value, frame
        except Exception as error:  # whatever it is, other models go on
            self._failed(frame, error)

    def _on_array(self, slot: TimetableSlot, name: str) -> list[PlayedSlot]:
        """Run what a slot has to do, and let its frames go on."""
        asked = [(stage.model, stage.frame) for stage in slot.stages]
        frames = [frame for frame in asked if self.ended.get(frame, ()) is not None]
        calls = [self._call(frame) for frame in frames]
        if not calls:
            return []
        accelerator = self.machine.accelerator
        assert accelerator is not None
        name = name if len(frames) == len(asked) else calls[0][0]
        inputs, outputs = ([a for call in calls for a in call[at]] for at in (1, 2))
        try:
            accelerator.invoke(name, inputs, outputs)
        except Exception as error:
            for frame in frames:
                self._failed(frame, error)
            return []
        for frame in frames:
            self._go_on(frame)
        return [PlayedSlot(slot, name, accelerator.counts(name).cycles)]

    def _call(self, frame: _Frame) -> Sequence[Any]:
        """What a frame waits at; raises ``BundleError`` where it waits at nothing."""
        run = self.runs.get(frame)
        if run is None or run.call is None or self.machine.accelerator is None:
            raise BundleError(
                f"the bundle's timetable has more stages of {frame[0]!r} on the array than its "
                "program: compile it with another"
            )
        return run.call


class _SourceError(Exception):
    """What a frame reads is not there."""
