"""What a simulated machine is given: models as stages, and how often they are asked for.

Time is whole ticks of one clock (the array's, or nanoseconds), so that there is one outcome.
Rates are fractions: 29.97 is 2997/100, and its thousandth frame comes when it should.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from motet.runtime.errors import SpecError
from motet.runtime.exact_numbers import exact

Resource = Literal["array", "host"]
RESOURCES: tuple[Resource, ...] = ("array", "host")


@dataclass(frozen=True)
class Share:
    """A stage on some of the array's pods: ``joules`` without what the array takes at rest."""

    pods: int
    ticks: int
    joules: float = 0.0


@dataclass(frozen=True)
class Stage:
    """What a frame does next: ``ticks`` of a resource, which nobody breaks off, and its energy.

    shares: what it takes on fewer pods and on all, by rising pods, ticks that never rise; empty
    where only the whole resource is known.
    """

    resource: Resource
    ticks: int
    joules: float = 0.0
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True)
class Load:
    """A model and its frames, one run each.

    Attributes
    ----------
    stages: of every frame, in order.
    rate_hz: frames a second. None: those of the models in ``after``; without such, back to back,
        each released when the one before ends.
    deadline_seconds: after a frame's release. None: the period; without a rate there is none.
    priority: larger is more urgent. after: models whose frame of the same time has to end first.
    probability: above 0 and at most 1, that such an end asks for a frame at all.
    time_share: of each of array and host, 0 to 1, beyond which its frames give way; None: no limit.
    phase_seconds: from the start to the first frame; a model that follows others has theirs.
    """

    name: str
    stages: tuple[Stage, ...]
    rate_hz: Fraction | None = None
    deadline_seconds: Fraction | None = None
    priority: int = 0
    after: tuple[str, ...] = ()
    probability: float = 1.0
    phase_seconds: Fraction = Fraction(0)
    time_share: float | None = None

    @property
    def ticks(self) -> int:
        """Of all stages: a frame's latency where it has the machine alone."""
        return sum(stage.ticks for stage in self.stages)

    @property
    def joules(self) -> float:
        """Energy of one frame."""
        return math.fsum(stage.joules for stage in self.stages)


def fraction_of(value: float | str) -> Fraction:
    """The number that a user wrote, exactly: 29.97, not the double next to it; "30000/1001"."""
    return exact(str(value))


def ordered(loads: Sequence[Load]) -> list[Load]:
    """``loads`` with every rate settled, each after those that it follows.

    A model without a rate takes the least of those that it follows. Raises ``SpecError`` for what
    cannot be simulated, by model and key.
    """
    left = {load.name: load for load in loads}
    found: dict[str, Load] = {}
    while left:
        ready = [load for load in left.values() if not any(name in left for name in load.after)]
        if not ready:
            raise SpecError(f"models {', '.join(left)} follow each other in a circle")
        for load in ready:
            found[load.name] = _settled(load, found)
            del left[load.name]
    return list(found.values())


def _settled(load: Load, found: Mapping[str, Load]) -> Load:
    """``load`` with its rate, checked."""
    where = f"model {load.name!r}"
    missing = next((name for name in load.after if name not in found), None)
    if missing is not None:
        raise SpecError(f"{where} follows {missing!r}, which is not simulated: take both or none")
    if not load.stages or min(stage.ticks for stage in load.stages) < 0:
        raise SpecError(f"{where}: give it stages, none of negative length")
    if load.rate_hz is not None and load.rate_hz <= 0:
        raise SpecError(f"{where}: rate_hz must be positive")
    if not 0 < load.probability <= 1:
        raise SpecError(f"{where}: probability must be above 0 and at most 1")
    if load.probability < 1 and not load.after:
        raise SpecError(f"{where}: a probability is that of following another model: give 'after'")
    rates = {found[name].rate_hz for name in load.after}
    if None in rates:
        if load.rate_hz is not None or len(rates) > 1:
            raise SpecError(
                f"{where} has a rate or follows models that have one, and also one that runs back "
                "to back: give that one a rate_hz"
            )
        return load
    if load.rate_hz is None and rates:
        return replace(load, rate_hz=min(rate for rate in rates if rate is not None))
    if load.rate_hz is None and load.ticks == 0:
        raise SpecError(f"{where}: back to back needs stages that take time")
    return load
