"""Events of programs against plain sets of words; energy and area by component."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from array_plain_accesses import accesses
from array_random_programs import description, random_program
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.exploring import described
from motet.targets.systolic.architecture import ArrayDescription, Figure
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions.isa import (
    NO_OPERAND,
    Activation,
    Dataflow,
    Flag,
    Function,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.instructions.program import Element, SystolicProgram
from motet.targets.systolic.simulation.area import area_mm2
from motet.targets.systolic.simulation.costs import instruction_costs, load_values
from motet.targets.systolic.simulation.energy import COMPONENTS, energy_joules
from motet.targets.systolic.simulation.events import EventCounts, count_events
from motet.targets.systolic.simulation.machine import pod_table

BYTES = (
    "scratchpad_read_bytes",
    "scratchpad_write_bytes",
    "accumulator_read_bytes",
    "accumulator_write_bytes",
    "interconnect_bytes",
    "dram_read_bytes",
    "dram_write_bytes",
)
REDUCTIONS = (Function.ROW_MAXIMUM, Function.ROW_SUM, Function.ROW_SUM_SQUARES)


def counted_one_by_one(program: SystolicProgram) -> Counter[str]:
    """Bits of every memory from the sets of words that each instruction touches."""
    bits: Counter[str] = Counter()
    word = program.number_format.bits
    for c in program.instructions:
        if c["opcode"] in (Opcode.WAIT, Opcode.SIGNAL):
            continue
        viewed = c["operand"] != NO_OPERAND
        tensor = program.tensors[program.views[c["operand"]].tensor] if viewed else None
        dram = word if tensor is None or tensor.element is Element.WORD else 32
        for (memory, _), words, writes in accesses(program, c):
            size = {"tensor": dram, "pad": word, "sums": 32}[memory]
            name = {"tensor": "dram", "pad": "scratchpad", "sums": "accumulator"}[memory]
            bits[f"{name}_{'write' if writes else 'read'}_bytes"] += size * len(words)
        bits.update(corrections(c, word))
        bits["interconnect_bytes"] += moved(program, c, dram)
    return bits


def corrections(c: Any, word: int) -> Counter[str]:
    """What is counted otherwise than as a set of different words."""
    more: Counter[str] = Counter()
    tile = int(c["rows"]) * int(c["columns"])
    limited = np.isfinite(c["low"]) or np.isfinite(c["high"])
    if c["function"] in REDUCTIONS and c["activation"] == Activation.NONE and not limited:
        more["accumulator_write_bytes"] -= 32 * tile
    return more


def moved(program: SystolicProgram, c: Any, dram: int) -> int:
    """Bits through the interconnect."""
    tile, word = int(c["rows"]) * int(c["columns"]), program.number_format.bits
    targets = set(range(c["target_pod"], c["target_pod"] + c["target_pods"]))
    if c["opcode"] == Opcode.LOAD:
        ((_, words, _), *_) = accesses(program, c)
        return dram * len(words) * len(targets)
    if c["opcode"] == Opcode.STORE:
        return dram * tile
    if c["opcode"] == Opcode.TRANSFER:
        sums = c["flags"] & Flag.ACCUMULATORS and c["operand"] == NO_OPERAND
        return (32 if sums else word) * tile * len(targets - {int(c["pod"])})
    return 0


def without_resident_reads(program: SystolicProgram) -> SystolicProgram:
    """Reads through views of resident tensors repeat words: they have a test of their own."""
    kept = program.instructions[(program.instructions["flags"] & Flag.RESIDENT) == 0]
    return _with(program, kept)


def _with(program: SystolicProgram, instructions: Any) -> SystolicProgram:
    ends = np.full(len(program.queue_starts), len(instructions))
    return SystolicProgram(
        program.format, instructions, ends, program.tensors, program.views, program.steps
    )


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(FORMATS)))
def test_bytes_are_those_of_the_words_touched(seed: int, number_format: str) -> None:
    program = without_resident_reads(random_program(np.random.default_rng(seed), number_format))
    found = count_events(program)
    expected = counted_one_by_one(program)
    for name in BYTES:
        assert getattr(found, name) == -(-expected[name] // 8), name


def one(number_format: str, opcode: Opcode, **values: Any) -> EventCounts:
    record = empty_instructions(1)
    record["opcode"] = opcode
    for name, value in values.items():
        record[name] = value
    program = SystolicProgram(number_format, record, np.array([0, 1]), (), ())
    return count_events(program)


SIZES = {"rows": 5, "depth": 3, "columns": 4}


def test_a_product_by_hand() -> None:
    flow = Dataflow.WEIGHT_STATIONARY
    found = one("int8", Opcode.MATMUL, dataflow=flow, flags=Flag.ACCUMULATE, **SIZES)
    assert found.macs == {"int8": 60}
    assert found.scratchpad_read_bytes == 15 + 12
    assert found.accumulator_read_bytes == found.accumulator_write_bytes == 4 * 20
    # Each multiply-accumulate moves an input and a sum; a weight passes (3 + 1) / 2 rows.
    assert found.register_bytes == 60 * (1 + 4) + 12 * 2


def test_a_square_tile_moves_more_than_sosas_model_says() -> None:
    """r + c + 8 c bytes in each of its r cycles: sums have four bytes, not two (the page)."""
    sizes = {"rows": 8, "depth": 8, "columns": 8}
    flow = Dataflow.WEIGHT_STATIONARY
    found = one("int8", Opcode.MATMUL, dataflow=flow, flags=Flag.ACCUMULATE, **sizes)
    moved = found.scratchpad_read_bytes
    moved += found.accumulator_read_bytes + found.accumulator_write_bytes
    assert moved == 8 * (8 + 8 + 8 * 8)


@pytest.mark.parametrize(
    ("flow", "moves"),
    [
        (Dataflow.WEIGHT_STATIONARY, 60 * (4 + 4) + 4 * 12 * 2),
        (Dataflow.INPUT_STATIONARY, 60 * (4 + 4) + 4 * 15 * 2),
        (Dataflow.OUTPUT_STATIONARY, 60 * (8 + 4) + 4 * 20 * 3),
    ],
)
def test_registers_by_dataflow(flow: Dataflow, moves: int) -> None:
    assert one("fp32", Opcode.MATMUL, dataflow=flow, **SIZES).register_bytes == moves


def test_a_line_convolution_by_hand() -> None:
    flow = Dataflow.SPATIAL_OUTPUT_STATIONARY
    found = one("bf16", Opcode.CONV1D, dataflow=flow, value=2, flags=Flag.BIAS, **SIZES)
    assert found.macs == {"bf16": 60}
    assert found.scratchpad_read_bytes == 2 * (5 * (3 * 2 + 3) + 5 * 3)
    assert found.accumulator_read_bytes == 4 * 5
    assert found.accumulator_write_bytes == 4 * 20


@pytest.mark.parametrize(
    ("function", "activation", "operations"),
    [
        (Function.ADD, Activation.NONE, 20),
        (Function.ADD, Activation.GELU, 40),
        (Function.NONE, Activation.GELU, 20),
        (Function.NONE, Activation.NONE, 20),
    ],
)
def test_vector_operations(function: Function, activation: Activation, operations: int) -> None:
    found = one("fp32", Opcode.VECTOR, rows=5, columns=4, function=function, activation=activation)
    assert found.vector_operations == operations


@pytest.mark.parametrize("opcode", [Opcode.MATMUL, Opcode.VECTOR])
def test_a_resident_tensor_is_read_value_by_value(opcode: Opcode) -> None:
    """im2col shows a value several times; every show is a read of the scratchpad."""
    program = random_program(np.random.default_rng(0), "int8")
    record = empty_instructions(1)
    record["opcode"], record["flags"], record["operand"] = opcode, Flag.RESIDENT, 8
    record["rows"], record["columns"], record["depth"] = 8, 8, 8
    record["function"] = Function.ADD if opcode is Opcode.VECTOR else Function.NONE
    found = count_events(_with(program, record))
    assert found.scratchpad_read_bytes == (64 if opcode is Opcode.VECTOR else 128)


def test_known_values_of_loads_are_taken_as_given() -> None:
    program = random_program(np.random.default_rng(2), "fp32")
    values = load_values(program.instructions, program.view_table)
    assert count_events(program, values) == count_events(program)
    assert count_events(program, 2 * values).dram_read_bytes == (
        2 * count_events(program).dram_read_bytes
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "fp32"]))
def test_dram_bytes_are_those_that_the_timing_view_moves(seed: int, number_format: str) -> None:
    program, machine = random_program(np.random.default_rng(seed), number_format), description()
    costs = instruction_costs(program, pod_table(machine, number_format))["bytes"]
    found, opcode = count_events(program), program.instructions["opcode"]
    assert found.dram_read_bytes == costs[opcode == Opcode.LOAD].sum()
    assert found.dram_write_bytes == costs[opcode == Opcode.STORE].sum()


def test_counts_add_up() -> None:
    first = EventCounts({"int8": 3}, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    second = EventCounts({"int8": 4, "fp32": 1}, 10, 20, 30, 40, 50, 60, 70, 80, 90)
    assert first + second == EventCounts({"int8": 7, "fp32": 1}, 11, 22, 33, 44, 55, 66, 77, 88, 99)
    assert first.times(3) == first + first + first


COUNTS = EventCounts({"int8": 10**9, "fp32": 10**6}, *(10**6 * n for n in range(1, 10)))


def test_energy_by_hand() -> None:
    machine = load_architecture("gemmini-16x16")
    energy = machine.energy
    assert energy
    assert energy.register_pj_per_byte
    joules = energy_joules(COUNTS, machine, seconds=2.0)
    assert tuple(joules) == COMPONENTS
    assert joules["mac"] == pytest.approx(1e-3 * 0.3 + 1e-6 * 4.6)
    assert joules["scratchpad"] == pytest.approx(3e-6 * energy.scratchpad_pj_per_byte.value)
    assert joules["accumulators"] == pytest.approx(7e-6 * energy.accumulator_pj_per_byte.value)
    assert joules["vector"] == pytest.approx(5e-6 * 4.6)
    assert joules["interconnect"] == pytest.approx(
        6e-6 * energy.interconnect_pj_per_byte_stage.value
    )
    assert joules["dram"] == pytest.approx(15e-6 * 162.5)
    assert joules["registers"] == pytest.approx(9e-6 * energy.register_pj_per_byte.value)
    assert joules["leakage"] == pytest.approx(2 * (256 * 8.71e-5 + 0.3125 * 0.1552))
    assert joules["idle"] == pytest.approx(2 * 1e9 * 256 * 0.07622e-12)


def at_rest(machine: ArrayDescription) -> dict[str, float]:
    """Watts of a machine that does nothing, by component."""
    joules = energy_joules(EventCounts(), machine, 1.0)
    return {name: joules[name] for name in ("leakage", "idle")}


@pytest.mark.parametrize(
    ("name", "leakage", "idle"),
    [
        ("edge-64x64", 1.133, 0.2498),
        ("gemmini-16x16", 0.07083, 0.01951),
        ("mixed-64x64-4x16x16", 1.029, 5 * 0.04371),
        ("single-32x32", 0.4773, 0.05464),
        ("sosa-256x32x32", 32.81, 256 * 0.05464),
        ("tiny-4x4", 0.002912, 0.000122),
        ("tpu-128x128", 5.775, 0.6119),
    ],
)
def test_power_at_rest_of_the_shipped_machines(name: str, leakage: float, idle: float) -> None:
    """Totals from the 40 nm table over each machine's bits and elements, in watts."""
    found = at_rest(load_architecture(name))
    assert found == pytest.approx({"leakage": leakage, "idle": idle}, rel=0.01)


@pytest.mark.parametrize("name", ["gemmini-16x16", "mixed-64x64-4x16x16", "sosa-256x32x32"])
def test_twice_the_pods_have_twice_the_power_at_rest(name: str) -> None:
    machine = load_architecture(name)
    twice = described(machine, {f"pods.{n}.count": 2 * p.count for n, p in enumerate(machine.pods)})
    assert at_rest(twice) == pytest.approx({key: 2 * w for key, w in at_rest(machine).items()})


def test_a_sweep_scales_power_at_rest_with_what_it_changes() -> None:
    machine = load_architecture("edge-64x64")
    base = at_rest(machine)
    for size in (16, 32, 128):
        found = at_rest(described(machine, {"size": size}))
        more = size**2 - 64**2
        assert found["leakage"] - base["leakage"] == pytest.approx(more * 8.71e-5)
        assert found["idle"] == pytest.approx(base["idle"] * size**2 / 64**2)
    for key in ("scratchpad_bytes", "accumulator_bytes"):
        found = at_rest(described(machine, {key: 8 * 2**20}))
        mebibytes = 8 - (4 if key == "scratchpad_bytes" else 1)
        assert found["leakage"] - base["leakage"] == pytest.approx(mebibytes * 0.1552)
        assert found["idle"] == base["idle"]
    fast = at_rest(described(machine, {"clock_hz": 1.6e9}))
    assert fast == pytest.approx({"leakage": base["leakage"], "idle": 2 * base["idle"]})


def test_a_byte_pays_for_the_links_it_drives_and_idle_for_each_element() -> None:
    machine = load_architecture("sosa-256x32x32")
    assert machine.energy
    unit = machine.energy.interconnect_pj_per_byte_stage.value
    joules = energy_joules(EventCounts(interconnect_bytes=10**6), machine, 0.0)
    assert joules["interconnect"] == pytest.approx(1e-6 * unit * 2 * 8)
    assert joules["registers"] == 0
    assert sum(joules.values()) == pytest.approx(joules["interconnect"])
    half = Figure(value=0.5, node_nm=28, volts=0.9, source="a test")
    warm = msgspec.structs.replace(machine.energy, idle_pj_per_element_cycle=half)
    idle = at_rest(msgspec.structs.replace(machine, energy=warm))["idle"]
    assert idle == pytest.approx(256 * 1024 * 0.5e-12 * 1e9)


def test_without_figures_there_is_no_energy_and_no_area() -> None:
    machine = msgspec.structs.replace(load_architecture("tiny-4x4"), energy=None, area=None)
    assert energy_joules(COUNTS, machine, 1.0) == {}
    assert area_mm2(machine) == {}


def test_area_by_hand() -> None:
    machine = load_architecture("mixed-64x64-4x16x16")
    area = machine.area
    assert area
    found = area_mm2(machine)
    assert found["elements"] == pytest.approx((4096 + 4 * 256) * area.element_mm2.value)
    assert found["scratchpads"] == pytest.approx(3 * area.scratchpad_mm2_per_mebibyte.value)
    assert found["accumulators"] == pytest.approx(0.75 * area.accumulator_mm2_per_mebibyte.value)
    assert found["vector"] == pytest.approx(128 * area.vector_lane_mm2.value)
    assert found["interconnect"] == pytest.approx(
        25 * 64 * area.interconnect_mm2_per_byte_stage.value
    )
