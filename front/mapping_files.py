"""Mapping files of ``motet simulate``: by layer, or ``model:layer`` where models share a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motet.runtime.errors import SpecError
from motet.targets.systolic.mappings.file import EVERY_STEP, load_mappings, save_mappings
from motet.targets.systolic.workload.work import ModelWork

if TYPE_CHECKING:
    from motet.targets.systolic.mappings.file import Constraints
    from motet.targets.systolic.mappings.mapping import Mapping as TileMapping


def read_mapping_file(path: str | Path, models: Sequence[ModelWork]) -> dict[str, Constraints]:
    """What the file pins, by model: ``model:layer`` goes before ``layer`` before ``*``.

    Raises ``SpecError`` for a file that is none, and for layers that no model has.
    """
    layers = {model.model: _layers(model) for model in models}
    plain = [layer for names in layers.values() for layer in names]
    known = [*plain, *(f"{model}:{layer}" for model, names in layers.items() for layer in names)]
    content = load_mappings(path, known)
    return {model: _of_model(content, model, names) for model, names in layers.items()}


def _layers(model: ModelWork) -> list[str]:
    workloads = [stage.workload for stage in model.stages if stage.workload is not None]
    return [step.name for workload in workloads for step in workload.steps]


def _of_model(content: Constraints, model: str, layers: Sequence[str]) -> Constraints:
    pinned: dict[str, dict[str, Any]] = {EVERY_STEP: {**content.get(EVERY_STEP, {})}}
    for layer in layers:
        pinned[layer] = {**content.get(layer, {}), **content.get(f"{model}:{layer}", {})}
    return {name: table for name, table in pinned.items() if table}


def write_mapping_file(path: str | Path, mappings: Mapping[str, Mapping[str, TileMapping]]) -> None:
    """Write the mappings of all models (by model and layer); raises ``SpecError``."""
    if not any(mappings.values()):
        raise SpecError(f"--save-mapping {path}: nothing runs on the array, so there is no mapping")
    counted = Counter(layer for made in mappings.values() for layer in made)
    named = {
        layer if counted[layer] == 1 else f"{model}:{layer}": mapping
        for model, made in mappings.items()
        for layer, mapping in made.items()
    }
    save_mappings(path, named)
