"""Which point of its schedule space a kernel is compiled with.

First what was measured on this machine (``motet tune``), then what the learned cost model
ranks first, then, for families and machines that the model does not know, the hand-written
choice. Measuring is never needed, and the same model and data base give the same choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from motet.targets.host.cost_model.dataset import this_host
from motet.targets.host.cost_model.features import Situation
from motet.targets.host.cost_model.model import CostModel, shipped_model
from motet.targets.host.machine import Caches, Machine, native_caches
from motet.targets.host.space import Family, Point, Problem, first_point
from motet.targets.host.tuned_model import tuned_model
from motet.targets.host.tuning_store import Scope, TuningStore, scope_of, store_of_environment

MEASURED, PREDICTED, BY_HAND = "measured", "predicted", "by hand"

_only_by_hand: ContextVar[bool] = ContextVar("only_by_hand", default=False)


@contextmanager
def choosing_by_hand() -> Iterator[None]:
    """Compilations within it take the hand-written points, to compare others with."""
    token = _only_by_hand.set(True)
    try:
        yield
    finally:
        _only_by_hand.reset(token)


@dataclass
class Chooser:
    """A selector (``space.selecting``) that remembers what it chose, and by what.

    threads: what one call may use. store: measured times, of which those in ``scope`` count.
    """

    caches: Caches
    threads: int
    model: CostModel | None
    store: TuningStore | None = None
    scope: Scope | None = None
    _chosen: dict[Problem, tuple[Point, str]] = field(default_factory=dict)

    def __call__(
        self, family: Family, problem: Problem, points: Sequence[Point], machine: Machine
    ) -> Point:
        """The point to compile with."""
        if problem not in self._chosen:
            self._chosen[problem] = self._choice(family, problem, points, machine)
        return self._chosen[problem][0]

    def _choice(
        self, family: Family, problem: Problem, points: Sequence[Point], machine: Machine
    ) -> tuple[Point, str]:
        measured = self._measured(problem, points)
        if measured is not None:
            return measured, MEASURED
        if len(points) > 1 and self.model is not None and self.model.knows(family, machine):
            situation = Situation(machine, self.caches, self.threads)
            return self.model.chosen(family, problem, points, situation), PREDICTED
        return first_point(family, problem, points, machine), BY_HAND

    def _measured(self, problem: Problem, points: Sequence[Point]) -> Point | None:
        """The best of the points that were measured, of those that are still legal."""
        if self.store is None or self.scope is None:
            return None
        times = self.store.times(self.scope, problem)
        known = [point for point in points if point in times]
        return min(known, key=times.__getitem__) if known else None

    @property
    def summary(self) -> str:
        """What the choices were made by, in one line."""
        by = [how for _, how in self._chosen.values()]
        return (
            f"{len(by)} settings: {by.count(MEASURED)} measured on this machine, "
            f"{by.count(PREDICTED)} by the cost model, {by.count(BY_HAND)} by hand"
        )


def chooser_for(native: bool, threads: int | None, cores: int, tuned: bool = True) -> Chooser:
    """The chooser of a compilation.

    Parameters
    ----------
    native : bool
        Whether the kernels are for the machine at hand; for any other, its caches are not
        known, and what was measured here says nothing.
    threads : int, optional
        Threads of a kernel call; all ``cores`` where absent.
    tuned : bool
        Whether to use what ``motet tune`` found.
    """
    threads = threads or cores
    if _only_by_hand.get():
        return Chooser(Caches(), threads, None)
    if not native:
        return Chooser(Caches(), threads, shipped_model())
    store = store_of_environment() if tuned else None
    if store is None:
        return Chooser(native_caches(), threads, shipped_model())
    scope = scope_of(this_host(), threads)
    model = tuned_model(store.path.parent, scope) or shipped_model()
    return Chooser(native_caches(), threads, model, store, scope)
