"""MetaSchedule's kernels: when one takes the place of ours, and for whom it is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kernel_runner import unit_of
from tvm import IRModule, relax

from motet.targets.host.cost_model.measure import Measurer
from motet.targets.host.cost_model.stopwatch import Contest
from motet.targets.host.lower_unit import fuse
from motet.targets.host.machine import Machine, native_machine
from motet.targets.host.meta_schedule.kernel_store import KernelStore, kernels_in, unit_key
from motet.targets.host.meta_schedule.lowering import as_loops
from motet.targets.host.meta_schedule.search import Found, Time, search
from motet.targets.host.meta_schedule.tuning import HostUnit, UnitTuning
from motet.targets.host.options import KernelOptions
from motet.targets.host.tuning_store import Scope, TuningStore

INTRINSICS = "tvm.s_tir.tensor_intrin"
SCOPE = Scope("cpu", "1", 1)
WEIGHTS = frozenset({1})


class Stopwatch(Measurer):
    """Compiles kernels, and says that ours take ``own`` seconds and others 1."""

    own = 2.0

    def timed(
        self, library: Path, threads: int, contests: Sequence[Contest]
    ) -> list[list[float] | None]:
        return [[self.own, *[1.0] * (len(c.kernels) - 1)] for c in contests]


def filtered(width: int, build: Callable[[Any], Any] = relax.op.nn.relu) -> HostUnit:
    """A convolution of one dimension with constant weights, which has no schedule space, then
    a function.
    """
    function = unit_of(
        [(1, 6, 9), (width, 6, 3)], ["float32"] * 2,
        lambda x, w: build(relax.op.nn.conv1d(x, w)),
    )  # fmt: skip
    return HostUnit(function, WEIGHTS, 1, (f"m/{width}",))


def unscheduled(workload: Any, _machine: Machine, _trials: int, time: Time) -> Found | None:
    """The naive nests as they are, as what a search found."""
    kernel = as_loops(IRModule({"main": workload.with_attr("global_symbol", "main")}))
    (seconds,) = time([kernel])
    return None if seconds is None else Found(kernel, seconds, 1)


@pytest.fixture
def tuning(tmp_path: Path) -> UnitTuning:
    store = KernelStore(tmp_path / "tuned.sqlite")
    return UnitTuning(native_machine(), SCOPE, store, 1, unscheduled)


def run(tuning: UnitTuning, units: Sequence[HostUnit], own: float = 2.0, **how: Any) -> bool:
    """Whether all was done."""
    with Stopwatch(tuning.machine, 1) as measurer:
        measurer.own = own
        return tuning.run(units, measurer, how.pop("until", lambda: False), **how)


def kernel(tuning: UnitTuning, unit: HostUnit, scope: Scope = SCOPE, **options: Any) -> Any:
    """What compiling takes from the data base."""
    others = kernels_in(TuningStore(tuning.store.path), scope)
    return others(unit.function, unit.constants, KernelOptions(**options))


def test_a_faster_kernel_takes_our_place(tuning: UnitTuning) -> None:
    unit, other = filtered(7), filtered(9)
    assert run(tuning, [unit])
    found = kernel(tuning, unit)
    assert found is not None
    assert not found.packings
    assert len(found.func.params) == 3
    assert kernel(tuning, filtered(7)) is not None
    assert kernel(tuning, other) is None
    assert kernel(tuning, replace(unit, constants=frozenset())) is None
    assert [u for u, _ in tuning.known([unit, other])] == [unit]


@pytest.mark.parametrize("own", [0.5, 1.0, 1.04])
def test_one_that_is_not_clearly_faster_does_not(tuning: UnitTuning, own: float) -> None:
    unit = filtered(7)
    assert run(tuning, [unit], own)
    assert kernel(tuning, unit) is None
    ((_, result),) = tuning.known([unit])
    assert (result.own, result.found) == (own, 1.0)


def test_other_scopes_and_options_do_not_find_it(tuning: UnitTuning) -> None:
    unit = filtered(7)
    assert run(tuning, [unit])
    for scope in (
        replace(SCOPE, version="2"), replace(SCOPE, threads=2), replace(SCOPE, machine="b"),
    ):  # fmt: skip
        assert kernel(tuning, unit, scope) is None
    assert kernel(tuning, unit, reassociate=False) is None
    assert kernels_in(None, SCOPE)(unit.function, unit.constants, KernelOptions()) is None


def test_a_unit_is_tried_once(tuning: UnitTuning) -> None:
    tried = list[str]()
    units = [filtered(7), filtered(9)]
    assert not run(tuning, units, until=lambda: bool(tried), show=tried.append)
    assert len(tried) == 1
    assert tuning.known(units) == []  # the first was not done
    tried.clear()
    assert run(tuning, units, show=tried.append)
    assert sorted(tried) == ["m/7", "m/9"]
    assert run(tuning, units, show=tried.append)
    assert len(tried) == 2


def test_an_interrupt_keeps_what_is_done(tuning: UnitTuning) -> None:
    calls = list[int]()

    def interrupted(*arguments: Any) -> Found | None:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return unscheduled(*arguments)

    units = [filtered(7), filtered(9)]
    with pytest.raises(KeyboardInterrupt):
        run(replace(tuning, search=interrupted), units)
    assert len(tuning.known(units)) == 1


def test_a_wrong_kernel_is_not_used(tuning: UnitTuning) -> None:
    squares = filtered(7, lambda x: relax.op.multiply(x, x))

    def wrong(_workload: Any, *others: Any) -> Found | None:
        return unscheduled(fuse(squares.function), *others)

    unit, warnings = filtered(7), list[str]()
    assert run(replace(tuning, search=wrong), [unit], warn=warnings.append)
    assert kernel(tuning, unit) is None
    assert "something else" in warnings[0]


def test_what_cannot_be_searched_is_left(tuning: UnitTuning) -> None:
    def failing(*_arguments: Any) -> Found | None:
        raise ValueError("no rule\nfor this")

    whole = unit_of([(4,)], ["int32"], lambda x: relax.op.add(x, x))
    with_space = unit_of([(4, 5), (5, 6)], ["float32"] * 2, relax.op.matmul)
    open_size = unit_of([("n", 4)], ["float32"], relax.op.nn.relu)
    others = [HostUnit(f, frozenset(), 1, ("m/x",)) for f in (whole, with_space, open_size)]
    unit, warnings = filtered(7), list[str]()
    units = [*others, unit]
    assert run(replace(tuning, search=failing), units, warn=warnings.append)
    assert warnings == ["MetaSchedule cannot schedule m/7: for this"]
    assert [(u, r.found) for u, r in tuning.known(units)] == [(unit, None)]


def test_the_key_is_of_what_is_computed() -> None:
    keys = [filtered(7).key, filtered(9).key, filtered(7, relax.op.exp).key]
    assert len(set(keys)) == 3
    assert unit_key(filtered(7).function, WEIGHTS) == filtered(7).key


def test_the_search_finds_a_right_kernel(tuning: UnitTuning) -> None:
    pytest.importorskip("xgboost")
    unit = filtered(16)
    assert run(replace(tuning, trials=4, search=search), [unit])
    assert kernel(tuning, unit) is not None
    assert INTRINSICS not in sys.modules


def test_candidates_that_compute_again_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any that do not, there is nothing to time."""
    pytest.importorskip("xgboost")
    monkeypatch.setattr("motet.targets.host.meta_schedule.search._MOST_WORK", 0.5)
    workload = fuse(filtered(7).function)
    timed = list[int]()

    def time(kernels: Sequence[Any]) -> list[float | None]:
        timed.append(len(kernels))
        return [1.0] * len(kernels)

    assert search(workload, native_machine(), 4, time) is None
    assert timed == []
