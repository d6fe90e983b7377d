"""What became of the frames of one simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from motet.targets.sharing.loads import RESOURCES, Load, Resource


@dataclass(eq=False)
class ModelOutcome:
    """One model. Moments and times are ticks; a list has an entry for each finished frame.

    released: asked for within the time; each is finished, dropped or unfinished.
    missed: of those with a deadline, those that did not end by it: late, dropped, or open when
        it passed.
    latency: from release to end; turnaround: from when all that it follows had ended; late: end
        minus deadline, without frames that have none; used: of each resource, within the time.
    waited: in which a frame was ready for the array and another model had it, summed over frames.
    """

    load: Load
    released: int = 0
    dropped: int = 0
    missed: int = 0
    waited: int = 0
    latency: list[int] = field(default_factory=list)
    turnaround: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    used: dict[Resource, int] = field(default_factory=lambda: dict.fromkeys(RESOURCES, 0))
    joules: float = 0.0

    @property
    def finished(self) -> int:
        """Frames that ended within the time."""
        return len(self.latency)

    @property
    def unfinished(self) -> int:
        """Frames that waited or ran when the time was over."""
        return self.released - self.finished - self.dropped


@dataclass(frozen=True, eq=False)
class Outcome:
    """All models, by the order in which they were given; ``ticks`` were simulated."""

    ticks: int
    ticks_per_second: float
    models: tuple[ModelOutcome, ...]

    def seconds(self, ticks: list[int]) -> NDArray[np.float64]:
        """float64 [frames]."""
        return np.array(ticks, np.float64) / self.ticks_per_second

    def busy(self, resource: Resource) -> float:
        """Share of the time in which ``resource`` had a stage, 0 to 1."""
        return sum(model.used[resource] for model in self.models) / self.ticks

    @property
    def joules(self) -> float:
        """Energy of all stages that ended."""
        return math.fsum(model.joules for model in self.models)
