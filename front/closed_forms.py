"""Compute cycles of a model's products in closed form: SCALE-Sim's, this array's, FuSeConv's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from motet.runtime.errors import SpecError
from motet.simulation_input import Work
from motet.targets.systolic.closed_form import MODES as CLOSED_FORM_MODES
from motet.targets.systolic.workload.graph import Step
from motet.targets.systolic.workload.layer_cycles import SPATIAL, is_line_convolution, layer_cycles
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct

MODES = CLOSED_FORM_MODES
DATAFLOWS = ("weight-stationary", "output-stationary", "input-stationary", SPATIAL)
OF_MODE = {
    "scalesim": DATAFLOWS[:3],
    "double-buffered": DATAFLOWS,
    "fuseconv": ("output-stationary", SPATIAL),
}
"""The dataflows that a mode has forms for."""


def closed_form_rows(work: Work, mode: str, dataflow: str | None = None) -> list[dict[str, Any]]:
    """A record per product, its groups one after another; pods beyond one are not used.

    The columns name the dataflows, and are None where the layer has no form: the spatial one
    computes depthwise 1-D convolutions only. Raises ``SpecError`` for a dataflow that the mode
    lacks, and for compiled programs, which have no layers.
    """
    if work.is_compiled:
        raise SpecError(
            f"--mode {mode} is for models and topologies: give what the bundle was made of"
        )
    if dataflow not in (None, *OF_MODE[mode]):
        raise SpecError(f"--mode {mode} has the dataflows {', '.join(OF_MODE[mode])}")
    pod = work.description.pods[0]
    rows = []
    for model, step, layer in _products(work):
        row: dict[str, Any] = {"model": model, "layer": step.name, **layer.product_shape._asdict()}
        for flow in OF_MODE[mode] if dataflow is None else (dataflow,):
            has_form = flow != SPATIAL or is_line_convolution(layer)
            cycles = layer_cycles(layer, pod.rows, pod.columns, flow, mode) if has_form else None
            row[f"{flow.replace('-', '_')}_cycles"] = cycles
        rows.append(row)
    return rows


def _products(work: Work) -> Iterator[tuple[str, Step, Convolution | MatrixProduct]]:
    for model in work.models:
        for stage in model.stages:
            for step in stage.workload.steps if stage.workload is not None else ():
                if isinstance(step.layer, (Convolution, MatrixProduct)):
                    yield model.model, step, step.layer
