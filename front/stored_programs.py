"""What a bundle's programs for some of the pods, and of two models together, take on the array."""

from __future__ import annotations

from motet.simulation_input import Work
from motet.targets.sharing.loads import Load, Share
from motet.targets.timetables.jobs import Joint, Problem


def stored_shares(work: Work, model: str, number: int) -> list[Share]:
    """Times of array call ``number`` of a model on fewer than all pods, by rising pods.

    Of several places with as many pods the slowest.
    """
    from motet.passes.scheduling.pod_times import moving_joules
    from motet.targets.systolic.simulation.counts import program_counts
    from motet.targets.systolic.slices import sliced

    found: dict[int, Share] = {}
    for one, program in work.pod_programs:
        if one.calls != ((model, number),):
            continue
        counts = program_counts(program, sliced(work.description, one.share))
        share = Share(one.pods, counts.cycles, moving_joules(counts.energy_joules))
        known = found.get(one.pods, share)
        found[one.pods] = max(known, share, key=lambda each: each.ticks)
    return [found[pods] for pods in sorted(found)]


def stored_joints(made: Problem, work: Work) -> tuple[Joint, ...]:
    """The programs of two models together, as a timetable's problem has them."""
    from motet.passes.scheduling.pod_times import moving_joules
    from motet.targets.systolic.simulation.counts import program_counts

    names = [load.name for load in made.loads]
    found = []
    for one, program in work.pod_programs:
        if len(one.calls) != 2 or not {model for model, _ in one.calls} <= {*names}:
            continue
        counts = program_counts(program, work.description)
        places = [
            (names.index(model), _stage_of(made.loads[names.index(model)], number))
            for model, number in one.calls
        ]
        joules = moving_joules(counts.energy_joules)
        ends = (one.done_cycles[0], one.done_cycles[1])
        found.append(Joint(places[0], places[1], counts.cycles, ends, joules))
    return tuple(found)


def _stage_of(load: Load, number: int) -> int:
    """The number among all stages of that number of the array."""
    on_array = [at for at, stage in enumerate(load.stages) if stage.resource == "array"]
    return on_array[number]
