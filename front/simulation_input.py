"""What ``motet simulate`` and ``explore`` are given, as stages of work for one array.

Models and specifications go through the compiler's passes, a bundle's programs are taken as they
are, a SCALE-Sim topology becomes one stage per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from motet import api
from motet.opening import CompileRequest, check_files, is_source, refuse_compile_options
from motet.passes.options import ScheduleOptions
from motet.runtime.errors import SpecError
from motet.runtime.pod_programs import PodProgram
from motet.runtime.progress import Show, silent
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.workload.work import ModelWork, Stage
from motet.tensors import parse_shapes, parse_values

DEFAULT_ARRAY = "edge-64x64"

Accept = Callable[["Work"], None]


@dataclass(frozen=True)
class Schedule:
    """How often a model runs; ``after``: models that go before it, also those along wires.

    pods, time_share: its quota.
    """

    rate_hz: float | str | None = None
    deadline_ms: float | None = None
    priority: int = 0
    after: tuple[str, ...] = ()
    probability: float = 1.0
    pods: int | None = None
    time_share: float | None = None
    phase_ms: float | None = None


@dataclass(frozen=True)
class Work:
    """Models, the array that they are for, the number format, and what is known of schedules.

    stages: how operators that do not depend on each other share the array's pods. pod_programs: of
    a bundle, those for the pods that its timetable gives, with their bytes decoded.
    """

    models: tuple[ModelWork, ...]
    description: ArrayDescription
    number_format: str
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    stages: ScheduleOptions = field(default_factory=ScheduleOptions)
    pod_programs: tuple[tuple[PodProgram, SystolicProgram], ...] = ()

    @property
    def pods(self) -> dict[str, int]:
        """The most pods that a model's programs use, where its quota says so."""
        return {n: one.pods for n, one in self.schedules.items() if one.pods is not None}

    @property
    def is_compiled(self) -> bool:
        """Whether the work is programs, which have their mappings and format."""
        return any(stage.program is not None for model in self.models for stage in model.stages)


def work_of(
    file: str,
    request: CompileRequest,
    model: str | None = None,
    number_format: str | None = None,
    show: Show = silent,
    accept: Accept = lambda work: None,
) -> Work:
    """The work of a model, a specification, a bundle or a topology.

    accept: is given the work before anything is compiled, of a source without models; it may
    raise.

    Raises ``SpecError`` where the file is none of these, is for the host, or lacks ``model``.
    """
    if Path(file).suffix == ".csv":
        made = _topology(file, request)
    elif is_source(file):
        made = _source(file, request, show, accept)
    else:
        made = _bundle(file, request)
        accept(made)
    if made.is_compiled and number_format not in (None, made.number_format):
        raise SpecError(
            f"--format {number_format}: the programs of {file} are in {made.number_format}; "
            "give the model or specification that it was made of"
        )
    chosen = tuple(work for work in made.models if model in (None, work.model))
    if not chosen:
        names = ", ".join(work.model for work in made.models)
        raise SpecError(f"{file}: no model {model!r}; its models are {names}")
    return replace(
        made, models=chosen, number_format=_format(number_format or made.number_format, made)
    )


def _format(number_format: str, work: Work) -> str:
    offered = work.description.formats
    if number_format not in offered:
        raise SpecError(
            f"--format {number_format}: array {work.description.name!r} offers {', '.join(offered)}"
        )
    return number_format


def array_of(target: str) -> ArrayDescription:
    """The array of a shipped name, a description (.toml) or a SCALE-Sim configuration (.cfg)."""
    if target == "host":
        raise SpecError(f"the host is not simulated: give an array, as --target {DEFAULT_ARRAY}")
    if Path(target).suffix == ".cfg":
        from motet.targets.systolic.architecture_scalesim import read_config

        return read_config(target)
    from motet.targets.systolic.architecture_file import load_architecture

    return load_architecture(target)


def _topology(file: str, request: CompileRequest) -> Work:
    """A stage per layer, one after another, as SCALE-Sim runs them."""
    from motet.targets.systolic.workload.scalesim import read_topology
    from motet.targets.systolic.workload.work import stages_of

    if any((request.shapes, request.values, request.operators, request.settings)):
        raise SpecError(f"{file}: a topology has no --shape, --value, --operator-file or --set")
    description = array_of(request.target or DEFAULT_ARRAY)
    stages = stages_of(read_topology(file))
    return Work((ModelWork(Path(file).stem, stages),), description, _preferred(description))


def _preferred(description: ArrayDescription) -> str:
    """The format where nothing asks for one: SCALE-Sim's words have no type, and are a byte."""
    return "int8" if "int8" in description.formats else description.formats[0]


def _source(file: str, request: CompileRequest, show: Show, accept: Accept) -> Work:
    api.compiler()
    check_files([file])
    from motet.compiler.array_work import array_work
    from motet.compiler.compile import CompileOptions

    target = request.target
    config = target if target is not None and Path(target).suffix == ".cfg" else None
    spec = api.specification(
        file,
        DEFAULT_ARRAY if config else target,
        parse_shapes(request.shapes),
        request.settings,
        parse_values(request.values),
        request.operators,
    )
    if spec.target == "host" and Path(file).suffix == ".onnx" and target is None:
        spec = api.specification(spec, DEFAULT_ARRAY, {}, ())
    if not config and spec.target == "host":
        raise SpecError(
            f"{file} is for the host: compile it for an array, as with --target {DEFAULT_ARRAY}"
        )
    description = array_of(config or spec.target)
    schedules = {model.name: schedule_of(model, model.inputs) for model in spec.models}
    number_format = _preferred(description) if config else spec.array.format
    work = Work((), description, number_format, schedules, spec.passes.schedule)
    accept(work)
    models = array_work(spec, CompileOptions(progress=show))
    return replace(work, models=tuple(models))


def schedule_of(model: Any, wires: Mapping[str, str]) -> Schedule:
    """The schedule of a model of a specification or of a bundle."""
    sources = (wire.partition(".")[0] for wire in wires.values())
    after = tuple(dict.fromkeys((*model.after, *sources)))
    return Schedule(
        model.rate_hz, model.deadline_ms, model.priority, after, float(model.probability),
        model.quota.pods, model.quota.time_share, model.phase_ms,
    )  # fmt: skip


def _bundle(file: str, request: CompileRequest) -> Work:
    from motet.host_times import bytes_of
    from motet.runtime.bundle import open_bundle
    from motet.runtime.program import ArrayCall, Kernel

    refuse_compile_options(file, request)
    bundle = open_bundle(file)
    if bundle.array_description is None:
        raise SpecError(
            f"{file} is for the host: compile it for an array, as with --target {DEFAULT_ARRAY}"
        )
    from motet.targets.systolic.architecture_file import from_json
    from motet.targets.systolic.instructions.encoding import decode

    description = from_json(bundle.array_description)
    programs: dict[str, Any] = {n: decode(d) for n, d in bundle.array_programs.items()}
    models = []
    for name, program in bundle.programs.items():
        stages = []
        for step in program.instructions:
            if not isinstance(step, (ArrayCall, Kernel)):
                continue
            who = program.operators[step.operator]
            made = programs[step.program] if isinstance(step, ArrayCall) else None
            macs = who.macs if isinstance(who.macs, int) else 0
            moved = 0 if made is not None else bytes_of(program, step)
            stages.append(Stage(who.op, who.kind, who.onnx_nodes, macs, None, made, moved))
        placed = [r.summary for r in bundle.manifest.passes if r.name == "place"]
        models.append(ModelWork(name, tuple(stages), "; ".join(placed)))
    # Products of vectors have formats of their own, beside that of everything else.
    used = {program.format for program in programs.values()}
    number_format = next((one for one in description.formats if one in used), "fp32")
    schedules = {entry.name: schedule_of(entry, entry.wires) for entry in bundle.manifest.models}
    made = tuple((one, programs[one.program]) for one in bundle.manifest.pod_programs)
    return Work(tuple(models), description, number_format, schedules, pod_programs=made)
