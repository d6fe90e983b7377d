"""The models of a bundle as loads of one machine: stages of the array and of the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from motet.host_times import FORMULA, MEASURED, NONE, by_formula, formula, from_profile, measured
from motet.placement_words import nothing_line
from motet.runtime.bundle import Bundle
from motet.runtime.errors import SpecError
from motet.runtime.program import Kernel
from motet.simulating import SimulatedModel, SimulatedStage
from motet.simulation_input import Schedule, Work, schedule_of
from motet.targets.cost import Cost
from motet.targets.sharing.asked import overload_text
from motet.targets.sharing.loads import RESOURCES, Load, Stage, fraction_of, ordered
from motet.targets.systolic.simulation.energy import watts_at_rest

HOST_CLOCK_HZ = 10**9
"""Ticks a second where there is no array: nanoseconds."""


@dataclass(frozen=True)
class TogetherModel:
    """A model; array_macs: of a run. host_operators: of a run; host_times: how their time is known,
    empty where they take none.
    """

    load: Load
    array_macs: int = 0
    host_operators: int = 0
    host_times: str = ""


@dataclass(frozen=True)
class Together:
    """Models that share a machine.

    machine: an array's name, or ``host``. clock_hz: ticks of the loads' stages. elements: of the
    array, 0 without one. rest_watts: the array's at rest; None where no energy is known. pods: of
    the array.
    """

    machine: str
    number_format: str
    clock_hz: Fraction
    elements: int
    rest_watts: float | None
    models: tuple[TogetherModel, ...]
    pods: int = 1

    @property
    def loads(self) -> tuple[Load, ...]:
        """In the order of the bundle."""
        return tuple(model.load for model in self.models)

    def doubts(self) -> list[str]:
        """What no policy can put right: rates beyond the machine, deadlines below a run's time."""
        lines = self.overloads()
        for load in ordered(self.loads):
            least = load.ticks / self.clock_hz
            due = load.deadline_seconds
            due = 1 / load.rate_hz if due is None and load.rate_hz is not None else due
            if due is not None and due < least:
                lines.append(
                    f"model {load.name!r}: a run alone takes {1e3 * float(least):.4g} ms, and its "
                    f"deadline is {1e3 * float(due):.4g} ms after its release"
                )
        return lines

    def overloads(self) -> list[str]:
        """Resources that the rates ask too much of, and by how much."""
        loads = {load.name: load for load in ordered(self.loads)}
        lines = []
        for resource in RESOURCES:
            demand = sum(_demand(load, loads, resource, self.clock_hz) for load in loads.values())
            if demand > 1:
                lines.append(f"the rates ask for {overload_text(demand, resource)}")
        return lines


def _demand(load: Load, loads: Mapping[str, Load], resource: str, clock_hz: Fraction) -> float:
    """Share of the resource's time that the model's rate asks for; 0 back to back."""
    if load.rate_hz is None:
        return 0.0
    chance, todo = 1.0, {load.name}
    before: set[str] = set()
    while todo:
        name = todo.pop()
        before.add(name)
        chance *= loads[name].probability
        todo |= set(loads[name].after) - before
    ticks = sum(stage.ticks for stage in load.stages if stage.resource == resource)
    return chance * float(load.rate_hz * ticks / clock_hz)


def on_array(
    work: Work, models: Sequence[SimulatedModel], bundle: Callable[[], Bundle], host: str | None
) -> Together:
    """Models of an array; the host's operators by ``formula`` where ``host`` says nothing.

    bundle: gives the compiled models, for ``measured``. Raises ``SpecError`` where a model has
    nothing on the array.
    """
    description = work.description
    costs = None if host in (None, FORMULA) else _costs(host, bundle)
    clock = Fraction(description.clock_hz)
    made = []
    for model in models:
        if not model.regions:
            raise SpecError(
                f"{nothing_line(f'model {model.model!r}', repr(model.array), model.placement)}; "
                "choose others with --model, or compile for the host"
            )
        known = _known(model, costs, host)
        stages = [_stage(stage, known, clock) for stage in model.stages]
        load = load_of(
            model.model,
            [stage for stage in stages if stage is not None],
            work.schedules.get(model.model, Schedule()),
        )
        made.append(
            TogetherModel(load, model.array_macs, len(model.host), _provenance(known, host))
        )
    watts = watts_at_rest(description) if description.energy is not None else None
    return Together(
        description.name, work.number_format, clock, description.elements, watts, tuple(made),
        description.pod_count,
    )  # fmt: skip


def on_host(bundle: Bundle, host: str | None, model: str | None, threads: int | None) -> Together:
    """Models of the host, their operators ``measured`` where ``host`` says nothing."""
    entries = [entry for entry in bundle.manifest.models if model in (None, entry.name)]
    if not entries:
        known_models = ", ".join(entry.name for entry in bundle.manifest.models)
        raise SpecError(f"no model {model!r}; the models are {known_models}")
    if host in (None, MEASURED):
        costs = measured(bundle, threads)
    else:
        costs = by_formula(bundle) if host == FORMULA else from_profile(str(host))
    made = []
    for entry in entries:
        program = bundle.programs[entry.name]
        steps = [step for step in program.instructions if isinstance(step, Kernel)]
        names = [program.operators[step.operator].op for step in steps]
        known = {name: costs[name] for name in names if name in costs}
        _check_known(entry.name, names, known, host)
        clock = Fraction(HOST_CLOCK_HZ)
        stages = [_host_stage(known[name], clock) for name in names if name in known]
        load = load_of(entry.name, stages, schedule_of(entry, entry.wires))
        made.append(TogetherModel(load, 0, len(names), _provenance(known, host)))
    return Together("host", "", Fraction(HOST_CLOCK_HZ), 0, None, tuple(made))


def _costs(host: str | None, bundle: Callable[[], Bundle]) -> dict[str, Cost]:
    if host == NONE:
        return {}
    return measured(bundle()) if host == MEASURED else from_profile(str(host))


def _known(
    model: SimulatedModel, costs: Mapping[str, Cost] | None, host: str | None
) -> dict[str, Cost]:
    """The costs of a model's operators on the host."""
    if costs is None:
        return {stage.op: formula(stage.macs, stage.bytes) for stage in model.host}
    found = {stage.op: costs[stage.op] for stage in model.host if stage.op in costs}
    if host != NONE:
        _check_known(model.model, [stage.op for stage in model.host], found, host)
    return found


def _check_known(
    model: str, names: Sequence[str], known: Mapping[str, Cost], host: str | None
) -> None:
    """Operators of a branch that was not taken may be missing, all of them not."""
    if names and not known:
        raise SpecError(
            f"--host {host}: it has no time of any of model {model!r}'s {len(names)} operators on "
            f"the host, as {names[0]!r}: measure this bundle"
        )


def _stage(stage: SimulatedStage, known: Mapping[str, Cost], clock: Fraction) -> Stage | None:
    if stage.counts is not None:
        return Stage("array", stage.counts.cycles, math.fsum(stage.counts.energy_joules.values()))
    return _host_stage(known[stage.op], clock) if stage.op in known else None


def _host_stage(cost: Cost, clock: Fraction) -> Stage:
    return Stage("host", math.ceil(Fraction(cost.seconds) * clock))


def _provenance(known: Mapping[str, Cost], host: str | None) -> str:
    kinds = sorted({cost.provenance for cost in known.values()})
    source = f" ({host})" if host not in (None, FORMULA, MEASURED, NONE) and kinds else ""
    return ", ".join(kinds) + source


def load_of(name: str, stages: Sequence[Stage], schedule: Schedule) -> Load:
    """A model's stages and schedule as a load."""
    late, rate = schedule.deadline_ms, schedule.rate_hz
    return Load(
        name,
        tuple(stages),
        None if rate is None else fraction_of(rate),
        None if late is None else fraction_of(late) / 1000,
        schedule.priority,
        schedule.after,
        schedule.probability,
        time_share=schedule.time_share,
        phase_seconds=fraction_of(schedule.phase_ms or 0) / 1000,
    )
