"""Models never share memory: arenas of runs in flight, plans that violate it, models that fail."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from vm_programs import affine_program, batch_program, bundle_of, choice_program

from motet.runtime.bundle import Bundle, open_bundle
from motet.runtime.errors import BundleError
from motet.runtime.manifest import ModelEntry, Source
from motet.runtime.program import Program
from motet.runtime.session import Session

BIAS = np.arange(8, dtype=np.float32)
PROGRAMS = {"affine": affine_program(), "batch": batch_program(), "choice": choice_program()}
SHAPES = {"affine": (2, 4), "batch": (3, 4), "choice": (4,)}
LONG = 30.0


def bundle(kernels: bytes, **programs: Program) -> Bundle:
    entries = tuple(ModelEntry(name, Source("", "")) for name in programs)
    return bundle_of(programs, kernels, [BIAS], models=entries)


def test_runs_in_flight_share_no_byte_but_weights(kernel_library: bytes) -> None:
    """Two of each model at once: every buffer that a run reads or writes is its own."""
    session = Session(bundle(kernel_library, **PROGRAMS))
    weights = list(session._machine.weights)
    with ExitStack() as stack:
        frames = [
            stack.enter_context(model.bound({"x": np.ones(SHAPES[name], np.float32)}))
            for name, model in session.items()
            for _ in range(2)
        ]
        owned = [
            [a for a in frame._first.arrays.values() if not any(a is w for w in weights)]
            for frame in frames
        ]
        assert min(map(len, owned)) > 1
        for one, other in itertools.combinations(owned, 2):
            assert not any(np.shares_memory(a, b) for a in one for b in other)


def _shifted(program: Program) -> Program:
    """The last storage put beyond the end of the arena, where another model's may lie."""
    assert program.offsets is not None
    return replace(program, offsets=(*program.offsets[:-1], program.arena_bytes))


def _stacked(program: Program) -> Program:
    """All storages at the arena's start, though some are in use together."""
    assert program.offsets is not None
    return replace(program, offsets=(0,) * len(program.offsets))


def _small(program: Program) -> Program:
    """An arena smaller than what lies in it."""
    assert program.arena_bytes is not None
    return replace(program, arena_bytes=program.arena_bytes - 64)


@pytest.mark.parametrize(
    ("mutation", "message"),
    [
        (_shifted, "a storage lies outside the arena"),
        (_small, "a storage lies outside the arena"),
        (_stacked, "share bytes of the arena while both are in use"),
    ],
)
def test_a_violated_plan_is_refused(
    kernel_library: bytes, tmp_path: Path, mutation: Any, message: str
) -> None:
    """In a file of two models, of which one reaches for what is not its own."""
    good = bundle(kernel_library, affine=PROGRAMS["affine"], other=PROGRAMS["affine"])
    path = tmp_path / "b.motet"
    good.save(path)
    open_bundle(path)
    bad = bundle(kernel_library, affine=PROGRAMS["affine"], other=mutation(PROGRAMS["affine"]))
    bad.save(path)
    with pytest.raises(BundleError, match=f"other.*{message}"):
        open_bundle(path)


def test_a_model_that_fails_stops_no_other(kernel_library: bytes) -> None:
    """Wrong shapes fail in the run, between runs of others, which give their values."""
    with Session(bundle(kernel_library, **PROGRAMS)) as session:
        session.configure(workers=2)
        right = session.run("affine", {"x": np.ones(SHAPES["affine"], np.float32)})
        good, bad = [], []
        for _ in range(20):
            bad.append(session.submit("batch", {"x": np.ones((3, 5), np.float32)}))
            good.append(session.submit("affine", {"x": np.ones((2, 4), np.float32)}))
        for future in bad:
            assert future.exception(LONG) is not None
        for future in good:
            for name, value in right.items():
                np.testing.assert_array_equal(future.result(LONG)[name], value)
        found = session.statistics()
    assert (found["batch"].failed, found["batch"].finished) == (20, 0)
    assert (found["affine"].failed, found["affine"].finished) == (0, 20)
