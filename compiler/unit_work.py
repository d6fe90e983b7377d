"""The models of a specification as units to be scheduled, without kernels or a bundle.

Models are imported and go through the target-neutral passes of the pipeline, up to placement,
layout and fusion, which come after scheduling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tvm import IRModule, relax

from motet.compiler.frontend.load import merge
from motet.compiler.importing import imported
from motet.compiler.neutral_passes import neutral_passes
from motet.compiler.open_sizes import assumed_shapes, telling, with_shapes
from motet.compiler.spec import BundleSpec
from motet.passes.graph import bytes_of
from motet.passes.unit_placement import kept_on_host, with_placement
from motet.passes.units import Units, units_of
from motet.runtime.progress import Show, silent
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.from_relax.rules import refusal


@dataclass(frozen=True)
class ModelUnits:
    """The units of a model.

    assumed: shapes of inputs whose open sizes were taken as 1. decided: titles of units with sizes
    that only a run knows, which count as 1.
    """

    model: str
    units: Units
    assumed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    decided: tuple[str, ...] = ()


def unit_work(
    spec: BundleSpec, progress: Show = silent, *, as_written: bool = False
) -> list[ModelUnits]:
    """The units of every model of ``spec``, in an order in which the models can run.

    as_written: equal calls are as many operators as the model has of them, where a compilation
    computes them once; and open sizes stay open, as counting needs none. Else they are taken
    as 1, as what an operator costs depends on them.

    Raises what ``compile_bundle`` raises before it runs passes.
    """
    models = imported(spec, progress)
    assumed = {} if as_written else assumed_shapes(models)
    if any(assumed.values()):
        with telling(assumed):
            models = imported(with_shapes(spec, assumed), progress)
    progress("passes")
    mod = neutral_passes(spec.passes, spec.target == "host", as_written)(merge(models))
    units = {model.name: units_of(mod[model.name], model.name) for model in models}
    if spec.target != "host" and not as_written:
        units = _placed(units, mod, spec)
    return [
        ModelUnits(
            model.name,
            units[model.name],
            assumed.get(model.name, {}),
            () if as_written else _decided_by_runs(units[model.name]),
        )
        for model in models
    ]


def _decided_by_runs(units: Units) -> tuple[str, ...]:
    open_units = (
        unit.title
        for unit in units.units
        if any(bytes_of(binding.var.ty) is None for binding in unit.bindings)
    )
    return tuple(dict.fromkeys(open_units))


def _placed(units: Mapping[str, Units], mod: IRModule, spec: BundleSpec) -> dict[str, Units]:
    """``units`` with what a compilation would leave to the host."""
    # The passes behind scheduling take longer to import than most hosts' networks to schedule.
    from motet.compiler.pipeline import lowering_steps

    array, number_format = load_architecture(spec.target), spec.array.format
    steps = lowering_steps(spec.passes, array, number_format)
    placed = next((step.apply(mod) for step in steps if step.name == "place"), mod)

    def takes(call: relax.Call) -> bool:
        return refusal(call, array, number_format) is None

    return {
        model: with_placement(own, kept_on_host(placed, model, takes))
        for model, own in units.items()
    }
