"""Schedule spaces as data: what a kernel must compute, and the ways its family knows to do it.

A kernel family describes its operator as a ``Problem`` (a few integers; equal problems have
equal spaces) and lists ``Point``s, the settings of its loop nest that are legal for it on a
machine. ``choose`` picks one: the point that was forced (measurements, tests), else the one
that the selector in force prefers, else the first, which is the family's hand-written choice.
``describe`` says in numbers what a point's nest does; a cost model learns from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from motet.targets.host.machine import Machine


@dataclass(frozen=True)
class Problem:
    """An operator of kernel family ``family`` as named integers, sorted by name.

    An extent that is known only at run time is -1.
    """

    family: str
    sizes: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, family: str, **sizes: int) -> Problem:
        """The problem with these sizes."""
        return cls(family, tuple(sorted(sizes.items())))

    def __getitem__(self, name: str) -> int:
        return dict(self.sizes)[name]

    @property
    def key(self) -> str:
        """One line that identifies the problem: ``family:a=1,b=2``."""
        return f"{self.family}:" + ",".join(f"{name}={size}" for name, size in self.sizes)


@dataclass(frozen=True)
class Point:
    """One setting of every knob of a family's schedule space, sorted by name."""

    knobs: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, **knobs: int) -> Point:
        """The point with these settings."""
        return cls(tuple(sorted(knobs.items())))

    def __getitem__(self, name: str) -> int:
        return dict(self.knobs)[name]

    @property
    def key(self) -> str:
        """One line that identifies the point within a problem's space: ``a=1,b=2``."""
        return ",".join(f"{name}={value}" for name, value in self.knobs)


@dataclass(frozen=True)
class Nest:
    """What a loop nest does, in numbers; bytes and operations of the whole kernel.

    flops: arithmetic that the operator asks for; executed_flops: with what tails and
    transforms add. accumulators: vectors kept in registers; vector_loads, broadcasts: of one
    step of the reduction; steps: steps of one register tile's reduction.
    inner_bytes: read again and again by the innermost sweep (first-level cache);
    block_bytes: by a task (second-level cache). read_bytes, weight_bytes, written_bytes: of
    memory outside, each byte once; copied_bytes: through scratch memory; streamed_bytes: what
    all sweeps read together. tasks: parallel trip count; launches: parallel loops.
    traits: what only nests of the family have, by name. cycles: of one core by the family's own
    arithmetic, 0 where it has none.
    """

    flops: float
    executed_flops: float
    accumulators: int
    vector_loads: float
    broadcasts: float
    steps: float
    inner_bytes: float
    block_bytes: float
    read_bytes: float
    weight_bytes: float
    written_bytes: float
    copied_bytes: float
    streamed_bytes: float
    tasks: int
    launches: int
    lanes: int
    traits: tuple[tuple[str, float], ...] = ()
    cycles: float = 0.0


def alignment(step: int) -> float:
    """Exponent of the power of two that divides ``step``, up to a page's: the larger, the fewer
    sets of a cache hold what lies ``step`` bytes apart. For traits.
    """
    return float(min(12, (step & -step).bit_length() - 1)) if step else 0.0


@dataclass(frozen=True)
class Family:
    """A kernel family's schedule space.

    points: every legal point of a problem on a machine, the hand-written choice first.
    describe: what the nest of a point does.
    """

    name: str
    points: Callable[[Problem, Machine], Sequence[Point]]
    describe: Callable[[Problem, Point, Machine], Nest]


Selector = Callable[[Family, Problem, Sequence[Point], Machine], Point]
"""Picks one of the points of a problem."""


def first_point(
    _family: Family, _problem: Problem, points: Sequence[Point], _machine: Machine
) -> Point:
    """The hand-written choice."""
    return points[0]


_selector: ContextVar[Selector] = ContextVar("selector", default=first_point)
_forced: ContextVar[Mapping[Problem, Point] | None] = ContextVar("forced", default=None)


@contextmanager
def selecting(selector: Selector) -> Iterator[None]:
    """Within it, ``choose`` asks ``selector``."""
    token = _selector.set(selector)
    try:
        yield
    finally:
        _selector.reset(token)


@contextmanager
def forced(points: Mapping[Problem, Point]) -> Iterator[None]:
    """Within it, ``choose`` gives these problems these points."""
    token = _forced.set({**(_forced.get() or {}), **points})
    try:
        yield
    finally:
        _forced.reset(token)


def choose(family: Family, problem: Problem, machine: Machine) -> Point:
    """The point that a kernel for ``problem`` is made with."""
    point = (_forced.get() or {}).get(problem)
    if point is not None:
        return point
    return _selector.get()(family, problem, family.points(problem, machine), machine)
