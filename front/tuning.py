"""What ``motet tune`` does: from a file to measured kernel settings of its operators."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motet import api
from motet.check import onnx_paths, source_bytes
from motet.console import progress, warn, without_tvm_warnings
from motet.opening import CompileRequest, check_files, is_source
from motet.runtime.bundle import Bundle, open_bundle
from motet.runtime.errors import BundleError, EnvironmentLackError, SpecError
from motet.runtime.manifest import FixedInput, ModelEntry
from motet.tensors import parse_shapes, parse_values

if TYPE_CHECKING:
    from motet.compiler.spec import BundleSpec
    from motet.targets.host.meta_schedule.kernel_store import Searched
    from motet.targets.host.meta_schedule.tuning import HostUnit, UnitTuning
    from motet.targets.host.tuning import Outcome, Tuning

_TRAINING_SECONDS = 15.0
"""Of the budget that the cost model takes in the end; at most a quarter of it is kept for that."""


@dataclass(frozen=True)
class TuneRequest:
    """What to tune. minutes: the budget; None for none. threads: of a kernel call; None takes
    the file's, or one per CPU. jobs: processes that compile. trials: of MetaSchedule, for a
    kernel. onnx: MODEL=PATH, where the files of a bundle's models are now.
    """

    file: str
    compiling: CompileRequest
    minutes: float | None
    threads: int | None
    jobs: int | None
    trials: int = 0
    onnx: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tuned:
    """What tuning found. database: the file that keeps it. complete: whether every point was
    measured; interrupted: whether the user stopped it. model: what became of the cost model.
    units: those that MetaSchedule was tried on.
    """

    database: Path
    threads: int
    outcomes: Sequence[Outcome]
    complete: bool
    interrupted: bool
    model: str
    units: Sequence[tuple[HostUnit, Searched]] = ()


def tune(request: TuneRequest) -> Tuned:
    """Measure until the budget is used up; what was measured is kept even when interrupted.

    Raises ``SpecError``, ``ModelError`` or ``BundleError`` for a file that cannot be tuned,
    ``EnvironmentLackError`` where the compiler or a C compiler is missing, or nothing can be
    kept.
    """
    started = time.monotonic()
    spec = specification(request.file, request.compiling, request.onnx)
    api.compiler()
    from motet.compiler.problems import operators_to_tune, units_to_tune
    from motet.targets.host.tuning import budget

    tuning = _tuning(spec, request.threads)
    search = _search(tuning, request.trials) if request.trials else None
    with without_tvm_warnings(), progress("operators", lines=True) as show:
        show(request.file)
        operators = operators_to_tune(spec)
        units = units_to_tune(spec) if search is not None else []
    left = _minutes_left(request, started)
    complete, interrupted = False, False
    until = budget(left, 0.0 if left is None else min(_TRAINING_SECONDS, 15.0 * left))
    try:
        complete = _measured(tuning, operators, request, until)
        if search is not None:
            complete = _units_searched(search, units, request, until) and complete
    except KeyboardInterrupt:
        interrupted = True
    model = "" if interrupted else _refitted(tuning, _minutes_left(request, started))
    outcomes = tuning.outcomes(operators)
    scope = tuning.scope
    return Tuned(
        tuning.store.path, scope.threads, outcomes, complete, interrupted, model,
        search.known(units) if search is not None else (),
    )  # fmt: skip


def _minutes_left(request: TuneRequest, started: float) -> float | None:
    """Of the budget, which began at ``started``; None for no budget."""
    spent = (time.monotonic() - started) / 60
    return None if request.minutes is None else request.minutes - spent


def specification(file: str, request: CompileRequest, onnx: Sequence[str] = ()) -> BundleSpec:
    """What ``file`` is compiled from: a specification, a model, or a bundle's sources.

    onnx: MODEL=PATH, where those of a bundle are now.
    """
    if is_source(file):
        if onnx:
            raise SpecError(f"--onnx says where the models of a bundle are; {file} is none")
        check_files([file])
        shapes, values = parse_shapes(request.shapes), parse_values(request.values)
        return api.specification(
            file, request.target, shapes, request.settings, values, request.operators
        )
    if Path(file).suffix != ".motet" and not Path(file).is_file():
        raise BundleError(f"{file}: give a .motet bundle, an .onnx model or a .toml specification")
    return _from_bundle(open_bundle(file), file, request, onnx)


def _from_bundle(
    bundle: Bundle, file: str, request: CompileRequest, onnx: Sequence[str]
) -> BundleSpec:
    """The specification of a bundle's models, in the shapes that it was compiled for."""
    if bundle.manifest.target != "host":
        raise SpecError(
            f"{file} is for {bundle.manifest.target}: give the specification or the models that "
            "it was compiled from, to tune what runs on the host"
        )
    from msgspec.structs import replace

    from motet.compiler.spec import BundleSpec, HostOptions, ModelSpec

    paths = onnx_paths(onnx, [entry.name for entry in bundle.manifest.models])
    models = tuple(
        ModelSpec(
            path=str(_source(bundle, entry, paths)),
            name=entry.name,
            shapes=_shapes(bundle, entry),
            values={name: _value(fixed) for name, fixed in entry.fixed.items()},
            inputs=dict(entry.wires),
        )
        for entry in bundle.manifest.models
    )
    spec = BundleSpec(models=models, host=HostOptions(threads=bundle.manifest.threads))
    overridden = api.specification(spec, request.target, {}, request.settings)
    return replace(overridden, operators=(*overridden.operators, *request.operators))


def _source(bundle: Bundle, entry: ModelEntry, paths: Mapping[str, Path]) -> Path:
    path = paths.get(entry.name, bundle.source_path(entry.name))
    source_bytes(path, entry.source.sha256, entry.name)
    return path


def _shapes(bundle: Bundle, entry: ModelEntry) -> dict[str, Any]:
    """Shapes of the inputs that are tensors; what is not static stays as the model has it."""
    ports = {port.name for port in entry.input_ports if port.kind != "tensor"}
    inputs = bundle.programs[entry.name].inputs
    return {
        info.name: tuple(info.shape)
        for info in inputs
        if info.name not in ports and info.shape and all(isinstance(d, int) for d in info.shape)
        and min(d for d in info.shape if isinstance(d, int)) > 0
    }  # fmt: skip


def _value(fixed: FixedInput) -> Any:
    import numpy as np

    from motet.runtime.element_types import numpy_dtype

    array = np.frombuffer(fixed.data, numpy_dtype(fixed.dtype)).reshape(fixed.shape)
    return array.tolist()


def _tuning(spec: BundleSpec, threads: int | None) -> Tuning:
    from motet.targets.host.cost_model.dataset import this_host
    from motet.targets.host.cost_model.model import shipped_model
    from motet.targets.host.families import families
    from motet.targets.host.kernel_cache import is_enabled
    from motet.targets.host.machine import native_caches, native_machine
    from motet.targets.host.tuning import Tuning
    from motet.targets.host.tuning_store import TuningStore, scope_of, store_path

    if spec.host.cpu != "native":
        raise SpecError(
            f"host.cpu is {spec.host.cpu!r}, and tuning measures this machine: leave it out, or "
            "give --set host.cpu=native"
        )
    if not is_enabled():
        raise SpecError(
            "MOTET_CACHE is off, so that no measurement would be kept: unset it, to tune"
        )
    store = TuningStore(store_path())
    store.check()
    machine = native_machine()
    scope = scope_of(this_host(), threads or spec.host.threads or machine.cores)
    return Tuning(machine, native_caches(), families(), shipped_model(), store, scope)


def _measured(
    tuning: Tuning, operators: Sequence[Any], request: TuneRequest, until: Callable[[], bool]
) -> bool:
    """Whether every point was measured within the budget."""
    from motet.targets.host.cost_model.measure import Measurer

    wanted = sum(len(tuning.missing(space)) for space in tuning.spaces(operators))
    with (
        without_tvm_warnings(),
        progress("tune", wanted, lines=True) as show,
        Measurer(tuning.machine, request.jobs, warn=warn) as measurer,
    ):
        return tuning.run(operators, measurer, until, show)


def _search(tuning: Tuning, trials: int) -> UnitTuning:
    """What asks MetaSchedule; ``EnvironmentLackError`` where it cannot learn without xgboost."""
    from motet.targets.host.cost_model.training import xgboost_module
    from motet.targets.host.meta_schedule.kernel_store import KernelStore
    from motet.targets.host.meta_schedule.search import search
    from motet.targets.host.meta_schedule.tuning import UnitTuning

    xgboost_module()
    store = KernelStore(tuning.store.path)
    return UnitTuning(tuning.machine, tuning.scope, store, trials, search)


def _units_searched(
    search: UnitTuning,
    units: Sequence[HostUnit],
    request: TuneRequest,
    until: Callable[[], bool],
) -> bool:
    """Whether every unit was searched within the budget."""
    from motet.targets.host.cost_model.measure import Measurer

    with (
        without_tvm_warnings(),
        progress("MetaSchedule", lines=True) as show,
        Measurer(search.machine, request.jobs, warn=warn) as measurer,
    ):
        return search.run(units, measurer, until, show, warn)


def _refitted(tuning: Tuning, left: float | None) -> str:
    """Train the cost model on what was measured here as well; what became of it.

    left: minutes of the budget; None for no budget.
    """
    if not tuning.store.samples(tuning.scope):
        return "nothing was measured: the cost model is as it was"
    if left is not None and left <= 0:
        return "no time was left to train the cost model: it is as it was"
    with progress("cost model", lines=True) as show:
        show("training")
        return _trained(tuning)


def _trained(tuning: Tuning) -> str:
    from motet.targets.host.cost_model.dataset import this_host
    from motet.targets.host.tuned_model import refit

    try:
        refit(tuning.store, tuning.scope, this_host(), tuning.families)
    except EnvironmentLackError as error:
        return f"the cost model is as it was: {error}"
    return "the cost model was trained with these measurements, for other operators too"
