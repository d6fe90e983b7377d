"""The models of a specification as units to be scheduled, without kernels or a bundle.

Models are imported and go through the target-neutral passes of the pipeline, up to placement,
layout and fusion, which come after scheduling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tvm import IRModule, transform

from motet.compiler.compile import CompileOptions, imported
from motet.compiler.frontend.load import merge
from motet.compiler.open_sizes import assumed_shapes, telling, with_shapes
from motet.compiler.spec import BundleSpec, PassesSpec
from motet.passes.canonicalize import canonicalize, decompose, tidy, tidy_decompose
from motet.passes.dead_code import dead_code
from motet.passes.fold_batch_norm import fold_batch_norm
from motet.passes.join_attention import join_attention
from motet.passes.join_gelu import join_gelu
from motet.passes.join_quantized import join_quantized
from motet.passes.join_silu import join_silu
from motet.passes.units import Units, units_of


@dataclass(frozen=True)
class ModelUnits:
    """The units of a model. assumed: shapes of inputs whose open sizes were taken as 1."""

    model: str
    units: Units
    assumed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def unit_work(
    spec: BundleSpec, options: CompileOptions | None = None, *, as_written: bool = False
) -> list[ModelUnits]:
    """The units of every model of ``spec``, in an order in which the models can run.

    as_written: equal calls are as many operators as the model has of them, where a compilation
    computes them once; and open sizes stay open, as counting needs none. Else they are taken
    as 1, as what an operator costs depends on them.

    Raises what ``compile_bundle`` raises before it runs passes.
    """
    options = options or CompileOptions()
    models = imported(spec, options)
    assumed = {} if as_written else assumed_shapes(models)
    if any(assumed.values()):
        with telling(assumed):
            models = imported(with_shapes(spec, assumed), options)
    options.progress("passes")
    mod = neutral_passes(spec.passes, spec.target == "host", as_written)(merge(models))
    return [
        ModelUnits(model.name, _units(mod, model.name), assumed.get(model.name, {}))
        for model in models
    ]


def _units(mod: IRModule, model: str) -> Units:
    return units_of(mod[model], model)


def neutral_passes(options: PassesSpec, on_host: bool, as_written: bool) -> transform.Pass:
    """What the pipeline does before it places operators, lays out tensors and fuses.

    What is written out in several calls becomes one: activations, and for the host quantised
    products and attention.
    """
    first, last = (tidy, tidy_decompose) if as_written else (canonicalize, decompose)
    steps = [join_quantized, first] if on_host else [first]
    if options.fold_batch_norm.enabled:
        steps.append(fold_batch_norm)
    steps += [last, join_silu, join_gelu]
    if on_host:
        steps.append(join_attention)
    return transform.Sequential([*steps, dead_code])
