"""Predicts the time of a point, and ranks the points of a problem.

One predictor per family: knobs and sizes mean different things in different families. Only
machines whose vectors are as wide as those of the measured one are predicted: on others a knob
such as the rows of a tile means something else.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from motet.targets.host.cost_model.dataset import DataSet, Host, host_of, unpacked
from motet.targets.host.cost_model.features import Situation, described
from motet.targets.host.cost_model.predictor import Predictor
from motet.targets.host.machine import Machine
from motet.targets.host.space import Family, Point, Problem

MODEL_FILE = "model.npz"
DATA_FILE = "data.json.gz"


_MARGIN = 1.03


def preferred(seconds: NDArray[np.float64], first: int = 0) -> int:
    """Which point to choose by predicted ``seconds``: the quickest, but the hand-written one,
    at index ``first``, where the prediction is too close to tell.
    """
    best = int(np.argmin(seconds))
    return best if seconds[first] > _MARGIN * seconds[best] else first


@dataclass(frozen=True, eq=False)
class CostModel:
    """host: what it was measured on. predictors: by family."""

    host: Host
    predictors: Mapping[str, Predictor]

    def knows(self, family: Family, machine: Machine) -> bool:
        """Whether points of ``family`` on ``machine`` can be predicted."""
        same = (machine.arch, machine.vector_bytes) == (self.host.arch, self.host.vector_bytes)
        return same and family.name in self.predictors

    def seconds(
        self, family: Family, problem: Problem, points: Sequence[Point], situation: Situation
    ) -> NDArray[np.float64]:
        """Predicted seconds of ``points``; the family must be one that it ``knows``."""
        found = described(family, problem, points, situation)
        return np.asarray(np.exp2(self.predictors[family.name].log_seconds(found)))

    def chosen(
        self, family: Family, problem: Problem, points: Sequence[Point], situation: Situation
    ) -> Point:
        """The point to compile with; ``points`` begin with the hand-written one."""
        return points[preferred(self.seconds(family, problem, points, situation))]

    def ranked(
        self, family: Family, problem: Problem, points: Sequence[Point], situation: Situation
    ) -> list[Point]:
        """``points``, the quickest first; equal ones keep their order."""
        order = np.argsort(self.seconds(family, problem, points, situation), kind="stable")
        return [points[i] for i in order]

    def content(self) -> bytes:
        """The model as a file; equal models give equal bytes."""
        head = json.dumps({"host": asdict(self.host), "families": sorted(self.predictors)})
        arrays = {"head": np.frombuffer(head.encode(), np.uint8)}
        for name in sorted(self.predictors):
            arrays |= self.predictors[name].arrays(name)
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def from_content(cls, content: bytes) -> CostModel:
        """What ``content`` gave."""
        with np.load(io.BytesIO(content)) as arrays:
            head = json.loads(arrays["head"].tobytes())
            parts = {name: Predictor.from_arrays(arrays, name) for name in head["families"]}
        return cls(host_of(head["host"]), parts)


@cache
def shipped_model() -> CostModel:
    """The model that comes with the package."""
    return CostModel.from_content(_shipped(MODEL_FILE))


def shipped_data() -> DataSet:
    """What the shipped model was trained on."""
    return unpacked(_shipped(DATA_FILE))


def _shipped(name: str) -> bytes:
    return files("motet.targets.host.cost_model").joinpath(name).read_bytes()
