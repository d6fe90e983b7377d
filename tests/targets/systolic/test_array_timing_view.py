"""The timing view on programs written by hand: closed forms, contention, stalls that add up."""

import numpy as np
import pytest
from array_programs import (
    load,
    machine,
    matmul,
    one,
    program,
    signal,
    store,
    transfer,
    vector,
    wait,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import ProgramError
from motet.targets.systolic.instructions.isa import Dataflow, Engine, Flag, Opcode
from motet.targets.systolic.simulation.stalls import Cause
from motet.targets.systolic.simulation.timing import simulate

ARRAY, LOAD, STORE, VECTOR = Engine.ARRAY, Engine.LOAD, Engine.STORE, Engine.VECTOR


def array_only(*tiles, **options):
    return simulate(program({(0, ARRAY): list(tiles)}), machine(**options))


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 9), st.integers(1, 9))
def test_weight_stationary_tiles_follow_the_closed_form(streamed, rows, columns):
    tiles = [matmul(t, min(rows, 4), min(columns, 4)) for t in streamed]
    timing = array_only(*tiles, rows=rows, columns=columns)
    body = sum(max(t, rows) for t in streamed[:-1])
    assert timing.cycles == rows + body + streamed[-1] + rows + columns - 2
    assert timing.stalls[0, Cause.BUSY] == sum(streamed)
    assert timing.stalls[0].sum() == timing.cycles
    assert set(np.flatnonzero(timing.stalls[0])) <= {Cause.BUSY, Cause.FILL_AND_DRAIN}


def test_input_stationary_streams_columns():
    tile = {"columns": 9, "dataflow": Dataflow.INPUT_STATIONARY}
    assert array_only(matmul(3, **tile), matmul(4, **tile)).cycles == 4 + 9 + 9 + 6


def test_the_array_is_empty_before_another_dataflow():
    first, second = matmul(8), matmul(8, dataflow=Dataflow.INPUT_STATIONARY)
    alone = array_only(first.copy()).cycles, array_only(second.copy()).cycles
    timing = array_only(first, second)
    assert timing.cycles == sum(alone)
    assert timing.stalls[0].sum() == timing.cycles


def test_a_narrow_port_slows_streaming_down():
    tile = matmul(16, depth=4)
    assert array_only(tile.copy(), port_bytes=4).cycles == 4 + 16 + 6
    assert array_only(tile.copy(), port_bytes=2).cycles == 8 + 32 + 6


def test_one_port_captures_and_streams_in_turn():
    tiles = [matmul(16), matmul(16)]
    timing = array_only(*tiles, ports=1)
    assert timing.cycles == 4 + 16 + 4 + 16 + 6
    assert timing.stalls[0, Cause.PORTS] + timing.stalls[0, Cause.FILL_AND_DRAIN] == 4 + 4 + 6


def chain(**options):
    queues = {
        (0, LOAD): [load(8), load(4, address=64), signal()],
        (0, ARRAY): [wait(LOAD, 1), matmul(8, second_address=64), signal()],
        (0, VECTOR): [wait(ARRAY, 1), vector(8), signal()],
        (0, STORE): [wait(VECTOR, 1), store(8)],
    }
    return simulate(program(queues), machine(**options))


def test_a_chain_of_engines_by_hand():
    timing = chain(latency_cycles=100)
    # Second load: 32 + 16 bytes at 8 a cycle behind the latency, 1 cycle in the bus.
    assert timing.end[1] == 100 + 6 + 1
    # The array captures 4, streams 8, drains 4 + 4 - 2; 32 values in 4 lanes, 4 latency.
    matmul_at, vector_at, store_at = 4, 7, 10
    assert timing.end[matmul_at] == 107 + 4 + 8 + 6
    assert timing.end[vector_at] == timing.end[matmul_at] + 8 + 4
    # 32 bytes: one cycle of the bus, then four of the DRAM.
    assert timing.cycles == timing.end[store_at] == timing.end[vector_at] + 1 + 4
    assert timing.stalls[0].tolist()[: Cause.PORTS] == [8, 4 + 6, 106, 0, 1]
    assert timing.stalls[0, Cause.NO_MORE_WORK] == 12 + 5


def test_dram_latency_overlaps_and_bandwidth_does_not():
    loads = {(0, LOAD): [load(32) for _ in range(10)]}
    in_flight = simulate(program(loads), machine(latency_cycles=100, dma_requests=10))
    assert in_flight.cycles == 100 + 10 * 16 + 1
    alone = simulate(program(loads), machine(latency_cycles=100, dma_requests=1))
    assert alone.cycles == 10 * (100 + 16 + 1)
    assert in_flight.channel_busy.tolist() == [160]


def test_bandwidth_is_not_rounded():
    loads = {(0, LOAD): [load(8, 1) for _ in range(300)]}
    timing = simulate(program(loads), machine(bandwidth=3.0, latency_cycles=0, dma_requests=300))
    assert timing.cycles == 300 * 8 // 3 + 1


def test_rows_that_are_not_open_cost_more():
    loads = {(0, LOAD): [load(64, 64)]}
    options = {"row_bytes": 1024, "row_miss_cycles": 10, "row_hit_fraction": 0.5}
    base = simulate(program(loads), machine()).cycles
    assert simulate(program(loads), machine(**options)).cycles == base + 4 * 5


def two_pods(kind, first, second):
    queues = {(0, STORE): [first], (1, STORE): [second]}
    return simulate(program(queues, pods=4), machine(pods=4, kind=kind, link_bytes=4)).end.tolist()


@pytest.mark.parametrize(
    ("kind", "apart"), [("bus", False), ("crossbar", True), ("benes", True), ("mesh", True)]
)
def test_transfers_contend_for_links(kind, apart):
    ends = two_pods(kind, transfer(16, 2), transfer(16, 3))
    assert (ends[0] == ends[1]) == apart
    same = two_pods(kind, transfer(16, 2), transfer(16, 2))
    assert same[0] + 15 <= same[1]


def test_butterfly_blocks_what_shares_a_wire_and_planes_help():
    def ends(target, expansion):
        queues = {(0, STORE): [transfer(16, 2)], (1, STORE): [transfer(16, target)]}
        options = {"kind": "butterfly", "link_bytes": 4, "expansion": expansion}
        return simulate(program(queues, pods=4), machine(pods=4, **options)).end.tolist()

    # From pods 0 and 1 (00, 01) to 2 and 3 (10, 11): after the first stage on wires 10 and 11.
    assert len(set(ends(3, 1))) == 1
    assert len(set(ends(2, 1))) == 2
    assert len(set(ends(2, 2))) == 1


def test_one_pass_reaches_all_pods_but_on_a_mesh():
    queues = {(0, STORE): [transfer(16, 0, targets=4)]}
    cycles = {
        kind: simulate(program(queues, pods=4), machine(pods=4, kind=kind, link_bytes=4)).cycles
        for kind in ("bus", "crossbar", "butterfly", "benes", "mesh")
    }
    assert cycles["bus"] == cycles["crossbar"] == 16 + 1
    assert cycles["butterfly"] == 16 + 2
    assert cycles["benes"] == 16 + 7
    assert cycles["mesh"] >= 3 * 16


def test_dependent_vectors_wait_for_the_pipe():
    apart = [vector(4, accumulator_address=0), vector(4, accumulator_address=64)]
    assert simulate(program({(0, VECTOR): apart}), machine()).cycles == 4 + 4 + 4
    same = [vector(4), vector(4)]
    assert simulate(program({(0, VECTOR): same}), machine()).cycles == 4 + 4 + 4 + 4


def test_a_full_scratchpad_is_named():
    loads, products = [], []
    for tile in range(6):
        loads += [wait(ARRAY, tile)] * (tile > 0) + [load(4), signal()]
        products += [wait(LOAD, tile + 1), matmul(60, address=999), signal()]
    timing = simulate(program({(0, LOAD): loads, (0, ARRAY): products}), machine(latency_cycles=5))
    assert timing.stalls[0].sum() == timing.cycles
    assert timing.stalls[0, Cause.WEIGHTS_LATE] > 0
    more = simulate(program({(0, LOAD): loads, (0, ARRAY): products}), machine(latency_cycles=50))
    gained = more.stalls[0] - timing.stalls[0]
    assert gained[Cause.WEIGHTS_LATE] == more.cycles - timing.cycles


def test_waiting_for_another_pod_is_named():
    queues = {
        (0, ARRAY): [matmul(50), signal()],
        (0, STORE): [wait(ARRAY, 1), transfer(8, 1), signal()],
        (1, ARRAY): [wait(STORE, 1), matmul(8)],
    }
    timing = simulate(program(queues, pods=2), machine(pods=2))
    assert timing.stalls.sum(axis=1).tolist() == [timing.cycles] * 2
    assert timing.stalls[1, Cause.OTHER_PODS] == 4 + 50 + 6
    assert timing.stalls[1, Cause.INTERCONNECT] + timing.stalls[1, Cause.PORTS] > 0


@pytest.mark.parametrize("other_load_first", [False, True])
def test_a_load_of_what_another_pod_stores_waits_for_that_pod(other_load_first):
    """As a layer on pod 1 whose input pod 0 pools and stores; pod 2 has nothing to do."""
    ahead = [load(2, address=128, target_pod=1)] if other_load_first else []
    queues = {
        (0, ARRAY): [matmul(50), signal()],
        (0, VECTOR): [wait(ARRAY, 1), vector(200), signal()],
        (0, STORE): [wait(VECTOR, 1), store(8), signal()],
        (1, LOAD): [wait(STORE, 1), *ahead, load(8, target_pod=1), signal()],
        (1, ARRAY): [wait(LOAD, 1, 1), matmul(8)],
    }
    timing = simulate(program(queues, pods=3), machine(pods=3))
    stored = timing.end[
        [i for i, o in enumerate(timing.start) if timing.costs["queue"][i] == STORE]
    ]
    stalls = timing.stalls
    assert stalls.sum(axis=1).tolist() == [timing.cycles] * 3
    assert stalls[1, Cause.OTHER_PODS] == max(stored) > 250
    assert stalls[1, [Cause.ACCUMULATORS_LATE, Cause.FILL_AND_DRAIN]].tolist() == [0, 4 + 6]
    assert stalls[2, Cause.NO_MORE_WORK] == timing.cycles


def test_a_deadlock_names_the_instruction():
    queues = {(0, LOAD): [wait(ARRAY, 1), load(4), signal()], (0, ARRAY): [wait(LOAD, 1), signal()]}
    with pytest.raises(ProgramError, match=r"instruction 0 \(WAIT in the LOAD queue of pod 0\)"):
        simulate(program(queues), machine())


@pytest.mark.parametrize(
    ("queues", "message"),
    [
        ({(0, ARRAY): [one(77)]}, "unknown opcode"),
        ({(0, ARRAY): [load(4)]}, "another engine"),
        ({(0, LOAD): [load(4, target_pods=2)]}, "target pods"),
        ({(0, LOAD): [one(Opcode.LOAD, operand=7, rows=1, columns=1)]}, "names a view"),
        ({(0, LOAD): [wait(ARRAY, 1, pod=3)]}, "semaphore that the array lacks"),
    ],
)
def test_wrong_programs_are_refused(queues, message):
    with pytest.raises(ProgramError, match=message):
        simulate(program(queues), machine())


def test_an_empty_program_takes_no_time():
    timing = simulate(program({}), machine())
    assert timing.cycles == 0
    assert not timing.stalls.any()


def waits_for(draw, made, owner):
    """Up to two waits for signals that earlier instructions of other queues give."""
    asked = draw(st.lists(st.sampled_from(sorted(made)), max_size=2, unique=True))
    return [
        wait(queue[1], draw(st.integers(1, made[queue])), queue[0])
        for queue in asked
        if made[queue] and queue != owner
    ]


@st.composite
def programs(draw):
    """Legal by construction: one order of all instructions, each signals, waits look back."""
    pods = draw(st.integers(1, 3))
    queues = {(pod, engine): [] for pod in range(pods) for engine in Engine}
    made = dict.fromkeys(queues, 0)
    for _ in range(draw(st.integers(1, 25))):
        owner = draw(st.sampled_from(sorted(queues)))
        rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 4))
        to = draw(st.integers(0, pods - 1))
        count = draw(st.integers(1, pods - to))
        address = draw(st.integers(0, 3)) * 64
        made_of = {
            LOAD: [load(rows, columns, target_pod=to, target_pods=count, address=address)],
            ARRAY: [
                matmul(rows, columns=columns, second_address=address),
                matmul(rows, columns=columns, dataflow=Dataflow.OUTPUT_STATIONARY),
            ],
            VECTOR: [vector(rows, columns, accumulator_address=address), vector(rows, function=1)],
            STORE: [
                store(rows, columns),
                transfer(rows, to, count, columns),
                transfer(rows, to, count, columns, operand=1),
                transfer(rows, to, count, columns, flags=Flag.ACCUMULATORS),
            ],
        }
        chosen = draw(st.sampled_from(made_of[owner[1]]))
        queues[owner] += [*waits_for(draw, made, owner), chosen, signal()]
        made[owner] += 1
    return program(queues, pods), pods


machines = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["bus", "crossbar", "butterfly", "benes", "mesh"]),
        "ports": st.integers(1, 4),
        "port_bytes": st.sampled_from([1, 4, 64]),
        "bandwidth": st.sampled_from([0.7, 3.0, 64.0]),
        "channels": st.integers(1, 3),
        "latency_cycles": st.integers(0, 60),
        "dma_requests": st.integers(1, 4),
        "link_bytes": st.sampled_from([1, 16]),
        "expansion": st.sampled_from([1, 2]),
    }
)


@settings(max_examples=150, deadline=None)
@given(programs(), machines)
def test_any_program_ends_and_its_stalls_add_up(made, options):
    written, pods = made
    description = machine(pods=pods, **options)
    timing = simulate(written, description)
    assert (timing.stalls >= 0).all()
    assert (timing.stalls.sum(axis=1) == timing.cycles).all()
    assert (timing.end >= timing.start).all()
    assert (timing.start >= 0).all()
    again = simulate(written, description)
    assert (again.records == timing.records).all()
    assert timing.channel_busy.max() <= timing.cycles
    assert timing.link_busy.max() <= timing.cycles
    assert (timing.port_busy <= timing.cycles * description.pods[0].scratchpad.ports).all()
    _semaphores_hold(written, timing)


def _semaphores_hold(written, timing):
    """No WAIT ends before as many signals as it asks for can have been given."""
    for queue in written.queues:
        first = int(written.queue_starts[queue.number])
        for offset, instruction in enumerate(queue.instructions):
            if instruction["opcode"] == Opcode.WAIT:
                given_at = _signals(written, timing, int(instruction["semaphore"]))
                assert timing.end[first + offset] >= given_at[int(instruction["value"]) - 1]


def _signals(written, timing, queue):
    begin, end = written.queue_starts[queue : queue + 2]
    complete = np.maximum.accumulate(timing.end[begin:end])
    return complete[written.instructions["opcode"][begin:end] == Opcode.SIGNAL]
