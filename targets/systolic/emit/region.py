"""A workload to a program: the plan, and the program that follows it.

On an array of several pods there are plans for fewer of them too (``pod_limits``). With an
assignment there is one plan, which follows it.
"""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import dataclass, field

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.emit.dispatch import step_mapping
from motet.targets.systolic.emit.plan_emission import emit_plan
from motet.targets.systolic.emit.pod_limits import fastest, limited_plans
from motet.targets.systolic.formats import FORMATS, Format, format_named
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.mappings.assignment import Assignment, Timetable
from motet.targets.systolic.mappings.file import Constraints
from motet.targets.systolic.mappings.mapping import Mapping, Place
from motet.targets.systolic.mappings.plan import Plan, Priced, make_plan
from motet.targets.systolic.mappings.prefetch import prefetched
from motet.targets.systolic.vector_units import as_computed, refusal
from motet.targets.systolic.workload.graph import Step, Workload

MAX_STEPS = 60_000


@dataclass(frozen=True)
class CompiledWorkload:
    """A program and the plan that it follows.

    The plan has the steps in the order in which they are emitted, which an assignment may change;
    the program has, as its steps, the workload's in its order.
    """

    program: SystolicProgram
    plan: Plan
    mappings: dict[str, Mapping] = field(default_factory=dict)


def compile_workload(
    workload: Workload,
    description: ArrayDescription,
    number_format: str | Format = "fp32",
    constraints: Constraints | None = None,
    assignment: Assignment | None = None,
) -> CompiledWorkload:
    """The program of ``workload``, on the pods of ``description`` that make it fastest.

    Parameters
    ----------
    number_format: "fp32", "bf16", "int8" or "int4", or what ``workload.what_if`` makes of one;
        some pod must offer it; a workload of vectors has its own.
    constraints: what a mapping file pins, by step name.
    assignment: the order of the steps, and the pods that each may use.

    Raises
    ------
    CompileError: a step does not fit the array's memories, the program would be larger than
        ``MAX_INSTRUCTIONS``, or ``assignment`` is none of this workload and array.
    """
    made = format_of(workload, number_format)
    description = as_computed(description, made)
    if assignment is not None:
        return _assigned(workload, description, made, constraints, assignment)
    plan, program = fastest(
        _plans(workload, description, made, constraints),
        description,
        lambda plan: emit_plan(workload, description, made, plan),
    )
    return _compiled(workload, plan, program)


def format_of(workload: Workload, number_format: str | Format) -> Format:
    """The format that ``workload`` is computed in: of its vectors, or else ``number_format``."""
    if workload.vectors:
        return format_named(workload.vectors)
    return FORMATS[number_format] if isinstance(number_format, str) else number_format


def _compiled(workload: Workload, plan: Plan, program: SystolicProgram) -> CompiledWorkload:
    names = [step.name for step in workload.steps]
    return CompiledWorkload(program, plan, dict(zip(names, plan.mappings, strict=True)))


def _assigned(
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    constraints: Constraints | None,
    assignment: Assignment,
) -> CompiledWorkload:
    """The program that follows ``assignment``."""
    _check(workload, description, number_format)
    ordered, timetable = assignment.ordered(workload, description), assignment.timetable
    plan = _planned(ordered, description, number_format, constraints, timetable)
    program = emit_plan(ordered, description, number_format, plan, assignment.order)
    return _compiled(ordered, plan, program)


def plan_workload(
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    constraints: Constraints | None = None,
) -> Plan:
    """The plan with the least estimated cycles; ``compile_workload`` follows it or a faster one."""
    number_format = format_of(workload, number_format)
    description = as_computed(description, number_format)
    return _plans(workload, description, number_format, constraints)[0]


def _plans(
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    constraints: Constraints | None,
) -> list[Plan]:
    """The plans that may be the fastest, the one with the least estimated cycles first."""
    _check(workload, description, number_format)

    count = len(workload.steps)

    def planned(pods: range) -> Plan:
        limited = Timetable(tuple(range(count)), (pods,) * count)
        return _planned(workload, description, number_format, constraints, limited)

    return limited_plans(description, sum(step.layer.macs for step in workload.steps), planned)


def _planned(
    workload: Workload,
    description: ArrayDescription,
    number_format: Format,
    constraints: Constraints | None,
    timetable: Timetable,
) -> Plan:
    """The best plan that uses the pods of ``timetable`` only."""

    def mapper(number: int, step: Step, resident: Dict[int, Place], tile_words: int) -> Priced:
        return step_mapping(
            step,
            workload,
            description,
            number_format,
            resident,
            scratchpad_words=tile_words,
            constraints=constraints,
            pods=timetable.pods[number],
        )

    plan = make_plan(workload, description, number_format, mapper, timetable)
    return prefetched(plan, workload, description, number_format, constraints)


def _check(workload: Workload, description: ArrayDescription, number_format: Format) -> None:
    is_offered = number_format.name in description.formats
    if number_format.vectors is not None and not is_offered:
        why = refusal(description, number_format.vectors)
        raise CompileError(f"products in {number_format.name}: {why}; leave them to the host")
    if not is_offered:
        raise CompileError(
            f"array {description.name!r} has no pod for {number_format.name}: "
            f"its formats are {', '.join(description.formats)}"
        )
    if len(workload.steps) > MAX_STEPS:
        raise CompileError(f"a program has at most {MAX_STEPS} steps, not {len(workload.steps)}")
