"""How well the model chooses for operators that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motet.targets.host.cost_model.dataset import DataSet
from motet.targets.host.cost_model.learning import Group, by_family, groups_of, held_out
from motet.targets.host.cost_model.model import preferred
from motet.targets.host.space import Family


@dataclass(frozen=True)
class Quality:
    """Figures of one family; problems with a single point are left out.

    rank_correlation: Spearman's, within a problem; median over problems. regret: time of the
    chosen point over the best measured one, less 1. speedup: time of the hand-written first
    point over the chosen one's. error: of the predicted time, median of the absolute value.
    """

    family: str
    problems: int
    points: int
    rank_correlation: float
    median_regret: float
    p95_regret: float
    first_median_regret: float
    first_p95_regret: float
    mean_speedup: float
    median_speedup: float
    median_error: float


LEAST_PROBLEMS = 10
"""Fewer held-out problems say nothing of a family."""


def is_worth_it(found: Quality) -> bool:
    """Whether the model's choices are better than the hand-written ones, on the whole."""
    return found.problems >= LEAST_PROBLEMS and found.mean_speedup > 1.0


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, values), np.searchsorted(ordered, values, "right")
    return (low + high - 1) / 2


def spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Spearman's rank correlation; 0 where one side is all the same."""
    a, b = ranks(left), ranks(right)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def quality(
    name: str, judged: Sequence[tuple[Group, NDArray[np.float64]]], first: Sequence[int]
) -> Quality:
    """Figures of ``judged`` groups; ``first`` is each one's index of the hand-written point."""
    seconds = [np.array(group.sample.seconds) for group, _ in judged]
    picked = [preferred(np.exp2(p), i) for (_, p), i in zip(judged, first, strict=True)]
    chosen = np.array([s[i] for s, i in zip(seconds, picked, strict=True)])
    best = np.array([s.min() for s in seconds])
    by_hand = np.array([s[i] for s, i in zip(seconds, first, strict=True)])
    correlations = [spearman(g.times, p) for g, p in judged]
    errors = np.concatenate([np.abs(np.exp2(p - g.times) - 1) for g, p in judged])
    return Quality(
        family=name,
        problems=len(judged),
        points=sum(map(len, seconds)),
        rank_correlation=float(np.median(correlations)),
        median_regret=float(np.median(chosen / best - 1)),
        p95_regret=float(np.percentile(chosen / best - 1, 95)),
        first_median_regret=float(np.median(by_hand / best - 1)),
        first_p95_regret=float(np.percentile(by_hand / best - 1, 95)),
        mean_speedup=float(np.exp(np.mean(np.log(by_hand / chosen)))),
        median_speedup=float(np.median(by_hand / chosen)),
        median_error=float(np.median(errors)),
    )


def report(data: DataSet, families: Mapping[str, Family]) -> list[Quality]:
    """Held-out quality, a line per family and one of all; the same for the same data."""
    everything: list[tuple[Group, NDArray[np.float64]]] = []
    firsts: list[int] = []
    found = list[Quality]()
    for name, groups in by_family(groups_of(data, families)).items():
        judged, first = list[tuple[Group, NDArray[np.float64]]](), list[int]()
        for group, predicted in held_out(groups):
            family, sample = families[name], group.sample
            by_hand = family.points(sample.problem, data.host.machine)[0]
            if len(sample.points) > 1 and by_hand in sample.points:
                judged.append((group, predicted))
                first.append(sample.points.index(by_hand))
        if judged:
            found.append(quality(name, judged, first))
            everything, firsts = everything + judged, firsts + first
    return [*found, quality("all", everything, firsts)] if everything else []
