"""Measures points of a network's operators on this machine, the promising ones first.

Every operator is given the points that the cost model ranks first, a few at a time and the
operators that take most of the network's time first; then the next few, until the budget is
used up or everything was measured. What is measured is kept at once, so a run that is
stopped goes on where it was.

The clock of a machine drifts: with every few points the point that compiling would choose
without measurements is run again, and the new times are scaled by what it has changed. It is
there twice, as two kernels: by what their times differ is how much chance there is in a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from motet.runtime.progress import Show, silent
from motet.targets.host.choosing import Chooser
from motet.targets.host.cost_model.dataset import Sample
from motet.targets.host.cost_model.features import Situation
from motet.targets.host.cost_model.measure import Measurer
from motet.targets.host.cost_model.model import CostModel
from motet.targets.host.cost_model.prepared import Candidates
from motet.targets.host.cost_model.unit_builders import measurable
from motet.targets.host.machine import Caches, Machine
from motet.targets.host.space import Family, Point, Problem
from motet.targets.host.tuning_store import Scope, TuningStore

_POINTS_AT_ONCE = 8
_KERNELS_AT_ONCE = 32
"""Of one library: compiling takes seconds, after which measurements are kept."""
_UNKNOWN_NOISE = 0.05


@dataclass(frozen=True)
class Operator:
    """A problem that a network has ``uses`` times, and the ONNX nodes that ask for it."""

    problem: Problem
    uses: int
    nodes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What users know it by: its first node, and how many others are like it."""
        others = f" and {len(self.nodes) - 1} like it" if len(self.nodes) > 1 else ""
        return f"{self.problem.family} of {self.nodes[0]}{others}"


@dataclass(frozen=True)
class Outcome:
    """What is known of an operator: seconds of one call with the point that compiling chooses
    without measurements (``before``) and with the best one (``after``); None before it was
    measured. measured: points, of ``points`` in all. noise: by how much times of equal kernels
    differed, a fraction.
    """

    operator: Operator
    before: float | None
    after: float | None
    point: Point
    measured: int
    points: int
    noise: float

    @property
    def gain(self) -> float | None:
        """How many times as fast as before, where that is more than chance; else None."""
        if self.before is None or not self.after or self.before <= (1 + self.noise) * self.after:
            return None
        return self.before / self.after


@dataclass(frozen=True)
class _Space:
    """An operator's points in the order to measure them; the first is what compiling chooses."""

    operator: Operator
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Tuning:
    """What tuning works with. families: by name. model: ranks points, where it knows them.
    can_measure: whether a problem can be run by itself.
    """

    machine: Machine
    caches: Caches
    families: Mapping[str, Family]
    model: CostModel | None
    store: TuningStore
    scope: Scope
    can_measure: Callable[[Problem], bool] = measurable

    def spaces(self, operators: Sequence[Operator]) -> list[_Space]:
        """The operators that can be measured and have a choice, the longest first."""
        known = [o for o in operators if o.problem.family in self.families]
        found = [self._space(o) for o in known if self.can_measure(o.problem)]
        return [
            space for _, space in sorted(found, key=lambda pair: -pair[0]) if len(space.points) > 1
        ]

    def _space(self, operator: Operator) -> tuple[float, _Space]:
        """Predicted seconds of all uses, and the points."""
        family, problem = self.families[operator.problem.family], operator.problem
        points = family.points(problem, self.machine)
        if self.model is None or not self.model.knows(family, self.machine):
            nest = family.describe(problem, points[0], self.machine)
            return operator.uses * nest.flops, _Space(operator, tuple(points))
        situation = Situation(self.machine, self.caches, self.scope.threads)
        chosen = Chooser(self.caches, self.scope.threads, self.model)(
            family, problem, points, self.machine
        )
        ranked = self.model.ranked(family, problem, points, situation)
        first = self.model.seconds(family, problem, [chosen], situation)[0]
        others = [point for point in ranked if point != chosen]
        return operator.uses * float(first), _Space(operator, (chosen, *others))

    def missing(self, space: _Space) -> list[Point]:
        """Points that have no time yet."""
        known = self.store.times(self.scope, space.operator.problem)
        return [point for point in space.points if point not in known]

    def outcomes(self, operators: Sequence[Operator]) -> list[Outcome]:
        """What is known now, the operators in the order of ``spaces``."""
        noises = self.store.noises(self.scope)
        usual = median(noises.values()) if noises else _UNKNOWN_NOISE
        return [
            self._outcome(space, max(usual, noises.get(space.operator.problem, usual)))
            for space in self.spaces(operators)
        ]

    def _outcome(self, space: _Space, noise: float) -> Outcome:
        known = self.store.times(self.scope, space.operator.problem)
        times = {point: known[point] for point in space.points if point in known}
        best = min(times, key=times.__getitem__) if times else space.points[0]
        return Outcome(
            space.operator, times.get(space.points[0]), times.get(best), best,
            len(times), len(space.points), noise,
        )  # fmt: skip

    def run(
        self,
        operators: Sequence[Operator],
        measurer: Measurer,
        until: Callable[[], bool],
        show: Show = silent,
    ) -> bool:
        """Measure what is missing; whether everything was measured before ``until()``.

        show: told of every point that was measured.
        """
        failed: set[Problem] = set()
        titles = {operator.problem: operator.title for operator in operators}
        for batch in self._batches(self.spaces(operators), failed):
            if until():
                return False
            found = measurer.measure(batch, self.scope.threads)
            for candidates, sample in zip(batch, found, strict=True):
                if sample is None:
                    failed.add(candidates.problem)
                else:
                    self._keep(sample)
                for _ in candidates.points[:-1]:
                    show(titles[candidates.problem])
        return True

    def _batches(
        self, spaces: Sequence[_Space], failed: set[Problem]
    ) -> Iterator[list[Candidates]]:
        """Points to measure together; asked again after every batch was kept."""
        start = 0
        while any(len(space.points) > start for space in spaces):
            batch: list[Candidates] = []
            for space in spaces:
                wanted = self._wanted(space, start)
                if wanted is not None and wanted.problem not in failed:
                    batch.append(wanted)
                if sum(len(candidates.points) for candidates in batch) >= _KERNELS_AT_ONCE:
                    yield batch
                    batch = []
            if batch:
                yield batch
            start += _POINTS_AT_ONCE

    def _wanted(self, space: _Space, start: int) -> Candidates | None:
        """The reference, what is missing of the points from ``start`` on, and it once more."""
        missing = set(self.missing(space)) & set(space.points[start : start + _POINTS_AT_ONCE])
        if not missing:
            return None
        others = [p for p in space.points[1:] if p in missing]
        return Candidates(space.operator.problem, (space.points[0], *others, space.points[0]))

    def _keep(self, sample: Sample) -> None:
        """Store the times, on the scale of the reference's first measurement, and the noise."""
        reference, (first, *others, again) = sample.points[0], sample.seconds
        now = min(first, again)
        known = self.store.times(self.scope, sample.problem).get(reference, now)
        scaled = tuple(seconds * known / now for seconds in (now, *others))
        points = sample.points[:-1]
        self.store.add(self.scope, Sample(sample.problem, sample.threads, points, scaled))
        self.store.add_noise(self.scope, sample.problem, max(first, again) / now - 1)


def budget(minutes: float | None, kept_seconds: float = 0.0) -> Callable[[], bool]:
    """Whether to stop: what comes until the next question, taken to last as long as the longest
    so far, would end later than ``minutes`` from now, or in the last ``kept_seconds`` of them.
    Never where there is no limit.
    """
    end = None if minutes is None else time.monotonic() + 60 * minutes - kept_seconds
    asked: list[float] = []

    def over() -> bool:
        asked.append(time.monotonic())
        longest = max((b - a for a, b in pairwise(asked)), default=0.0)
        return end is not None and asked[-1] + longest > end

    return over
