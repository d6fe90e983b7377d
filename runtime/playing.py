"""A bundle's timetable, run: every frame of a hyperperiod once, slot by slot.

An array slot runs the array program that the bundle has for its pods, a joint one both models'
calls at once; what lies between a model's array calls, the host's, is done as soon as its operands
are there. Values are those of plain runs; cycles are the device's, and say whether a slot is long
enough for what it has to do.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from motet.runtime.bundle import Bundle
from motet.runtime.errors import BundleError, SpecError
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
class Played:
    """outputs: by model those of every frame, by name. slots: of the array, as they began."""

    outputs: Mapping[str, tuple[dict[str, Any], ...]]
    slots: tuple[PlayedSlot, ...]

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
    ended: dict[_Frame, dict[str, Any]] = field(default_factory=dict)
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)

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
                slots.append(self._on_array(slot, names[id(slot)]))
        outputs: dict[str, list[dict[str, Any]]] = {name: [] for name in self.models}
        for (model, _), values in sorted(self.ended.items(), key=lambda one: one[0]):
            outputs[model].append(values)
        return Played({name: tuple(found) for name, found in outputs.items()}, tuple(slots))

    def _begin(self, frame: _Frame) -> None:
        if frame not in self.runs:
            model = self.models[frame[0]]
            given = {**self.inputs.get(frame[0], {}), **self._wired(model)}
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
            found[name] = self.newest[source][output]
        return found

    def _go_on(self, frame: _Frame) -> None:
        """Up to the next array call, or to the end."""
        run = self.runs[frame]
        try:
            run.call = next(run.steps)
        except StopIteration as end:
            run.call = None
            self.ended[frame] = self.newest[frame[0]] = end.value

    def _on_array(self, slot: TimetableSlot, name: str) -> PlayedSlot:
        """Run what a slot has to do, and let its frames go on."""
        frames = [(stage.model, stage.frame) for stage in slot.stages]
        waiting = [self.runs[frame].call for frame in frames]
        accelerator = self.machine.accelerator
        if accelerator is None or any(call is None for call in waiting):
            raise BundleError(
                f"the bundle's timetable has more stages of {frames[0][0]!r} on the array than its "
                "program: compile it with another"
            )
        asked = [call for call in waiting if call is not None]
        inputs, outputs = ([a for call in asked for a in call[at]] for at in (1, 2))
        accelerator.invoke(name, inputs, outputs)
        for frame in frames:
            self._go_on(frame)
        return PlayedSlot(slot, name, accelerator.counts(name).cycles)
