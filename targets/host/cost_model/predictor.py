"""Predicts the times of a problem's points by two forests.

Which point is quickest and how long a problem takes are learned apart. ``choice`` is trained on
times relative to the median of their problem: the error of a problem's level, large where an
operator is unlike those measured, does not disturb the order of its points. ``time`` is trained
on the times themselves and gives the level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.host.cost_model.features import Described
from motet.targets.host.cost_model.forest import Forest


@dataclass(frozen=True, eq=False)
class Predictor:
    """choice: of log2(seconds / ideal seconds) less the problem's median; time: of that itself."""

    choice: Forest
    time: Forest

    def log_seconds(self, points: Described) -> NDArray[np.float64]:
        """log2 of the seconds of each of a problem's points."""
        choice, time = (
            forest.predict(points.table(forest.names)).astype(np.float64)
            for forest in (self.choice, self.time)
        )
        level = float(np.mean(time - choice)) if len(choice) else 0.0
        return np.asarray(choice + level + np.log2(points.ideal))

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The predictor as named arrays, for a file of arrays."""
        return {**self.choice.arrays(f"{prefix}.choice"), **self.time.arrays(f"{prefix}.time")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Predictor:
        """What ``arrays`` wrote."""
        return cls(*(Forest.from_arrays(arrays, f"{prefix}.{name}") for name in ("choice", "time")))
