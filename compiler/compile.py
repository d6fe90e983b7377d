"""A specification to a bundle, top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tvm import IRModule

from motet.compiler.array_needs import require_array_compiler
from motet.compiler.frontend.load import ImportedModel, merge
from motet.compiler.importing import imported
from motet.compiler.kernels import ArrayPrograms, HostKernels, Rehearsed
from motet.compiler.lower import CodeMakers, lower
from motet.compiler.manifests import code_records, manifest_of
from motet.compiler.parallel_merging import Outcome as MergingOutcome
from motet.compiler.parallel_merging import cycles_of, parallel_merging
from motet.compiler.pinned_stages import check_open_sizes, pinned_stages
from motet.compiler.pipeline import Hooks, Step, lowering_steps, run, steps_for
from motet.compiler.pod_programs import NamedTimetable, with_timetable
from motet.compiler.quotas import check_arenas, check_pods
from motet.compiler.spec import BundleSpec
from motet.compiler.spec_checks import validate
from motet.compiler.weights import WeightPool
from motet.compiler.wires import check_wires
from motet.passes.host_stages import Outcome, host_stages
from motet.passes.merge_parallel import merge_parallel, named
from motet.passes.scheduling.pins import Pins
from motet.passes.unit_cost import ArrayTarget, HostTarget, Target
from motet.runtime.bundle import Bundle
from motet.runtime.errors import BundleError
from motet.runtime.manifest import Manifest, PassRecord
from motet.runtime.program import Program
from motet.runtime.progress import Show, silent
from motet.runtime.verify import verify_program
from motet.targets.host.build import c_compiler, link
from motet.targets.host.choosing import Chooser, chooser_for
from motet.targets.host.kernel_cache import KernelCache, cache_of_environment, is_enabled
from motet.targets.host.kernel_objects import KernelObjects
from motet.targets.host.machine import Machine, machine_for
from motet.targets.host.meta_schedule.kernel_store import OtherKernels, kernels_in, no_others
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import selecting
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_file import load_architecture, to_json


@dataclass(frozen=True)
class CompileOptions:
    """Hooks around passes, progress, processes, the cache: what does not change the bundle.

    jobs: processes that compile host kernels; None for one per usable CPU.
    cache: keep compiled kernels, and take those that are kept, unless MOTET_CACHE=0 is set.
    warn: told what the user should know though compiling goes on. tuned: take settings that
    ``motet tune`` measured on this machine, where the specification's CPU is native; this
    alone may change the kernels, though never what they compute.
    """

    hooks: Hooks = field(default_factory=Hooks)
    progress: Show = silent
    jobs: int | None = None
    cache: bool = True
    warn: Show = silent
    tuned: bool = True


@dataclass(frozen=True)
class Transformed:
    """Models after the passes: units and regions, and no code yet.

    array: what the target is; None for the host. records: what each pass did. rehearsed: programs
    of the array that passes made to decide. pins: stages by model that the specification pins.
    """

    module: IRModule
    models: tuple[ImportedModel, ...]
    records: tuple[PassRecord, ...]
    array: ArrayDescription | None
    rehearsed: Rehearsed = field(default_factory=dict)
    pins: Mapping[str, Pins] = field(default_factory=dict)


def transformed(spec: BundleSpec, options: CompileOptions) -> Transformed:
    """Check ``spec``, import its models and run the passes.

    Raises what ``compile_bundle`` raises before it makes code.
    """
    models = imported(spec, options.progress)
    array = None if spec.target == "host" else load_architecture(spec.target)
    if array is not None:
        require_array_compiler()
    check_wires(spec, models)
    check_pods(spec, array)
    options.progress("passes")
    machine = machine_for(spec.host.cpu)
    target, rehearsed = _target(spec, machine, array), Rehearsed()
    mod = merge(models)
    pins = pinned_stages(spec, mod)
    steps = steps_for(
        spec.passes,
        array,
        spec.array.format,
        machine.vector_bytes // 4,
        spec.host.reassociate,
        spec.host.compute,
        _stages(spec, machine, pins, options.warn),
        any_bytes=machine.multiplies_bytes,
        target=target,
        merging=_merging(spec, target, rehearsed, pins),
    )
    mod, records = run(mod, steps, options.hooks)
    return Transformed(mod, tuple(models), tuple(records), array, rehearsed, pins)


def _merging(
    spec: BundleSpec, target: Target, rehearsed: Rehearsed, pins: Mapping[str, Pins]
) -> Step | None:
    """What makes convolutions of one value one, where the specification asks for it.

    On the host only what is pinned. ``rehearsed`` takes the array's programs made to decide.
    """
    options = spec.passes.schedule
    if pins:
        asked = [group for one in pins.values() for group in one.merged]
        return Step("merge_parallel", merge_parallel(named(asked)))
    wanted = options.enabled and options.merge and options.algorithm == "ios"
    if not wanted or not isinstance(target, ArrayTarget):
        return None
    outcome, array = MergingOutcome(), target.description
    steps = lowering_steps(spec.passes, array, spec.array.format)
    cycles = partial(cycles_of, steps, array, spec.array.format, options, rehearsed)
    apply = parallel_merging(target, options, outcome, cycles)
    return Step("merge_parallel", apply, lambda: outcome.summary)


def _target(spec: BundleSpec, machine: Machine, array: ArrayDescription | None) -> Target:
    """What passes estimate times on."""
    host = HostTarget(machine, spec.host.threads or machine.cores)
    return host if array is None else ArrayTarget(array, spec.array.format, host)


def _stages(
    spec: BundleSpec, machine: Machine, pins: Mapping[str, Pins], warn: Show
) -> Step | None:
    """What puts kernels of the host side by side, where the specification asks for it."""
    threads = spec.host.threads or machine.cores
    if not (spec.passes.schedule.enabled or pins) or threads == 1:
        return None
    outcome = Outcome(warn)
    apply = host_stages(machine, threads, spec.passes.schedule, outcome, pins)
    return Step("host_stages", apply, lambda: outcome.summary)


def compile_bundle(
    spec: BundleSpec, options: CompileOptions | None = None, timetable: NamedTimetable | None = None
) -> Bundle:
    """Compile every model of ``spec`` into one bundle, which keeps ``timetable`` and its programs.

    Raises ``SpecError``, ``ModelError``, ``CompileError`` or ``EnvironmentLackError``.
    """
    options = options or CompileOptions()
    validate(spec)
    if timetable is not None:
        timetable.check(spec)
    machine = machine_for(spec.host.cpu)
    done = transformed(spec, options)
    array, models = done.array, done.models
    check_open_sizes(spec, models, done.module, done.pins)
    chooser = _chooser(spec, machine, options)
    with _kernel_objects(machine, options) as objects, selecting(chooser):
        others = kernels_in(chooser.store, chooser.scope)
        programs, code = code_of(spec, done, machine, options, objects.add, others)
        _check_own_work(programs, code)
        check_arenas(spec, programs)
        options.progress(f"library of {len(code.host.functions)} kernels")
        library = _library(objects)
    records = [*done.records, *code_records(chooser, code)]
    manifest = manifest_of(spec, machine, array, models, records)
    bundle = _bundle(manifest, programs, code, library, array)
    return (
        bundle
        if timetable is None
        else with_timetable(bundle, timetable, code.array, options.progress)
    )


def code_of(
    spec: BundleSpec,
    done: Transformed,
    machine: Machine,
    options: CompileOptions,
    on_kernel: Callable[[str, Any], None],
    others: OtherKernels = no_others,
) -> tuple[dict[str, Program], CodeMakers]:
    """Programs by model, and the code that they call; ``on_kernel`` is given every kernel.

    others: where kernels may come from instead of being lowered.

    Raises ``UnsupportedOperatorError`` for operators without a kernel.
    """
    code = CodeMakers(
        HostKernels(
            machine,
            KernelOptions(spec.host.reassociate, spec.host.compute),
            lambda kind: options.progress(f"kernel {kind}"),
            on_kernel,
            others=others,
        ),
        WeightPool(),
        _array_programs(spec, done, options),
    )
    programs = {
        model.name: lower(done.module, model.name, model.inputs, model.outputs, code)
        for model in done.models
    }
    code.host.raise_missing()
    return programs, code


def _chooser(spec: BundleSpec, machine: Machine, options: CompileOptions) -> Chooser:
    native = spec.host.cpu == "native"
    return chooser_for(native, spec.host.threads, machine.cores, options.tuned)


def _kernel_objects(machine: Machine, options: CompileOptions) -> KernelObjects:
    cache = _cache() if options.cache else None
    return KernelObjects(machine, options.jobs, cache, options.progress, options.warn)


def _cache() -> KernelCache | None:
    return cache_of_environment() if is_enabled() else None


def _library(objects: KernelObjects) -> bytes:
    """The shared object of all kernels; nothing where there are none."""
    if not objects.count:
        return b""
    c_compiler()  # without one, no time is spent on compiling
    return link(objects.finish())


def _array_programs(
    spec: BundleSpec, done: Transformed, options: CompileOptions
) -> ArrayPrograms | None:
    if done.array is None:
        return None
    return ArrayPrograms(
        done.array,
        spec.array.format,
        spec.passes.schedule,
        lambda kind: options.progress(f"array program {kind}"),
        rehearsed=done.rehearsed,
        pins=done.pins,
        pods={m.name: m.quota.pods for m in spec.models if m.quota.pods is not None},
        warn=options.warn,
    )


def _check_own_work(programs: Mapping[str, Program], code: CodeMakers) -> None:
    """What loading a file checks, for bundles that never become one; here it is a defect."""
    array_programs = code.array.programs if code.array is not None else {}
    for name, program in programs.items():
        try:
            verify_program(name, program, code.weights.arrays, array_programs)
        except BundleError as error:
            raise AssertionError(f"the compiler made a program that is wrong: {error}") from error


def _bundle(
    manifest: Manifest,
    programs: dict[str, Program],
    code: CodeMakers,
    library: bytes,
    array: ArrayDescription | None,
) -> Bundle:
    return Bundle(
        manifest=manifest,
        programs=programs,
        weights=code.weights.arrays,
        kernels=library,
        array_description=to_json(array) if array is not None else None,
        array_programs=code.array.programs if code.array is not None else {},
    )
