"""Kernels that were compiled at one time, to be measured at another.

Compiling takes many times as long as measuring, and a machine that measures should do nothing
else. A folder holds numbered pairs of a library and what to time in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from motet.targets.host.cost_model.stopwatch import Contest
from motet.targets.host.space import Point, Problem


@dataclass(frozen=True)
class Candidates:
    """A problem and the points of it to measure."""

    problem: Problem
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Prepared:
    """A library, and the contest of each of its problems."""

    batch: tuple[Candidates, ...]
    contests: tuple[Contest, ...]
    library: Path


class _Stored(msgspec.Struct, frozen=True):
    """A contest in a file: family, sizes, knobs of each point."""

    family: str
    sizes: dict[str, int]
    points: list[dict[str, int]]
    contest: Contest


def keep(prepared: Prepared, folder: Path, name: str) -> None:
    """Write ``prepared`` into ``folder``; what is there is whole, whenever this is stopped."""
    stored = [
        _Stored(c.problem.family, dict(c.problem.sizes), [dict(p.knobs) for p in c.points], contest)
        for c, contest in zip(prepared.batch, prepared.contests, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.so").write_bytes(prepared.library.read_bytes())
    unfinished = folder / f"{name}.part"
    unfinished.write_bytes(msgspec.json.encode(stored))
    unfinished.replace(folder / f"{name}.json")


def kept(folder: Path) -> Iterator[Prepared]:
    """What ``folder`` holds, in the order of names."""
    for path in sorted(folder.glob("*.json")):
        stored = msgspec.json.decode(path.read_bytes(), type=list[_Stored])
        batch = tuple(
            Candidates(Problem.of(s.family, **s.sizes), tuple(Point.of(**k) for k in s.points))
            for s in stored
        )
        yield Prepared(batch, tuple(s.contest for s in stored), path.with_suffix(".so"))
