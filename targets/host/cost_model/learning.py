"""From a data set to a cost model, and to predictions of problems that were held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motet.targets.host.cost_model import training
from motet.targets.host.cost_model.dataset import DataSet, Host, Sample
from motet.targets.host.cost_model.features import Described, Situation, described
from motet.targets.host.cost_model.forest import Forest
from motet.targets.host.cost_model.model import CostModel
from motet.targets.host.cost_model.predictor import Predictor
from motet.targets.host.space import Family, Problem

FOLDS = 5
_FORESTS = 3
"""That choose together: the mean of forests of different seeds errs less than each."""
_NO_SHAPE = ("batch", "prologue", "constant", "reassociate", "block", "block_in", "block_out")
"""Sizes in which problems of one shape differ: these never straddle folds."""


@dataclass(frozen=True, eq=False)
class Group:
    """One sample, and its points in numbers, in their order."""

    sample: Sample
    points: Described

    @property
    def times(self) -> NDArray[np.float64]:
        """Measured, as log2 of seconds."""
        return np.asarray(np.log2(np.array(self.sample.seconds)))

    @property
    def target(self) -> NDArray[np.float64]:
        """What the forest of times learns: log2(seconds / ideal seconds)."""
        return np.asarray(self.times - np.log2(self.points.ideal))

    @property
    def choice(self) -> NDArray[np.float64]:
        """What the forest of choices learns: the same, less the problem's median."""
        return np.asarray(self.target - np.median(self.target))


def groups_of(data: DataSet, families: Mapping[str, Family]) -> list[Group]:
    """The samples with their features; points that the space no longer has are left out."""
    found = (_group(sample, data.host, families) for sample in data.samples)
    return [group for group in found if group is not None]


def _group(sample: Sample, host: Host, families: Mapping[str, Family]) -> Group | None:
    family, problem = families.get(sample.problem.family), sample.problem
    if family is None:
        return None
    legal = set(family.points(problem, host.machine))
    kept = {p: s for p, s in zip(sample.points, sample.seconds, strict=True) if p in legal}
    if not kept:
        return None
    situation = Situation(host.machine, host.caches, sample.threads)
    own = Sample(problem, sample.threads, tuple(kept), tuple(kept.values()))
    return Group(own, described(family, problem, own.points, situation))


def shape_of(problem: Problem) -> str:
    """What problems that are the same operator have in common."""
    sizes = [f"{name}={size}" for name, size in problem.sizes if name not in _NO_SHAPE]
    return f"{problem.family}:{','.join(sizes)}"


def fold_of(problem: Problem) -> int:
    """Which fold holds the problem out; the same for equal shapes, whatever else there is."""
    return int(hashlib.sha256(shape_of(problem).encode()).hexdigest(), 16) % FOLDS


def fit_family(groups: Sequence[Group]) -> Predictor:
    """The predictor of one family."""
    names = sorted({name for group in groups for row in group.points.rows for name in row})
    table = np.concatenate([group.points.table(names) for group in groups])
    choice = np.concatenate([group.choice for group in groups]).astype(np.float32)
    time = np.concatenate([group.target for group in groups]).astype(np.float32)
    weight = np.concatenate([_weight(group) for group in groups]).astype(np.float32)
    chosen_by = [
        training.fit(table, choice, weight, names, **training.CHOICE, seed=seed)
        for seed in range(_FORESTS)
    ]
    told_by = training.fit(table, time, np.ones_like(time), names, **training.TIME)
    return Predictor(Forest.averaged(chosen_by), told_by)


def _weight(group: Group) -> NDArray[np.float64]:
    """Points near the best of their problem count most: they are what a choice is between."""
    behind = group.times - group.times.min()
    return np.asarray(np.exp2(-2.0 * behind) + 0.3)


def by_family(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """The groups of every family, by name."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.sample.problem.family, []).append(group)
    return dict(sorted(found.items()))


def fit_families(groups: Iterable[Group]) -> dict[str, Predictor]:
    """A predictor for every family that there are groups of."""
    return {name: fit_family(own) for name, own in by_family(groups).items()}


def train(data: DataSet, families: Mapping[str, Family]) -> CostModel:
    """The model of everything that was measured."""
    return CostModel(data.host, fit_families(groups_of(data, families)))


def held_out(groups: Sequence[Group]) -> Iterator[tuple[Group, NDArray[np.float64]]]:
    """Every group of one family with the log2 of seconds that a model predicts which never saw
    its shape.
    """
    for fold in range(FOLDS):
        unseen = [group for group in groups if fold_of(group.sample.problem) == fold]
        seen = [group for group in groups if fold_of(group.sample.problem) != fold]
        if not unseen or not seen:
            continue
        predictor = fit_family(seen)
        for group in unseen:
            yield group, predictor.log_seconds(group.points)
