"""Stages that a specification pins (``passes.schedule.file``), checked against its models."""

from __future__ import annotations

from collections.abc import Mapping

from tvm import IRModule

from motet.compiler.neutral_passes import neutral_passes
from motet.compiler.spec import BundleSpec
from motet.passes.scheduling.inter_operator import check_fits
from motet.passes.scheduling.pins import PinnedModel, Pins, pins_of, read_pins
from motet.passes.units import Units, units_of
from motet.runtime.errors import SpecError
from motet.runtime.schedule import Schedule, Stage


def pinned_stages(spec: BundleSpec, mod: IRModule) -> Mapping[str, Pins]:
    """Pins by model; none where the specification names no file.

    mod: the models as they were imported.

    Raises ``SpecError``, which names the model and the operator, where the file's stages are none
    of these models: another model, an operator that it does not have or that is in no stage, one
    before what it reads.
    """
    file = spec.passes.schedule.file
    if not file:
        return {}
    pinned, names = read_pins(file), [model.name for model in spec.models]
    for name in pinned:
        if name not in names:
            raise SpecError(f"stages {file}: no model {name!r}; the models are {', '.join(names)}")
    neutral = neutral_passes(spec.passes, spec.target == "host", as_written=False)(mod)
    for name, model in pinned.items():
        _check(model, units_of(neutral[name], name), f"stages {file}: model {name!r}")
    return {name: pins_of(model) for name, model in pinned.items()}


def _check(model: PinnedModel, units: Units, where: str) -> None:
    """That the stages can run the model, its operators called as ``units`` calls them."""
    called = _names(model, units, where)
    stages = tuple(
        Stage(groups=tuple(tuple(called[name] for name in group) for group in stage.groups),
              seconds=0.0)
        for stage in model.schedule.stages
    )  # fmt: skip
    check_fits(Schedule(seconds=0.0, stages=stages, blocks=()), units.graph, where)


def _names(model: PinnedModel, units: Units, where: str) -> dict[str, str]:
    """The unit of each operator: of its name, or the only one that has its ONNX nodes."""
    by_nodes: dict[tuple[str, ...], list[str]] = {}
    for unit in units.units:
        by_nodes.setdefault(unit.onnx_nodes, []).append(unit.name)
    found = {}
    for name, operator in model.operators.items():
        alike = by_nodes.get(operator.onnx_nodes, [])
        if not alike or (name not in alike and len(alike) > 1):
            nodes = ", ".join(operator.onnx_nodes) or "none"
            raise SpecError(
                f"{where}: {name!r} (ONNX nodes {nodes}) is no operator of the model as it is "
                "compiled here: schedule it again, for the same target"
            )
        found[name] = name if name in alike else alike[0]
    return found
