"""The models of a specification as Relax, checked, in an order in which they can run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from motet.compiler.frontend.load import ImportedModel, load_model
from motet.compiler.frontend.registry import operators_from
from motet.compiler.spec import BundleSpec, ModelSpec
from motet.compiler.spec_checks import run_order, validate
from motet.runtime.errors import UnsupportedOperatorError
from motet.runtime.progress import Show


def imported(spec: BundleSpec, progress: Show) -> list[ImportedModel]:
    """Check ``spec`` and import its models, in an order in which they can run."""
    validate(spec)
    with operators_from(spec.operators):
        return _import(_in_run_order(spec), progress)


def _import(specs: Sequence[ModelSpec], progress: Show) -> list[ImportedModel]:
    """The models as Relax; one error for the operators that all of them lack."""
    models, missing = list[ImportedModel](), list[UnsupportedOperatorError]()
    for model in specs:
        progress(f"model {model.name}")
        try:
            models.append(_load(model))
        except UnsupportedOperatorError as error:
            missing.append(error)
    if len(missing) == 1:
        raise missing[0]
    if missing:
        raise UnsupportedOperatorError("; ".join(map(str, missing)))
    return models


def _load(model: ModelSpec) -> ImportedModel:
    return load_model(Path(model.path), model.name, model.shapes, model.values)


def _in_run_order(spec: BundleSpec) -> list[ModelSpec]:
    by_name = {model.name: model for model in spec.models}
    return [by_name[name] for name in run_order(spec)]
