"""The kinds of timetables, and the best of each.

* ``time``: a stage has the whole array; models take turns at the ends of stages.
* ``space``: every model has pods of its own for the whole hyperperiod.
* ``both``: groups of models have pods of their own; or every stage gets, where and when it begins,
  as many pods as its model has in this timetable; and stages of two models released together
  may be one program on all pods (a joint stage).

The best costs least (``placing``: misses, the largest share of a deadline used, energy, latencies);
of equal ones the simplest. ``both`` has the other two among its starts: it never costs more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from motet.runtime.errors import SpecError
from motet.targets.sharing.asked import overload_text, share_text
from motet.targets.timetables.bounds import Bounds, bounds
from motet.targets.timetables.exact import search
from motet.targets.timetables.improve import (
    PLACEMENTS,
    Candidate,
    found_by_chance,
    improved,
    placed,
)
from motet.targets.timetables.jobs import Problem
from motet.targets.timetables.late_frames import fewest_late
from motet.targets.timetables.list_order import RULES, list_starts
from motet.targets.timetables.placing import Cost, Layout, Place, Placer, Table
from motet.targets.timetables.quotas import asks_too_much, over_share, refuse_demand
from motet.targets.timetables.regions import best_division, counts_of_problem, layout_of

KINDS = ("time", "space", "both")
EXACT_STAGES = 40
"""Branch and bound is tried up to so many stages of a hyperperiod."""

NEAR = 1e-6
MOST_LAYOUTS = 256
"""Numbers of pods of all models that are tried where no rule finds a timetable."""

Show = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Found:
    """The best timetable of a kind; None, and why, where there is none.

    proved: nothing of this kind has fewer late frames, by priority, and where none is late nothing
    uses a smaller largest share of a deadline.
    """

    kind: str
    candidate: Candidate | None
    bounds: Bounds
    proved: bool = False
    why: str = ""

    @property
    def table(self) -> Table | None:
        """The timetable."""
        return None if self.candidate is None else self.candidate.table


def timetables(
    problem: Problem,
    kinds: Sequence[str] = KINDS,
    placements: int = PLACEMENTS,
    show: Show = lambda line: None,
) -> list[Found]:
    """The best of each of ``kinds``, in the order of ``KINDS``.

    Raises ``SpecError`` where a model's frames are beyond its share of the time.
    """
    refuse_demand(problem)
    maker = _Maker(problem, placements)
    found = []
    for kind in KINDS:
        if kind in kinds:
            show(kind)
            found.append(maker.kind(kind))
    return found


def best_of(found: Sequence[Found]) -> Found:
    """The one of least cost; raises ``SpecError``, by how much, where there is none."""
    made = [one for one in found if one.table is not None]
    if made:
        return min(made, key=lambda one: (_cost(one), KINDS.index(one.kind)))
    for one in reversed(found):
        over = one.bounds.overload
        if over:
            parts = [f"at least {overload_text(share, name)}" for name, share in over]
            raise SpecError(
                f"no timetable: the rates ask for {' and '.join(parts)}; give models lower rates "
                f"(all of them {1 / max(share for _, share in over):.3g} of these, or less)"
            )
    whys = "; ".join(f"{one.kind}: {one.why}" for one in found)
    raise SpecError(
        f"no timetable was found in which every frame has its place ({whys}): give the models "
        "lower rates, or ask for another kind"
    )


def _cost(found: Found) -> tuple[object, ...]:
    assert found.table is not None
    return found.table.cost


class _Maker:
    def __init__(self, problem: Problem, placements: int) -> None:
        self.problem, self.placements = problem, placements
        self.whole = bounds(problem, whole_only=True)
        self.any = bounds(problem)
        self.counts = counts_of_problem(problem)
        self.made: dict[str, Found] = {}

    def kind(self, kind: str) -> Found:
        """The best of a kind, made once."""
        if kind not in self.made:
            made = {"time": self._time, "space": self._space, "both": self._both}[kind]()
            self.made[kind] = made
        return self.made[kind]

    def _time(self) -> Found:
        layout = Layout((Place(self.problem.pods, 0),) * len(self.problem.loads))
        candidate, complete = self._best_order(layout, self.whole)
        return self._found("time", candidate, self.whole, complete)

    def _space(self) -> Found:
        models, pods = len(self.problem.loads), self.problem.pods
        if pods < models:
            return Found("space", None, self.any, why=f"{models} models, and pods: {pods}")
        if len(self.counts) < 2:
            return Found("space", None, self.any, why="no times on fewer pods are known")
        division = best_division(self.problem, apart=True)
        if division is None:
            return Found("space", None, self.any, why="some model does not keep up on its pods")
        candidate, _ = self._best_order(layout_of(self.problem, division), self.any)
        return self._found("space", candidate, self.any, False)

    def _both(self) -> Found:
        if len(self.counts) < 2 and not self.problem.joints:
            return Found("both", None, self.any, why="no times on fewer pods, and no joints")
        starts = [self.kind("time").candidate, self.kind("space").candidate]
        division = best_division(self.problem)
        if division is not None:
            starts.append(self._best_order(layout_of(self.problem, division), self.any)[0])
        starts += self._free_starts(starts)
        known = [one for one in starts if one is not None] or self._by_chance(self._layouts())
        if not known:
            return self._found("both", None, self.any, False)
        best = min(known, key=_rank)
        free = [one for one in known if any(p.first is None for p in one.layout.places)]
        begun = min(free, key=_rank) if free else best
        after = improved(begun, self.counts, self.placements, self._enough(self.any))
        return self._found("both", min((best, after), key=_rank), self.any, False)

    def _free_starts(self, fixed: Sequence[Candidate | None]) -> list[Candidate | None]:
        """Shares that may lie anywhere: as many pods as in ``fixed``, or equal; with joints."""
        found: list[Candidate | None] = []
        for one in fixed:
            if one is not None:
                places = tuple(Place(place.pods) for place in one.layout.places)
                found.append(placed(self.problem, Layout(places), one.keys))
        whole = Layout((Place(self.problem.pods),) * len(self.problem.loads))
        keys = list_starts(Placer(self.problem, whole), RULES[0])
        for count in self.counts:
            layout = Layout((Place(count),) * len(self.problem.loads))
            found.append(placed(self.problem, layout, keys))
        joints = range(len(self.problem.joints))
        together = [frozenset({number}) for number in joints] + [frozenset(joints)]
        return found + [
            placed(self.problem, replace(whole, fused=fused), keys) for fused in together if fused
        ]

    def _best_order(self, layout: Layout, least: Bounds) -> tuple[Candidate | None, bool]:
        """The best order of a layout; whether nothing of this layout costs less."""
        placer = Placer(self.problem, layout)
        tried = [placed(self.problem, layout, list_starts(placer, rule)) for rule in RULES]
        known = [one for one in tried if one is not None]
        best = min(known, key=_rank) if known else None
        if len(self.problem.stages) <= EXACT_STAGES:
            is_kept = best is not None and not best.rank[0]
            done = search(placer, best.table.cost if best is not None and is_kept else None)
            if done.keys is not None:
                made = placed(self.problem, layout, done.keys)
                best = made if made is not None else best
            if done.complete and best is not None and not best.rank[0] and not best.table.missed:
                return best, True  # late frames might have gone on in the next hyperperiod
        if asks_too_much(placer):
            return best, False
        for one in [best] if best is not None else self._by_chance([layout]):
            best = improved(one, (), self.placements, self._enough(least))
        return best, self._is_fewest(placer, best)

    def _is_fewest(self, placer: Placer, best: Candidate | None) -> bool:
        """Whether it is proved that a timetable with late frames has no more than it must."""
        if best is None or best.rank[0] or not best.table.missed:
            return False
        few = len(self.problem.stages) <= EXACT_STAGES
        return few and fewest_late(placer, best.table.cost[0])

    def _layouts(self) -> list[Layout]:
        """Shares that may lie anywhere: all numbers of pods of all models, or some of them."""
        models = len(self.problem.loads)
        each = itertools.product(reversed(self.counts), repeat=models)
        return [Layout(tuple(map(Place, pods))) for pods in itertools.islice(each, MOST_LAYOUTS)]

    def _by_chance(self, layouts: Sequence[Layout]) -> list[Candidate]:
        """A timetable that no rule found, where there is time enough for all stages."""
        if self.any.overload:
            return []
        found = found_by_chance(self.problem, layouts, self.placements)
        return [] if found is None else [found]

    def _enough(self, least: Bounds) -> Callable[[Table], bool]:
        return lambda table: _meets(table, least)

    def _found(
        self, kind: str, candidate: Candidate | None, least: Bounds, complete: bool
    ) -> Found:
        if candidate is None:
            over = ", ".join(f"{share_text(share)} of the {name}" for name, share in least.overload)
            why = f"the rates ask for {over}" if over else "some stage finds no place"
            return Found(kind, None, least, why=why)
        if (beyond := over_share(candidate.table)) is not None:
            return Found(kind, None, least, why=beyond)
        proved = complete or _meets(candidate.table, least)
        return Found(kind, candidate, least, proved)


def _rank(one: Candidate) -> tuple[int, Cost]:
    return one.rank


def _meets(table: Table, least: Bounds) -> bool:
    is_least = table.missed <= least.missed and table.cost[1] <= least.used * (1 + NEAR)
    return is_least and over_share(table) is None
