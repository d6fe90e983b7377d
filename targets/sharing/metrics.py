"""How well models share a machine, in the field's measures.

``turnaround`` of a frame: from when all that it follows had ended, to its end; ``alone``: the
sum of its stages, its turnaround on a machine of its own.

normalised turnaround of a model = mean turnaround / alone
ANTT = its mean over models, at least 1; STP = the sum of its inverses, at most their number
(Eyerman and Eeckhout, "System-level performance metrics for multiprogram workloads", IEEE Micro
2008); fairness = the least inverse / the largest, 0 to 1 (Gabor et al., MICRO 2006).

XRBench (Kwon et al., MLSys 2023), per model: real-time score of a frame that ends ``late`` ms
after its deadline (before: below 0), 1 / (1 + e^(15 late)); energy score of a frame of E mJ,
(1500 - E) / 1500, here not below 0; QoE = 1 - drop rate. The model's score is the mean of
real-time x energy over its finished frames, times QoE: so a drop counts once. The overall score
is 100 x the mean over models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motet.targets.sharing.outcome import ModelOutcome, Outcome

STEEPNESS_PER_MS = 15.0
"""XRBench's k: how hard lateness is judged."""

MOST_MILLIJOULES = 1500.0
"""XRBench's energy of one frame that scores 0."""


@dataclass(frozen=True)
class ModelScores:
    """XRBench's scores of one model, 0 to 1, and its normalised turnaround (None: no frame ended).

    met: share of released frames that were not missed. real_time: None without deadlines;
    energy: None where none is known; score: None where one of them is, 0 where no frame ended.
    """

    normalised_turnaround: float | None
    met: float | None
    real_time: float | None
    energy: float | None
    qoe: float | None
    score: float | None


@dataclass(frozen=True)
class Scores:
    """All models together; one of which no frame was over is left out.

    stp, antt, fairness: None where all frames of a model were dropped.
    """

    stp: float | None
    antt: float | None
    fairness: float | None
    xrbench: float | None
    models: tuple[ModelScores, ...]


def scores(outcome: Outcome, energy_known: bool = True) -> Scores:
    """The measures of one simulation."""
    models = tuple(_scores(model, outcome, energy_known) for model in outcome.models)
    over = [m for m, o in zip(models, outcome.models, strict=True) if o.finished + o.dropped]
    slowed = [model.normalised_turnaround for model in over]
    known = [value for value in slowed if value is not None]
    overall = [model.score for model in over]
    judged = [score for score in overall if score is not None]
    complete = bool(known) and len(known) == len(slowed)
    return Scores(
        stp=sum(1 / value for value in known) if complete else None,
        antt=sum(known) / len(known) if complete else None,
        fairness=min(known) / max(known) if complete else None,
        xrbench=100 * sum(judged) / len(judged) if judged and judged == overall else None,
        models=models,
    )


def real_time_scores(late_seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """XRBench's real-time scores of frames, 0 to 1; float64 as ``late_seconds``."""
    steps = STEEPNESS_PER_MS * 1e3 * late_seconds
    return np.asarray(1 / (1 + np.exp(np.clip(steps, -700, 700))))


def energy_score(joules: float) -> float:
    """XRBench's energy score of a frame."""
    return max(0.0, (MOST_MILLIJOULES - 1e3 * joules) / MOST_MILLIJOULES)


def _scores(model: ModelOutcome, outcome: Outcome, energy_known: bool) -> ModelScores:
    timed = bool(model.late) or model.load.deadline_seconds is not None
    timed = timed or model.load.rate_hz is not None
    over = model.finished + model.dropped
    qoe = model.finished / over if over else None
    real_time = float(real_time_scores(outcome.seconds(model.late)).mean()) if model.late else None
    energy = energy_score(model.load.joules) if energy_known else None
    alone = model.load.ticks
    return ModelScores(
        normalised_turnaround=_mean(model.turnaround) / alone if model.finished and alone else None,
        met=1 - model.missed / model.released if timed and model.released else None,
        real_time=real_time,
        energy=energy,
        qoe=qoe,
        score=_score(real_time, energy, qoe, timed),
    )


def _score(
    real_time: float | None, energy: float | None, qoe: float | None, timed: bool
) -> float | None:
    """Every frame of a model takes the same energy, so the mean of the products is a product."""
    if energy is None or qoe is None or not timed:
        return None
    return 0.0 if real_time is None else real_time * energy * qoe


def _mean(values: Sequence[int]) -> float:
    return math.fsum(values) / len(values)
