"""Compute cycles of a model's products in closed form: SCALE-Sim's, this array's, FuSeConv's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.closed_form import MODES as CLOSED_FORM_MODES
from motet.targets.systolic.closed_form import gemm_cycles
from motet.targets.systolic.workload.graph import Step
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct, ProductShape
from motet.targets.systolic.workload.work import ModelWork

MODES = CLOSED_FORM_MODES
DATAFLOWS = ("weight-stationary", "output-stationary", "input-stationary")


def closed_form_rows(
    models: Sequence[ModelWork], description: ArrayDescription, mode: str, dataflow: str | None
) -> list[dict[str, Any]]:
    """A record per product, its groups one after another; pods beyond one are not used.

    The columns name the dataflows; ``one_group_cycles`` are what SCALE-Sim reports for a grouped
    layer.
    """
    pod = description.pods[0]
    flows = _dataflows(mode, dataflow)
    rows = []
    for model, step, shape in _products(models):
        row: dict[str, Any] = {"model": model, "layer": step.name, **shape._asdict()}
        for flow in flows:
            one = gemm_cycles(shape.m, shape.n, shape.k, pod.rows, pod.columns, flow, mode)
            name = flow.replace("-", "_")
            row[f"{name}_one_group_cycles"] = one
            row[f"{name}_cycles"] = one * shape.groups
        rows.append(row)
    return rows


def _dataflows(mode: str, dataflow: str | None) -> tuple[str, ...]:
    if mode == "fuseconv":
        if dataflow not in (None, "output-stationary"):
            raise SpecError("--mode fuseconv is output-stationary: leave --dataflow out")
        return ("output-stationary",)
    return DATAFLOWS if dataflow is None else (dataflow,)


def _products(models: Sequence[ModelWork]) -> Iterator[tuple[str, Step, ProductShape]]:
    for model in models:
        for stage in model.stages:
            for step in stage.workload.steps if stage.workload is not None else ():
                if isinstance(step.layer, (Convolution, MatrixProduct)):
                    yield model.model, step, step.layer.product_shape
