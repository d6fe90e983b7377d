"""What a region of a model takes on a share of an array's pods, and two regions as one program.

A share of pods comes with the bandwidth of a slice (``targets/systolic/slices.py``), so that times
of shares that work at once can be added up. Times are the timing view's of a program for those
pods, without what lies idle; they never rise with more pods (fewer may be used).

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

from motet.passes.scheduling.shared_programs import joint_program, pod_program
from motet.runtime.errors import CompileError
from motet.targets.host.kernel_cache import cache_of_environment, is_enabled
from motet.targets.systolic import architecture
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_file import to_json
from motet.targets.systolic.simulation.counts import program_counts
from motet.targets.systolic.slices import sliced
from motet.targets.systolic.workload.graph import Workload
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
    try:
        program = pod_program(changed, description, made, range(pods))
    except CompileError:
        return None
    counts = program_counts(program, sliced(description, pods))
    return PodTime(pods, counts.cycles, moving_joules(counts.energy_joules))


def moving_joules(energy: dict[str, float]) -> float:
    """Energy of a run without what an array takes at rest."""
    return math.fsum(value for name, value in energy.items() if name not in AT_REST)


def joint_time(
    first: Workload, second: Workload, description: ArrayDescription, number_format: str
) -> JointTime | None:
    """Two regions as one program (``joint_program``); None where it is too large."""
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
        found = joint_program(one, other, description, made)
    except CompileError:
        return None
    counts = program_counts(found.program, description, found.timing)
    return JointTime(
        found.timing.cycles, found.ends, moving_joules(counts.energy_joules), found.found_by
    )


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
