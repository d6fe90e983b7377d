"""Boosted regression trees as plain arrays, evaluated with numpy.

A prediction is what xgboost's own predictor gives, without the package: a value less than
the threshold goes left, and the leaves' float32 values are added in the order of the trees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIELDS = ("feature", "threshold", "left", "right", "value")


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees over columns ``names``; arrays are [trees][nodes], padded with leaves.

    feature: the column that a node looks at, -1 for a leaf. threshold: float32. left, right:
    nodes of the same tree. value: float32, a leaf's. base: what every sum begins with.
    """

    names: tuple[str, ...]
    base: np.float32
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    value: NDArray[np.float32]

    def predict(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """The sums of the leaves that the rows of ``table`` [rows][names] fall into."""
        trees = np.arange(self.feature.shape[0])[None, :]
        rows = np.arange(len(table))[:, None]
        node = np.zeros((len(table), self.feature.shape[0]), np.int16)
        while True:
            column = self.feature[trees, node]
            inner = column >= 0
            if not inner.any():
                break
            goes_left = table[rows, np.maximum(column, 0)] < self.threshold[trees, node]
            child = np.where(goes_left, self.left[trees, node], self.right[trees, node])
            node = np.where(inner, child, node)
        total = np.full(len(table), self.base, np.float32)
        for leaf in self.value[trees, node].T:
            total += leaf
        return total

    @classmethod
    def averaged(cls, forests: Sequence[Forest]) -> Forest:
        """One forest that predicts the mean of ``forests``, over the same columns."""
        nodes = max(forest.feature.shape[1] for forest in forests)

        def together(name: str, filling: int = 0) -> NDArray[Any]:
            parts = [getattr(forest, name) for forest in forests]
            rows = [
                np.pad(part, ((0, 0), (0, nodes - part.shape[1])), constant_values=filling)
                for part in parts
            ]
            return np.concatenate(rows)

        base = np.float32(np.mean([forest.base for forest in forests]))
        value = (together("value") / len(forests)).astype(np.float32)
        return cls(
            forests[0].names, base, together("feature", -1), together("threshold"),
            together("left"), together("right"), value,
        )  # fmt: skip

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The forest as named arrays, for a file of arrays."""
        head = json.dumps({"names": self.names, "base": float(self.base)})
        content: dict[str, NDArray[Any]] = {f"{name}": getattr(self, name) for name in _FIELDS}
        content["head"] = np.frombuffer(head.encode(), np.uint8)
        return {f"{prefix}.{name}": array for name, array in content.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Forest:
        """What ``arrays`` wrote."""
        head = json.loads(arrays[f"{prefix}.head"].tobytes())
        parts = [arrays[f"{prefix}.{name}"] for name in _FIELDS]
        return cls(tuple(head["names"]), np.float32(head["base"]), *parts)
