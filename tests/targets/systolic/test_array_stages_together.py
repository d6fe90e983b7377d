"""Stages of several models on one array, against the timing view on programs in sequence."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from array_programs import load, machine, matmul, program, signal, store, wait

from motet.runtime.policies import policy_named
from motet.targets.sharing import engine
from motet.targets.sharing.loads import Load, Stage
from motet.targets.systolic.instructions.isa import Engine
from motet.targets.systolic.simulation.timing import simulate

ARRAY, LOAD, STORE = Engine.ARRAY, Engine.LOAD, Engine.STORE
MACHINE = machine()


def queues(tiles, streamed, before=None):
    """A program's queues; with ``before`` (signals of every queue so far) after another one."""
    done = before or dict.fromkeys((LOAD, ARRAY, STORE), 0)
    barrier = [wait(queue, count) for queue, count in done.items() if count]
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
    sizes = ((5, 9), (3, 20))
    cycles = [simulate(program(queues(*size)[0]), MACHINE).cycles for size in sizes]
    models = [Load(name, (Stage("array", n),)) for name, n in zip("ab", cycles, strict=True)]
    turns, signals = {}, None
    for size in sizes * 3:
        part, signals = queues(*size, signals)
        for key, instructions in part.items():
            turns.setdefault(key, []).extend(instructions)
    tiles = simulate(program(turns), MACHINE)
    setting = engine.Setting(policy_named("fcfs"), Fraction(tiles.cycles + 1), Fraction(1))
    found = engine.simulate(models, setting).models
    assert [model.finished for model in found] == [3, 3]
    ends = np.sort(np.concatenate([np.cumsum(model.latency) for model in found]))
    assert ends[-1] == tiles.cycles
    assert abs(found[0].waited - 3 * cycles[1]) <= 1
