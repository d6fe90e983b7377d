"""Tries MetaSchedule on the units that take much of a network's time and have no schedule space.

Where a family declares a space, its points are measured (``targets.host.tuning``): there the
search was never ahead. Of the others (poolings of 1 and 3 dimensions, reductions over inner
axes, plain, grouped and transposed convolutions, ...) every unit's own kernel is timed first;
those with a relevant share of a run are then searched, the longest first. A candidate and our
own kernel are timed by the same stopwatch in turns, ours with its packed weights and the
candidate with the plain ones, as a bundle would run them. A unit is kept when it is done, so a
run that is stopped goes on with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax

from motet.runtime.errors import UnsupportedOperatorError
from motet.runtime.kernels import KernelLibrary
from motet.runtime.progress import Show, silent
from motet.targets.host.cost_model.measure import Measurer
from motet.targets.host.cost_model.stopwatch import Argument, Contest
from motet.targets.host.loops import constant_of
from motet.targets.host.lower_unit import LoweredUnit, fuse, lower_unit
from motet.targets.host.machine import Machine
from motet.targets.host.meta_schedule.kernel_store import KernelStore, Searched, unit_key
from motet.targets.host.meta_schedule.search import Found, Time
from motet.targets.host.space import Family, Point, Problem, first_point, selecting
from motet.targets.host.tuning_store import Scope
from motet.targets.host.user_kernel import kernel_of

RELEVANT = 0.02
"""The share of a run's time from which a unit is searched."""
GAIN = 1.05
"""A kernel must be this many times as fast as ours to take its place."""
_OWN_SECONDS, _CONTEST_SECONDS = 0.2, 1.0
_TOLERANCE = 1e-3
"""Of the largest magnitude of an output: wrong schedules are off by far more than rounding."""

Search = Callable[[Any, Machine, int, Time], Found | None]


@dataclass(frozen=True)
class HostUnit:
    """A distinct unit (without marks) that a network calls ``uses`` times, the parameters that
    are constants, and the ONNX nodes of the calls.
    """

    function: relax.Function
    constants: frozenset[int]
    uses: int
    nodes: tuple[str, ...]

    @property
    def key(self) -> str:
        """What the store knows it by."""
        return unit_key(self.function, self.constants)


class _OutOfTimeError(Exception):
    """The budget is used up in the middle of a search."""


@dataclass(frozen=True)
class _Subject:
    """A unit that can be searched: its naive nests, and our own kernel."""

    unit: HostUnit
    workload: Any
    own: LoweredUnit


@dataclass(frozen=True)
class UnitTuning:
    """What the search works with. trials: candidates per unit. search: MetaSchedule's."""

    machine: Machine
    scope: Scope
    store: KernelStore
    trials: int
    search: Search

    def run(
        self,
        units: Sequence[HostUnit],
        measurer: Measurer,
        until: Callable[[], bool],
        show: Show = silent,
        warn: Show = silent,
    ) -> bool:
        """Search what was not searched yet; whether all was done before ``until()``."""
        if all(self._tried(unit) for unit in units):
            return True
        if until():
            return False
        subjects = [s for s in map(self._subject, units) if s is not None]
        for subject in self._relevant(subjects, measurer):
            if self._tried(subject.unit):
                continue
            show(subject.unit.nodes[0])
            try:
                result = self._searched(subject, measurer, until, warn)
            except _OutOfTimeError:
                return False
            self.store.keep(self.scope, subject.unit.key, result)
        return True

    def known(self, units: Sequence[HostUnit]) -> list[tuple[HostUnit, Searched]]:
        """The units that were searched, the longest first."""
        found = [(unit, self.store.searched(self.scope, unit.key)) for unit in units]
        tried = [(unit, result) for unit, result in found if result is not None]
        return sorted(tried, key=lambda pair: -pair[0].uses * pair[1].own)

    def _tried(self, unit: HostUnit) -> bool:
        return self.store.searched(self.scope, unit.key) is not None

    def _subject(self, unit: HostUnit) -> _Subject | None:
        """None for what has a choice of schedules of ours, cannot be run by itself on random
        numbers, or has open sizes.
        """
        asked: list[Family] = []

        def choose(
            family: Family, problem: Problem, points: Sequence[Point], machine: Machine
        ) -> Point:
            asked.append(family)
            return first_point(family, problem, points, machine)

        calls = [b.value for block in unit.function.body.blocks for b in block.bindings]
        if any(kernel_of(c) is not None for c in calls if isinstance(c, relax.Call)):
            return None
        try:
            workload = fuse(unit.function)
            with selecting(choose):
                own = lower_unit(unit.function, unit.constants, self.machine)
        except UnsupportedOperatorError:
            return None
        if asked:
            return None
        params = [*workload.params, *own.func.params]
        if any(not hasattr(p, "shape") or str(p.dtype) != "float32" for p in params):
            return None
        sizes = [constant_of(d) for p in params for d in p.shape]
        return _Subject(unit, workload, own) if None not in sizes and 0 not in sizes else None

    def _relevant(self, subjects: Sequence[_Subject], measurer: Measurer) -> list[_Subject]:
        """Those with a relevant share of the run, the longest first."""
        if not subjects:
            return []
        owns = [[(s, s.own)] for s in subjects]
        found = _timed(measurer, self.scope.threads, owns, _OWN_SECONDS)
        times = [0.0 if t is None else t[0] * s.unit.uses
                 for s, t in zip(subjects, found, strict=True)]  # fmt: skip
        order = sorted(range(len(subjects)), key=lambda i: -times[i])
        least = RELEVANT * sum(times)
        return [subjects[i] for i in order if times[i] > 0 and times[i] >= least]

    def _searched(
        self, subject: _Subject, measurer: Measurer, until: Callable[[], bool], warn: Show
    ) -> Searched:
        """The contest of the best candidate with our own kernel."""

        def time(kernels: Sequence[Any]) -> list[float | None]:
            if until():
                raise _OutOfTimeError
            batch = [(subject, LoweredUnit(kernel)) for kernel in kernels]
            (found,) = _timed(measurer, self.scope.threads, [batch], _CONTEST_SECONDS)
            return [None] * len(kernels) if found is None else list(found)

        name = subject.unit.nodes[0]
        try:
            found = self.search(subject.workload, self.machine, self.trials, time)
        except (RuntimeError, ValueError, TypeError) as error:
            warn(f"MetaSchedule cannot schedule {name}: {str(error).strip().splitlines()[-1]}")
            found = None
        other = LoweredUnit(None) if found is None else LoweredUnit(found.kernel)
        pair = [subject.own] if found is None else [subject.own, other]
        (times,) = _timed(
            measurer, self.scope.threads, [[(subject, k) for k in pair]], _CONTEST_SECONDS
        )
        if times is None or len(times) == 1:
            return Searched(0.0 if times is None else times[0], None)
        if times[0] < GAIN * times[1]:
            return Searched(times[0], times[1])
        if not _agree(subject, other, measurer):
            warn(f"MetaSchedule's kernel of {name} computes something else: it is not used")
            return Searched(times[0], times[1])
        return Searched(times[0], times[1], other.func)


def _timed(
    measurer: Measurer,
    threads: int,
    contests: Sequence[Sequence[tuple[_Subject, LoweredUnit]]],
    seconds: float,
) -> list[list[float] | None]:
    """Seconds of the kernels of every contest; None for one where a kernel crashed."""
    kernels = [[kernel for _, kernel in contest] for contest in contests]
    library = measurer.library(kernels)
    asked = [
        Contest(
            {
                measurer.symbol(n, i): _arguments(subject, kernel)
                for i, (subject, kernel) in enumerate(contest)
            },
            seconds,
        )
        for n, contest in enumerate(contests)
    ]
    return measurer.timed(library, threads, asked)


def _shape(param: Any) -> tuple[int, ...]:
    return tuple(int(constant_of(d) or 0) for d in param.shape)


def _arguments(subject: _Subject, kernel: LoweredUnit) -> tuple[Argument, ...]:
    return tuple(
        Argument(_shape(p), str(p.dtype), n in subject.unit.constants)
        for n, p in enumerate(kernel.func.params)
    )


def _agree(subject: _Subject, other: LoweredUnit, measurer: Measurer) -> bool:
    """Whether both kernels compute the same from random numbers, up to rounding."""
    path: Path = measurer.library([[subject.own, other]])
    library = KernelLibrary(path.read_bytes(), 1)
    random = np.random.default_rng(0)
    inputs = len(subject.workload.params) - _outputs(subject.unit.function)
    data = [random.random(_shape(p), np.float32) + 0.1 for p in subject.workload.params[:inputs]]
    results = [
        _outcome(library.function(measurer.symbol(0, i)), kernel, data, subject)
        for i, kernel in enumerate((subject.own, other))
    ]
    return all(
        np.allclose(a, b, 0, _TOLERANCE * max(1.0, float(np.max(np.abs(a)))), equal_nan=True)
        for a, b in zip(*results, strict=True)
    )


def _outputs(function: relax.Function) -> int:
    ty = function.ret_ty
    return len(ty.fields) if isinstance(ty, relax.TupleType) else 1


def _outcome(
    function: Callable[..., Any],
    kernel: LoweredUnit,
    data: Sequence[NDArray[Any]],
    subject: _Subject,
) -> list[NDArray[Any]]:
    """The outputs of a kernel."""
    packed = [kernel.packings[i](x) if i in kernel.packings else x for i, x in enumerate(data)]
    outputs = [np.zeros(_shape(p), np.float32) for p in subject.workload.params[len(data) :]]
    arrays = [_aligned(x) for x in (*packed, *outputs)]
    function(*[tvm_ffi.from_dlpack(x, require_alignment=64) for x in arrays])
    return arrays[len(data) :]


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy at a multiple of 64 bytes."""
    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
