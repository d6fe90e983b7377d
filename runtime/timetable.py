"""A timetable as plain data: which stages of which frames have which pods, or the host, and when.

Fixed for one hyperperiod, after which it comes again. What a file says is checked for its form
here; whether it is a timetable of given models (``targets/timetables/verify.py``) is asked where
their stages' times are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from motet.runtime.errors import SpecError
from motet.runtime.exact_numbers import exact

Count = Annotated[int, Meta(ge=0, le=2**62)]


class TimetableStage(Struct, frozen=True, forbid_unknown_fields=True):
    """A stage of a frame, both from 0 on; done_ticks: from the slot's start until it is done."""

    model: str
    frame: Count
    stage: Count
    done_ticks: Count


class TimetableSlot(Struct, frozen=True, forbid_unknown_fields=True):
    """Stages that have pods [first_pod, first_pod + pods), or the host (0 pods), together.

    start_tick: from the hyperperiod's start; one that ends after it goes on in the next. More
    than one stage: of several models as one program.
    """

    resource: Literal["array", "host"]
    start_tick: Count
    ticks: Count
    first_pod: Count
    pods: Count
    stages: Annotated[tuple[TimetableStage, ...], Meta(min_length=1)]


class Timetable(Struct, frozen=True, forbid_unknown_fields=True):
    """clock_hz and hyperperiod_seconds: fractions, as "800000000" and "1/15"; ticks: whole ticks
    of the clock in a hyperperiod. kind: how it was made (time, space, both), for people.
    """

    machine: str
    number_format: str
    clock_hz: str
    hyperperiod_seconds: str
    ticks: Annotated[int, Meta(ge=1)]
    pods: Count
    kind: str
    slots: tuple[TimetableSlot, ...]
    version: Literal[1] = 1

    @property
    def hyperperiod(self) -> Fraction:
        """Seconds."""
        return exact(self.hyperperiod_seconds)


def to_json(timetable: Timetable) -> bytes:
    """A line per slot, so that two timetables can be compared line by line."""
    facts = msgspec.to_builtins(timetable)
    slots = facts.pop("slots")
    head = ",\n".join(f"  {_text(key)}: {_text(value)}" for key, value in facts.items())
    rows = ",\n".join(f"    {_text(slot)}" for slot in slots)
    return f'{{\n{head},\n  "slots": [\n{rows}\n  ]\n}}\n'.encode()


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def from_json(data: bytes, where: str = "timetable") -> Timetable:
    """The timetable of a file's bytes; raises ``SpecError`` that names ``where``."""
    try:
        made = msgspec.json.decode(data, type=Timetable)
        for key in ("clock_hz", "hyperperiod_seconds"):
            _check_fraction(key, getattr(made, key))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise SpecError(
            f"{where}: no timetable that 'motet timetable -o' wrote: {error}"
        ) from error
    return made


def _check_fraction(key: str, text: str) -> None:
    try:
        is_positive = exact(text) > 0
    except ValueError:
        is_positive = False
    if not is_positive:
        raise ValueError(f'{key} is "{text}", and it is a fraction above 0, as "1/15"')


def of_rates(
    timetable: Timetable, rates_hz: Mapping[str, float | str | None], machine: str, where: str
) -> Timetable:
    """``timetable``, if it has as many frames of every model as its rate asks for.

    Of a model without a rate (it has those of the models that it follows) at least one. Raises
    ``SpecError`` where it is another machine's or other models'; what stages take is not asked.
    """
    remedy = "make it anew with 'motet timetable -o'"
    if timetable.machine != machine:
        raise SpecError(f"{where}: made for {timetable.machine!r}, not for {machine!r}: {remedy}")
    frames: dict[str, set[int]] = {}
    for slot in timetable.slots:
        for stage in slot.stages:
            frames.setdefault(stage.model, set()).add(stage.frame)
    if set(frames) != set(rates_hz):
        raise SpecError(
            f"{where}: it is of {', '.join(sorted(frames))}, and the bundle has "
            f"{', '.join(sorted(rates_hz))}: {remedy}"
        )
    for model, rate in rates_hz.items():
        asked = None if rate is None else exact(str(rate)) * timetable.hyperperiod
        if asked is not None and frames[model] != set(range(int(asked))):
            raise SpecError(
                f"{where}: it has {len(frames[model])} frames of model {model!r} in "
                f"{float(timetable.hyperperiod):.6g} s, and rate_hz = {_told(rate)} asks for "
                f"{float(asked):g}: {remedy}"
            )
    return timetable


def _told(rate: float | str | None) -> str:
    return rate if isinstance(rate, str) else f"{rate:g}"


def read(path: str | Path) -> Timetable:
    """As ``from_json``, of a file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from error
    return from_json(data, str(path))
