"""How the groups of a stage share an array's pods: ``pod_shares`` on a description.

What a group takes on pods is asked of whoever estimates it, in any unit of time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from motet.passes.scheduling.pod_shares import (
    Shares,
    Times,
    counts_of,
    dealt,
    shared_by_count,
    shared_by_place,
    spread,
)
from motet.targets.systolic.architecture import ArrayDescription

CUTS = 16
"""Most parts that pods of several kinds are cut into."""

Member = TypeVar("Member", bound=Hashable)


@dataclass(frozen=True)
class PodSharing(Generic[Member]):
    """Shares of the pods of ``description`` among runs of members, one after another in each.

    time: of a run on pods. times: of a run on each number of ``counts`` pods, where they are of one
    kind; they never rise.
    """

    description: ArrayDescription
    time: Callable[[tuple[Member, ...], range], float]
    times: Callable[[tuple[Member, ...]], Times]

    @cached_property
    def is_uniform(self) -> bool:
        """Whether all pods are of one kind."""
        return len(self.description.pods) == 1

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Numbers of pods that runs may get."""
        return counts_of(self.description.pod_count)

    @cached_property
    def _cuts(self) -> tuple[int, ...]:
        """Between which pods a run may end and the next begin."""
        count = self.description.pod_count
        if self.is_uniform:
            return tuple(range(count + 1))
        kinds = {self.description.first_of(number) for number in range(len(self.description.pods))}
        even = {round(count * i / CUTS) for i in range(CUTS + 1)}
        return tuple(sorted(kinds | even))

    def runs(self, groups: Sequence[tuple[Member, ...]]) -> list[tuple[Member, ...]]:
        """The groups, longest first; as ``dealt`` has them."""
        everything = range(self.description.pod_count)
        return self.dealt(sorted(groups, key=lambda run: -self.time(run, everything)))

    def dealt(self, runs: list[tuple[Member, ...]]) -> list[tuple[Member, ...]]:
        """``runs``, or fewer, one after another, where there are more than parts of the pods."""
        parts = len(self._cuts) - 1
        if len(runs) <= parts:
            return runs
        turns = dealt(runs, parts, lambda run: self.time(run, range(1)))
        return [tuple(member for i in turn for member in runs[i]) for turn in turns]

    def least(self, runs: Sequence[tuple[Member, ...]]) -> Shares:
        """Pods of each run, so that they end together, and of one kind no more than that takes; no
        more runs than ``dealt`` leaves.
        """
        if self.is_uniform:
            return shared_by_count([self.times(run) for run in runs], self.counts)
        return shared_by_place(runs, self._cuts, self.time)

    def handed_out(self, runs: Sequence[tuple[Member, ...]]) -> Shares:
        """As ``least``, with pods of one kind that no run needs handed out too."""
        found = self.least(runs)
        if not self.is_uniform:
            return found
        return spread(found, [self.times(run) for run in runs], self.counts)

    def least_of_all(self, run: tuple[Member, ...]) -> float:
        """The least share of all pods' time that a run takes; of several kinds nothing is known."""
        if not self.is_uniform:
            return 0.0
        times = zip(self.counts, self.times(run), strict=True)
        return min(n * t for n, t in times) / self.description.pod_count
