"""How far measurements of the same points differ: what no model can foresee.

Regret is told against the point of the least measured time. Where many points are nearly as
quick, that one is partly the luckiest; the regret of a measurement's best point, judged by
another measurement, is what a perfect choice would seem to lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motet.targets.host.cost_model.dataset import Sample
from motet.targets.host.space import Problem


@dataclass(frozen=True)
class Noise:
    """pairs: of measurements of one problem. difference: of a point's two times, from the median
    difference of its problem's points. regret: of the one's best point, by the other. Shares.
    """

    pairs: int
    median_difference: float
    p95_difference: float
    median_regret: float
    p95_regret: float


def noise_of(samples: Sequence[Sample]) -> Noise | None:
    """Noise of the first two measurements of every problem that has two, each way; None
    where none has.
    """
    found: dict[tuple[Problem, int], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.problem, sample.threads), []).append(sample)
    pairs = [(own[0], own[1]) for own in found.values() if len(own) > 1]
    pairs = [(a, b) for a, b in pairs if a.points == b.points and len(a.points) > 1]
    if not pairs:
        return None
    times = [(np.array(a.seconds), np.array(b.seconds)) for a, b in pairs]
    differences = np.concatenate([_differences(a, b) for a, b in times])
    regrets = [r for a, b in times for r in (_regret(a, b), _regret(b, a))]
    return Noise(
        len(pairs), *(float(v) for v in np.percentile(differences, (50, 95))),
        *(float(v) for v in np.percentile(regrets, (50, 95))),
    )  # fmt: skip


def _differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio = np.log(a / b)
    return np.asarray(np.expm1(np.abs(ratio - np.median(ratio))))


def _regret(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(b[np.argmin(a)] / b.min() - 1)
