"""Stages that a specification pins (``passes.schedule.file``), checked against its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm import IRModule, relax
from tvm.ir import GlobalVar

from motet.compiler.frontend.load import ImportedModel
from motet.compiler.macs import macs_in
from motet.compiler.neutral_passes import neutral_passes
from motet.compiler.open_sizes import assumed_shapes
from motet.compiler.spec import BundleSpec
from motet.passes.graph import bindings_of
from motet.passes.names import ARRAY, ONNX_NODES, TARGET
from motet.passes.scheduling.inter_operator import check_fits
from motet.passes.scheduling.pins import PinnedModel, Pins, pins_of, read_pins
from motet.passes.units import Units, units_of
from motet.runtime.errors import SpecError
from motet.runtime.schedule import Schedule, Stage
from motet.runtime.shapes import symbols_of


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


def check_open_sizes(
    spec: BundleSpec, models: Sequence[ImportedModel], mod: IRModule, pins: Mapping[str, Pins]
) -> None:
    """That open sizes keep no pinned operator off the array, which would drop its stages.

    models: as they were imported. mod: after all passes.

    Raises ``SpecError``, which names the model, how many products stay on the host, and the
    sizes to fix.
    """
    if spec.target == "host" or not spec.passes.place.enabled:
        return
    assumed = assumed_shapes(models)
    for model in models:
        if model.name not in pins or not assumed[model.name]:
            continue
        count = len(_kept_by_sizes(spec, model, mod, pins[model.name]))
        if count:
            whose = f"{model.name}." if len(models) > 1 else ""
            given = [
                f"--shape {whose}{name}:{'x'.join(map(str, shape))}"
                for name, shape in assumed[model.name].items()
            ]
            raise SpecError(
                f"stages {spec.passes.schedule.file}: model {model.name!r}: {count} of the "
                "products that it puts in stages stay on the host, because sizes of inputs are "
                f"open: fix them, as in {' '.join(given)}"
            )


def _kept_by_sizes(
    spec: BundleSpec, model: ImportedModel, mod: IRModule, pins: Pins
) -> list[relax.Function]:
    """Pinned products on the host whose size an input leaves open."""
    symbols = {size for info in model.inputs for size in info.shape if isinstance(size, str)}
    asked = set(spec.passes.place.host_ops)
    calls = (binding.value for binding in bindings_of(mod[model.name]))
    made = (
        mod[call.op] for call in calls
        if isinstance(call, relax.Call) and isinstance(call.op, GlobalVar)
    )  # fmt: skip
    found = []
    for function in made:
        if function.attrs[TARGET] == ARRAY:
            continue
        nodes = [str(node) for node in function.attrs[ONNX_NODES]]
        is_pinned = pins.place_of(nodes) is not None and asked.isdisjoint(nodes)
        if is_pinned and not symbols.isdisjoint(symbols_of(macs_in(mod, function))):
            found.append(function)
    return found


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
