"""Seconds of a bundle at stage granularity, against the timing view on programs in sequence."""

import numpy as np
import pytest
from array_programs import load, machine, matmul, program, signal, store, wait
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import SpecError
from motet.targets.systolic.instructions.isa import Engine
from motet.targets.systolic.simulation.bundle_time import (
    ModelLoad,
    ProgramCycles,
    Stage,
    simulate_bundle,
)
from motet.targets.systolic.simulation.timing import simulate

ARRAY, LOAD, STORE = Engine.ARRAY, Engine.LOAD, Engine.STORE
MACHINE = machine()


def array(cycles):
    return Stage("array", cycles)


def host(cycles):
    return Stage("host", cycles)


def test_one_periodic_model():
    (timing,) = simulate_bundle([ModelLoad("a", (array(4),), rate_hz=0.1)], MACHINE, 100).models
    assert (timing.released, timing.finished, timing.misses) == (10, 10, 0)
    assert timing.latency_seconds.tolist() == [4.0] * 10
    assert (timing.array_cycles, timing.waiting_cycles) == (40, 0)


def test_back_to_back_fills_the_array():
    bundle = simulate_bundle([ModelLoad("a", (array(7),))], MACHINE, 70)
    assert bundle.models[0].finished == 9  # the tenth ends with the simulation
    assert bundle.array_utilisation == 1.0


def test_two_models_wait_for_each_other_by_hand():
    loads = [
        ModelLoad("long", (array(6), host(3)), rate_hz=0.1),
        ModelLoad("short", (host(2), array(2)), rate_hz=0.1, deadline_seconds=7),
    ]
    bundle = simulate_bundle(loads, MACHINE, 10)
    long, short = bundle.models
    assert long.latency_seconds.tolist() == [9.0]
    # Ready for the array at 2, served at 6 when "long" leaves it, done at 8: one too late.
    assert short.latency_seconds.tolist() == [8.0]
    assert (long.waiting_cycles, short.waiting_cycles) == (0, 4)
    assert (long.misses, short.misses) == (0, 1)
    assert bundle.array_utilisation == 0.8
    assert bundle.host_utilisation == 0.5


def test_priority_goes_first_and_preempts_nobody():
    loads = [
        ModelLoad("first", (array(10),), rate_hz=0.01),
        ModelLoad("low", (array(5),), rate_hz=0.01, priority=0),
        ModelLoad("high", (host(1), array(5)), rate_hz=0.01, priority=1),
    ]
    first, low, high = simulate_bundle(loads, MACHINE, 100).models
    assert first.latency_seconds.tolist() == [10.0]
    assert high.latency_seconds.tolist() == [15.0]
    assert low.latency_seconds.tolist() == [20.0]
    assert (low.waiting_cycles, high.waiting_cycles) == (15, 9)


def test_an_overloaded_array_misses():
    (timing,) = simulate_bundle([ModelLoad("a", (array(15),), rate_hz=0.1)], MACHINE, 100).models
    assert timing.released == 10
    assert timing.finished == 6
    # Ends at 15, 30, ... 90 are all late; of the open ones (60, 70, 80, 90) all deadlines passed.
    assert timing.misses == 10


def test_waiting_for_an_own_earlier_run_is_no_other_model():
    load_ = ModelLoad("a", (array(15),), rate_hz=0.1, in_flight=4)
    assert simulate_bundle([load_], MACHINE, 100).models[0].waiting_cycles == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ModelLoad("m", ()),
        ModelLoad("m", (array(0),)),
        ModelLoad("m", (array(-1),), rate_hz=1),
        ModelLoad("m", (array(1),), rate_hz=0),
        ModelLoad("m", (array(1),), in_flight=0),
    ],
)
def test_wrong_loads_are_refused(wrong):
    with pytest.raises(SpecError, match="'m'"):
        simulate_bundle([wrong], MACHINE, 1)


loads = st.builds(
    ModelLoad,
    name=st.just("m"),
    stages=st.lists(
        st.builds(Stage, st.sampled_from(["array", "host"]), st.integers(1, 9)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    rate_hz=st.sampled_from([None, 0.02, 0.07, 0.5]),
    priority=st.integers(0, 2),
    in_flight=st.integers(1, 3),
)


@settings(deadline=None)
@given(st.lists(loads, min_size=1, max_size=4), st.integers(1, 200))
def test_nothing_is_lost(models, seconds):
    bundle = simulate_bundle(models, MACHINE, seconds)
    assert 0 <= bundle.array_utilisation <= 1
    assert 0 <= bundle.host_utilisation <= 1
    for load_, timing in zip(models, bundle.models, strict=True):
        least = sum(stage.cycles for stage in load_.stages)
        assert (timing.latency_seconds >= least).all()
        assert timing.finished <= timing.released
        assert timing.misses <= timing.released
        on_array = sum(stage.cycles for stage in load_.stages if stage.resource == "array")
        assert timing.array_cycles >= timing.finished * on_array
        assert timing.waiting_cycles <= bundle.cycles * load_.in_flight


def queues(tiles, streamed, before=None):
    """A program's queues; with ``before`` (signals of every queue so far) after another one."""
    done = before or dict.fromkeys((LOAD, ARRAY, STORE), 0)
    barrier = [wait(engine, count) for engine, count in done.items() if count]
    loads, products, stores = list(barrier), list(barrier), list(barrier)
    for tile in range(tiles):
        if tile >= 2:
            loads.append(wait(ARRAY, done[ARRAY] + tile - 1))
        loads += [load(streamed), load(4, address=64), signal()]
        products += [
            wait(LOAD, done[LOAD] + tile + 1),
            matmul(streamed, second_address=64),
            signal(),
        ]
    stores += [wait(ARRAY, done[ARRAY] + tiles), store(streamed), signal()]
    after = {LOAD: done[LOAD] + tiles, ARRAY: done[ARRAY] + tiles, STORE: done[STORE] + 1}
    return {(0, LOAD): loads, (0, ARRAY): products, (0, STORE): stores}, after


def test_stages_agree_with_tiles_of_the_concatenation():
    """Two models that take turns three times: one program of all runs, each behind the last."""
    cycles = ProgramCycles(MACHINE)
    first, second = (program(queues(*sizes)[0]) for sizes in ((5, 9), (3, 20)))
    models = [
        ModelLoad("first", (cycles.stage(first),)),
        ModelLoad("second", (cycles.stage(second),)),
    ]
    turns, signals = {}, None
    for sizes in ((5, 9), (3, 20)) * 3:
        part, signals = queues(*sizes, signals)
        for key, instructions in part.items():
            turns.setdefault(key, []).extend(instructions)
    tiles = simulate(program(turns), MACHINE)
    bundle = simulate_bundle(models, MACHINE, tiles.cycles + 1)
    assert [model.finished for model in bundle.models] == [3, 3]
    ends = np.sort(np.concatenate([np.cumsum(m.latency_seconds) for m in bundle.models]))
    assert ends[-1] == tiles.cycles
    assert bundle.models[0].waiting_cycles == pytest.approx(3 * models[1].stages[0].cycles, abs=1)


def test_programs_are_timed_once(monkeypatch):
    cycles = ProgramCycles(MACHINE)
    made = program(queues(2, 8)[0])
    stage = cycles.stage(made)
    monkeypatch.setattr(
        "motet.targets.systolic.simulation.bundle_time.simulate", lambda *_: pytest.fail("again")
    )
    assert cycles.stage(made) == stage
    assert cycles.host_stage(2.5) == Stage("host", 3)
