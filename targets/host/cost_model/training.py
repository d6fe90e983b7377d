"""Fits forests with xgboost, which only this module needs (``motet[tune]``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import EnvironmentLackError
from motet.targets.host.cost_model.forest import Forest

SETTINGS = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "max_depth": 6,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
    "min_child_weight": 3.0,
    "lambda": 1.0,
    "seed": 0,
    "nthread": 1,
}
CHOICE: Mapping[str, Any] = {"rounds": 400, "eta": 0.05}
TIME: Mapping[str, Any] = {"rounds": 150, "eta": 0.1}


def xgboost_module() -> Any:
    """The package; ``EnvironmentLackError`` says how to get it."""
    try:
        import xgboost
    except ImportError as error:
        raise EnvironmentLackError(
            "training the cost model needs the package 'xgboost-cpu': pip install 'motet[tune]'"
        ) from error
    return xgboost


def fit(
    table: NDArray[np.float32], target: NDArray[np.float32], weight: NDArray[np.float32],
    names: Sequence[str], *, rounds: int, **settings: Any,
) -> Forest:  # fmt: skip
    """The forest for ``target`` [rows] given ``table`` [rows][names]; the same every time."""
    booster = fit_booster(table, target, weight, rounds=rounds, **settings)
    return to_forest(booster, names)


def fit_booster(
    table: NDArray[np.float32], target: NDArray[np.float32], weight: NDArray[np.float32],
    *, rounds: int, **settings: Any,
) -> Any:  # fmt: skip
    """An ``xgboost.Booster``."""
    xgboost = xgboost_module()
    data = xgboost.DMatrix(table, target, weight=weight)
    return xgboost.train({**SETTINGS, **settings}, data, num_boost_round=rounds)


def to_forest(booster: Any, names: Sequence[str]) -> Forest:
    """The booster's trees as arrays."""
    learner = json.loads(booster.save_raw("json"))["learner"]
    trees = learner["gradient_booster"]["model"]["trees"]
    nodes = max(len(tree["left_children"]) for tree in trees)
    base = np.float32(str(learner["learner_model_param"]["base_score"]).strip("[]"))
    parts: dict[str, NDArray[Any]] = {
        "feature": np.full((len(trees), nodes), -1, np.int16),
        "threshold": np.zeros((len(trees), nodes), np.float32),
        "left": np.zeros((len(trees), nodes), np.int16),
        "right": np.zeros((len(trees), nodes), np.int16),
        "value": np.zeros((len(trees), nodes), np.float32),
    }
    for row, tree in enumerate(trees):
        left, split = np.array(tree["left_children"]), np.array(tree["split_conditions"])
        inner, end = left >= 0, len(left)
        parts["feature"][row, :end] = np.where(inner, tree["split_indices"], -1)
        parts["threshold"][row, :end] = np.where(inner, split, 0)
        parts["left"][row, :end] = np.where(inner, left, 0)
        parts["right"][row, :end] = np.where(inner, tree["right_children"], 0)
        parts["value"][row, :end] = np.where(inner, 0, split)
    return Forest(tuple(names), base, **parts)
