"""What a region of a model takes on a share of an array's pods, and two regions as one program.

A share of k of P pods comes with k/P of DRAM's bandwidth and of a bus, so that shares that work at
the same time do not slow each other down and their times can be added up: what an accelerator
that is cut into slices guarantees. Times are the timing view's of a program for those pods,
without what lies idle; they never rise with more pods (fewer may be used).

Answers are kept in the user's cache (``motet cache``) under all that they depend on, the code that
gives them included.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from motet.passes.options import ScheduleOptions
from motet.passes.scheduling.array_stages import schedule_workload
from motet.runtime.errors import CompileError
from motet.targets.host.kernel_cache import cache_of_environment, is_enabled
from motet.targets.systolic import architecture
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_file import to_json
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.mappings.assignment import Assignment, Group
from motet.targets.systolic.simulation.counts import program_counts
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Epilogue, Requantise, Step, Workload
from motet.targets.systolic.workload.parts import Part
from motet.targets.systolic.workload.what_if import in_format

AT_REST = ("leakage", "idle")
"""Components of energy that an array takes whatever it does."""

MOST_SHARES = 16
"""Parts into which many pods are cut at the finest."""


class PodTime(msgspec.Struct, frozen=True):
    """A region on ``pods`` pods; joules: without what the array takes at rest, 0 if unknown."""

    pods: int
    cycles: int
    joules: float


class JointTime(msgspec.Struct, frozen=True):
    """Two regions as one program on all pods; ends: cycles until each of them is done.

    found_by: the candidate that was fastest (``array_stages``).
    """

    cycles: int
    ends: tuple[int, int]
    joules: float
    found_by: str


def shares_to_time(description: ArrayDescription) -> tuple[int, ...]:
    """Numbers of pods below all that are worth knowing: 2^i and 3 x 2^i, of many the larger ones.

    None where pods are of several kinds: there a time depends on which pods they are.
    """
    count = description.pod_count
    if len(description.pods) > 1:
        return ()
    powers = {times << i for i in range(count.bit_length()) for times in (1, 3)}
    return tuple(n for n in sorted(powers) if count / MOST_SHARES <= n < count)


def sliced(description: ArrayDescription, pods: int) -> ArrayDescription:
    """The array with the bandwidth that comes with ``pods`` of its pods; it still has them all."""
    part = pods / description.pod_count
    dram = msgspec.structs.replace(
        description.dram, bytes_per_second=description.dram.bytes_per_second * part
    )
    join = description.interconnect
    if join.kind == "bus":
        join = msgspec.structs.replace(join, link_bytes=max(1, math.floor(join.link_bytes * part)))
    return msgspec.structs.replace(description, dram=dram, interconnect=join)


def pod_time(
    workload: Workload, description: ArrayDescription, number_format: str, pods: int
) -> PodTime | None:
    """A region on the first ``pods`` pods; None where it does not fit their memories."""
    key = _key("pods", workload, description, number_format, pods)
    found: PodTime | None = _kept(
        key, PodTime | None, lambda: _pod_time(workload, description, number_format, pods)
    )
    return found


def _pod_time(
    workload: Workload, description: ArrayDescription, number_format: str, pods: int
) -> PodTime | None:
    changed, made = in_format(workload, number_format)
    slice_, numbers = sliced(description, pods), range(len(changed.steps))
    one_by_one = Assignment(tuple((Group((n,), range(pods)),) for n in numbers))
    try:
        program = compile_workload(changed, slice_, made, None, one_by_one).program
    except CompileError:
        return None
    counts = program_counts(program, slice_)
    return PodTime(pods, counts.cycles, moving_joules(counts.energy_joules))


def moving_joules(energy: dict[str, float]) -> float:
    """Energy of a run without what an array takes at rest."""
    return math.fsum(value for name, value in energy.items() if name not in AT_REST)


def joint_time(
    first: Workload, second: Workload, description: ArrayDescription, number_format: str
) -> JointTime | None:
    """Two regions as one program, their operators scheduled together; None where it is too large.

    The candidates of ``array_stages`` on the union of both graphs: stages whose groups come from
    both models among them.
    """
    key = _key("joint", first, second, description, number_format)
    found: JointTime | None = _kept(
        key, JointTime | None, lambda: _joint_time(first, second, description, number_format)
    )
    return found


def _joint_time(
    first: Workload, second: Workload, description: ArrayDescription, number_format: str
) -> JointTime | None:
    one, made = in_format(first, number_format)
    other, _ = in_format(second, number_format)
    try:
        found = schedule_workload(
            united(one, other), description, made, None, ScheduleOptions(enabled=True)
        )
    except CompileError:
        return None
    program = found.compiled.program
    timing = simulate(program, description)
    ends = np.zeros(len(program.steps), np.int64)
    np.maximum.at(ends, program.instructions["step"], timing.records["end"])
    own = len(one.steps)
    counts = program_counts(program, description, timing)
    return JointTime(
        timing.cycles,
        (int(ends[:own].max()), int(ends[own:].max())),
        moving_joules(counts.energy_joules),
        found.best,
    )


def united(one: Workload, other: Workload) -> Workload:
    """Two workloads that share nothing as one: the steps of ``one`` first, names made different."""
    by = len(one.tensors)
    steps = [_moved(step, 0, "0/") for step in one.steps]
    steps += [_moved(step, by, "1/") for step in other.steps]
    parts = one.parts + tuple(
        Part(part.tensor + by, part.whole + by, part.offset) for part in other.parts
    )
    return Workload(one.tensors + other.tensors, tuple(steps), parts)


def _moved(step: Step, by: int, prefix: str) -> Step:
    """A step with the numbers of its tensors raised."""
    given = step.epilogue
    scale = given.requantise
    epilogue = Epilogue(
        _raised(given.bias, by),
        _raised(given.residual, by),
        None if scale is None else Requantise(scale.scale + by, scale.zero_point),
        given.activation,
        given.alpha,
        given.clamp,
    )
    inputs = tuple(number + by for number in step.inputs)
    return Step(prefix + step.name, step.layer, inputs, step.output + by, epilogue)


def _raised(number: int | None, by: int) -> int | None:
    return None if number is None else number + by


def _kept(key: str, kind: Any, make: Callable[[], Any]) -> Any:
    """An answer from the cache, or made and kept."""
    if not is_enabled():
        return make()
    store = cache_of_environment()
    data = store.get(key)
    if data is not None:
        return msgspec.json.decode(data, type=kind)
    made = make()
    store.put(key, msgspec.json.encode(made))
    return made


def _key(kind: str, *facts: object) -> str:
    digest = hashlib.sha256(_code())
    for fact in facts:
        data = to_json(fact) if isinstance(fact, ArrayDescription) else repr(fact).encode()
        digest.update(hashlib.sha256(data).digest())
    return f"{kind}-{digest.hexdigest()}"


@cache
def _code() -> bytes:
    """A digest of the code that the answers come from."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(architecture.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.digest()
