"""Counts of array programs: traffic, bounds and utilisation of a hand-made one."""

import numpy as np
import pytest
from array_programs import load, machine, matmul, program, signal, store, transfer, wait

from motet.targets.systolic.instructions.isa import Engine
from motet.targets.systolic.instructions.program import StepInfo
from motet.targets.systolic.simulation.counts import program_counts

ARRAY, LOAD, STORE = Engine.ARRAY, Engine.LOAD, Engine.STORE


def counted():
    queues = {
        (0, LOAD): [load(8), load(4, address=64), signal()],
        (0, ARRAY): [wait(LOAD, 1), matmul(8, second_address=64), signal()],
        (0, STORE): [wait(ARRAY, 1), store(8), transfer(8, 0), transfer(8, 1, step=1)],
    }
    made = program(queues, pods=2)
    steps = (StepInfo("a", "Convolution", 128, "weight-stationary"), StepInfo("b", "Copy", 0))
    object.__setattr__(made, "steps", steps)
    return program_counts(made, machine(pods=2, bandwidth=4.0))


def test_totals():
    counts = counted()
    assert counts.dram_read_bytes == 32 + 16
    assert counts.dram_write_bytes == 32
    assert counts.interconnect_bytes == 32 + 16 + 32 + 32
    assert counts.macs == 128
    assert counts.utilisation == pytest.approx(128 / (counts.cycles * 32))
    assert sum(counts.stalls.values()) == counts.cycles * 2
    assert counts.energy_joules == {}


def test_steps():
    first, second = counted().steps
    # Latency, loads of 48 bytes at 4 a cycle, one cycle of the bus and the capture come before.
    assert (first.start_cycle, first.array_cycles, first.tiles) == (100 + 12 + 1 + 4, 8, 1)
    assert first.utilisation == 128 / (8 * 16)
    assert first.compute_bound == 128 // 32
    assert first.dram_bound == 80 // 4
    # Ports: one cycle for each load, 4 + 8 of the product, one of the copy; 8 ports in all.
    assert first.scratchpad_bound == -(-(1 + 1 + 12 + 1) // 8)
    assert first.speed_of_light == 20
    assert first.end_cycle <= counted().cycles
    assert (second.array_cycles, second.tiles, second.macs, second.utilisation) == (0, 0, 0, 0.0)
    assert second.interconnect_bytes == 32
    assert second.start_cycle < second.end_cycle == counted().cycles


def test_no_step_is_quicker_than_arithmetic():
    for step in counted().steps:
        assert step.end_cycle - step.start_cycle >= max(step.compute_bound, step.scratchpad_bound)
    assert np.isfinite(counted().utilisation)


def test_weights_loaded_ahead_are_not_in_a_steps_span():
    queues = {
        (0, LOAD): [load(8), load(4, address=64, step=1), signal()],
        (0, ARRAY): [wait(LOAD, 1), matmul(400), matmul(8, second_address=64, step=1), signal()],
        (0, STORE): [wait(ARRAY, 1), store(8, step=1)],
    }
    made = program(queues)
    steps = (StepInfo("a", "Convolution", 6400, ""), StepInfo("b", "Convolution", 128, ""))
    object.__setattr__(made, "steps", steps)
    first, second = program_counts(made, machine()).steps
    assert second.start_cycle - first.start_cycle == 400
    # Streams, drains, crosses the bus, and is written: 32 bytes at 8 a cycle.
    assert second.end_cycle - second.start_cycle == 8 + 6 + 1 + 4
