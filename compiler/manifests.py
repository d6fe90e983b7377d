"""What a bundle says of itself: models, machine, and what each pass did."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from motet.compiler.frontend.load import ImportedModel
from motet.compiler.lower import CodeMakers
from motet.compiler.quotas import quota_of
from motet.compiler.spec import BundleSpec, ModelSpec
from motet.runtime.manifest import FixedInput, Manifest, ModelEntry, PassRecord, Source
from motet.targets.host.choosing import Chooser
from motet.targets.host.machine import Machine
from motet.targets.systolic.architecture import ArrayDescription


def code_records(chooser: Chooser, code: CodeMakers) -> list[PassRecord]:
    """What was decided where code was made."""
    return [*_array_stages(code), _settings(chooser, code), _sharing(code)]


def _array_stages(code: CodeMakers) -> list[PassRecord]:
    """How the operators of each array program share the pods, where they do."""
    staged = code.array.staged if code.array is not None else {}
    return [PassRecord("array_stages", f"{name}: {told}") for name, told in staged.items()]


def _settings(chooser: Chooser, code: CodeMakers) -> PassRecord:
    """What settings of kernels were chosen by, and how many kernels are another source's."""
    others = code.host.others_used
    found = f"; {others} kernel{'s' if others > 1 else ''} found by MetaSchedule" if others else ""
    return PassRecord("kernel_settings", chooser.summary + found)


def _sharing(code: CodeMakers) -> PassRecord:
    """What equal kernels and weights saved."""
    kernels, weights = code.host, code.weights
    return PassRecord(
        "share",
        f"{kernels.requests} units -> {len(kernels.functions)} kernels; "
        f"{weights.requested_bytes} -> {weights.stored_bytes} weight bytes",
    )


def manifest_of(
    spec: BundleSpec,
    machine: Machine,
    array: ArrayDescription | None,
    models: Sequence[ImportedModel],
    records: Sequence[PassRecord],
) -> Manifest:
    """The manifest of a bundle of ``models``; array: None for the host."""
    by_name = {model.name: model for model in spec.models}
    return Manifest(
        name=spec.name,
        motet_version=version("motet"),
        target=array.name if array is not None else "host",
        cpu=machine.mcpu,
        cpu_features=machine.required_features,
        threads=spec.host.threads,
        models=tuple(_entry(by_name[model.name], model) for model in models),
        passes=tuple(records),
    )


def _entry(spec: ModelSpec, model: ImportedModel) -> ModelEntry:
    return ModelEntry(
        name=spec.name,
        source=Source(str(model.path.resolve()), model.sha256),
        rate_hz=spec.rate_hz,
        deadline_ms=spec.deadline_ms,
        phase_ms=spec.phase_ms,
        priority=spec.priority,
        after=spec.after,
        probability=spec.probability,
        quota=quota_of(spec.quota),
        wires=dict(sorted(spec.inputs.items())),
        fixed={
            name: FixedInput(array.dtype.name, array.shape, array.tobytes())
            for name, array in sorted(model.fixed.items())
        },
        input_ports=model.input_ports,
        output_ports=model.output_ports,
    )
