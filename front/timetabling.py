"""The models of a bundle as a problem for timetables: stages' times on shares of the pods, joints.

What ``together`` knows of models that share a machine, and for regions of the array that are
given as workloads (models and specifications) what they take on fewer pods, and what two models
take as one program; of a bundle what the programs take that it has for its timetable's pods.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from motet.bundle_seconds import BundleSeconds, Question, figures
from motet.runtime.errors import SpecError
from motet.runtime.progress import Show, silent
from motet.simulating import SimulatedModel
from motet.simulation_input import Work
from motet.stored_programs import stored_joints, stored_shares
from motet.targets.sharing.loads import Load, Share, Stage
from motet.targets.systolic.workload.graph import Workload
from motet.targets.timetables.jobs import Joint, Problem, problem, shares_of, with_rates
from motet.targets.timetables.placing import Table
from motet.targets.timetables.replay import replay
from motet.together import Together, load_of

JOINTS = 4
"""Pairs of models whose joint program is made, the most promising first."""


def with_shares(
    together: Together, work: Work, models: Sequence[SimulatedModel], show: Show = silent
) -> tuple[Load, ...]:
    """The loads of ``together`` with what the array's stages take on fewer pods too."""
    return tuple(
        replace(load, stages=_stages(load, work, model, show))
        for load, model in zip(together.loads, models, strict=True)
    )


def shares_asked(work: Work, models: Sequence[SimulatedModel]) -> int:
    """How many times on shares ``with_shares`` asks for: what its ``show`` counts."""
    regions = ((one.model, _regions(work, one.model)) for one in models)
    return sum(
        len(_counts(work, name)) * sum(region is not None for region in own)
        for name, own in regions
    )


def refuse_rates(work: Work, model: str | None = None) -> None:
    """Raise ``SpecError`` for a model without a rate; models need not be there yet.

    model: the only one that is asked for. Hyperperiods are refused when stages are timed, as then
    it is known too whether the rates are beyond the machine.
    """
    chosen = {n: one for n, one in work.schedules.items() if model in (None, n)}
    some = (Stage("array", 1),)  # what it takes is not asked
    loads = [load_of(name, some, schedule) for name, schedule in chosen.items()]
    with_rates(loads)


def refuse_sharing(work: Work) -> None:
    """Raise ``SpecError`` where there is nothing to share out; models need not be there yet."""
    if work.is_compiled and not work.pod_programs:
        raise SpecError(
            "--share-pods: the bundle's programs are for the whole array; give the specification "
            "or the model that it was made of, or a bundle with a timetable that shares pods"
        )
    if work.is_compiled and work.pods:
        raise SpecError(
            f"--share-pods: model {next(iter(work.pods))!r} of the bundle has quota.pods, and what "
            "its programs take on so many pods is not known: give the specification"
        )
    if work.description.pod_count == 1 or len(work.description.pods) > 1:
        raise SpecError(
            f"--share-pods: array {work.description.name!r} has "
            f"{'one pod' if work.description.pod_count == 1 else 'pods of several kinds'}: give "
            "one of several equal pods"
        )


def sharing(
    together: Together, work: Work, models: Sequence[SimulatedModel], show: Show = silent
) -> Together:
    """``together`` with the loads of ``with_shares``, each on no more pods than its quota.

    Raises ``SpecError`` where there is nothing to share out.
    """
    refuse_sharing(work)
    loads = [
        _within(load, work.pods.get(load.name, work.description.pod_count))
        for load in with_shares(together, work, models, show)
    ]
    pairs = zip(together.models, loads, strict=True)
    return replace(together, models=tuple(replace(model, load=load) for model, load in pairs))


def _within(load: Load, pods: int) -> Load:
    """``load`` with no share of more than so many pods."""
    stages = []
    for stage in load.stages:
        kept = tuple(share for share in stage.shares if share.pods <= pods)
        if stage.resource == "array" and not kept:
            raise SpecError(
                f"--share-pods: model {load.name!r} does not fit on {pods} pods, its quota.pods: "
                "raise it"
            )
        stages.append(replace(stage, shares=kept))
    return replace(load, stages=tuple(stages))


def _stages(load: Load, work: Work, model: SimulatedModel, show: Show) -> tuple[Stage, ...]:
    from motet.passes.scheduling.pod_times import moving_joules, pod_time

    regions = iter(_regions(work, load.name))
    counts = iter(model.regions)
    numbers = itertools.count()
    found = []
    for stage in load.stages:
        if stage.resource == "host":
            found.append(stage)
            continue
        region, own = next(regions), next(counts)
        shares = stored_shares(work, load.name, next(numbers))
        for pods in _counts(work, load.name):
            if region is None:
                break
            show(f"{load.name} on {pods} of {work.description.pod_count} pods")
            made = pod_time(region, work.description, work.number_format, pods)
            if made is not None:
                shares.append(Share(pods, made.cycles, made.joules))
        whole = Share(work.description.pod_count, own.cycles, moving_joules(own.energy_joules))
        found.append(replace(stage, shares=_falling([*shares, whole])))
    return tuple(found)


def _counts(work: Work, model: str) -> list[int]:
    """Numbers of pods that a model's times are asked for: up to its quota, if it has one."""
    from motet.passes.scheduling.pod_times import shares_to_time

    most = work.pods.get(model, work.description.pod_count)
    known = shares_to_time(work.description)
    counts = [pods for pods in known if pods < most]
    is_held = known and most < work.description.pod_count
    return [*counts, most] if is_held else counts


def _regions(work: Work, model: str) -> list[Workload | None]:
    """The array's stages of a model; None for one that is compiled already."""
    [found] = [one for one in work.models if one.model == model]
    on_array = (s for s in found.stages if s.workload is not None or s.program is not None)
    return [stage.workload for stage in on_array]


def _falling(shares: Sequence[Share]) -> tuple[Share, ...]:
    """Ticks that never rise with pods: on more, as many as are best may be used."""
    found: list[Share] = []
    for share in shares:
        best = found[-1] if found and found[-1].ticks < share.ticks else share
        found.append(replace(best, pods=share.pods))
    return tuple(found)


def problem_of(
    together: Together,
    work: Work | None = None,
    models: Sequence[SimulatedModel] = (),
    joints: int = JOINTS,
    pairs: Sequence[tuple[str, str]] | None = None,
    show: Show = silent,
) -> Problem:
    """The frames of a hyperperiod; of an array (``work``) with shares and at most ``joints``.

    pairs: the models whose joint programs are made, instead of the most promising.
    """
    loads = together.loads
    try:
        problem(loads, together.clock_hz)  # refuses before anything is timed
    except SpecError as error:
        told = "; ".join(together.overloads())
        raise (SpecError(f"{told}, so there is no timetable; {error}") if told else error) from None
    if work is not None:
        loads = with_shares(together, work, models, show)
    pods = 1 if work is None else work.description.pod_count
    made = problem(loads, together.clock_hz, pods, together.rest_watts)
    if work is None:
        return made
    if work.is_compiled:
        return replace(made, joints=stored_joints(made, work))
    free = [pair for pair in _pairs(made) if not any(made.loads[m].name in work.pods for m in pair)]
    chosen = free[:joints] if pairs is None else _named(made, pairs)
    return replace(made, joints=_joints(made, work, chosen, show))


def _named(made: Problem, pairs: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    names = [load.name for load in made.loads]
    return [
        (names.index(one), names.index(other))
        for one, other in pairs
        if one in names and other in names and one != other
    ]


def _joints(
    made: Problem, work: Work, pairs: Sequence[tuple[int, int]], show: Show
) -> tuple[Joint, ...]:
    """Joint programs of pairs of models that are released together, where they save time."""
    from motet.passes.scheduling.pod_times import joint_time

    found = []
    for one, other in pairs:
        first, second = (_largest(made.loads[model]) for model in (one, other))
        names = [made.loads[model].name for model in (one, other)]
        regions = [_region(work, made.loads[m], n) for m, n in ((one, first), (other, second))]
        if regions[0] is None or regions[1] is None:
            continue
        show(f"{names[0]} and {names[1]} as one program")
        time = joint_time(regions[0], regions[1], work.description, work.number_format)
        alone = made.loads[one].stages[first].ticks + made.loads[other].stages[second].ticks
        if time is not None and time.cycles < alone:
            joint = Joint((one, first), (other, second), time.cycles, time.ends, time.joules)
            found.append(joint)
    return tuple(found)


def _region(work: Work, load: Load, stage: int) -> Workload | None:
    before = sum(one.resource == "array" for one in load.stages[:stage])
    return _regions(work, load.name)[before]


def _largest(load: Load) -> int:
    """The longest stage of the array."""
    on_array = [n for n, stage in enumerate(load.stages) if stage.resource == "array"]
    return max(on_array, key=lambda n: load.stages[n].ticks)


def _pairs(made: Problem) -> list[tuple[int, int]]:
    """Models with a frame each that are released together and do not wait for each other.

    Those that lose the most by having all pods, against their cheapest share, come first.
    """
    releases: list[set[int]] = [set() for _ in made.loads]
    for job in made.jobs:
        releases[job.model].add(job.release)
    before = _before(made.loads)
    found = []
    for one, other in itertools.combinations(range(len(made.loads)), 2):
        names = made.loads[one].name, made.loads[other].name
        apart = names[0] not in before[names[1]] and names[1] not in before[names[0]]
        has_array = _has_array(made, one) and _has_array(made, other)
        if apart and has_array and releases[one] & releases[other]:
            found.append((one, other))
    return sorted(found, key=lambda pair: -sum(_loss(made, model) for model in pair))


def _has_array(made: Problem, model: int) -> bool:
    """Whether some stage of the model runs on the array."""
    return any(stage.resource == "array" for stage in made.loads[model].stages)


def _before(loads: Sequence[Load]) -> Mapping[str, set[str]]:
    """All models that each waits for, also through others."""
    found: dict[str, set[str]] = {}
    for load in loads:
        found[load.name] = set(load.after).union(*(found[name] for name in load.after))
    return found


def _loss(made: Problem, model: int) -> int:
    return sum(
        stage.ticks * made.pods
        - min(share.pods * share.ticks for share in shares_of(stage, made.pods))
        for stage in made.loads[model].stages
        if stage.resource == "array"
    )


def played(together: Together, table: Table, duration: Fraction, seed: int = 0) -> BundleSeconds:
    """The timetable over ``duration`` seconds, as ``motet simulate --duration`` has policies."""
    outcome = replay(table, duration, seed)
    names = [load.name for load in table.problem.loads]
    models = tuple(outcome.models[names.index(load.name)] for load in together.loads)
    question = Question(duration, "timetable", seed, keep_late=True)
    found = figures(together, question, seed, replace(outcome, models=models))
    if together.rest_watts is None:
        return found
    return replace(found, energy_joules=outcome.joules + together.rest_watts * float(duration))
