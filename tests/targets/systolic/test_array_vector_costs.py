"""Cycles, bytes and energy of products of vectors, against plain int8 and worked by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from array_vectors import compiled, machine, random_vectors, run, words_of

from motet.runtime.errors import CompileError, ProgramError
from motet.targets.systolic.architecture import ArrayDescription, Energy, Figure
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import format_named
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.encoding import encode
from motet.targets.systolic.instructions.isa import Flag, Function, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.counts import program_counts
from motet.targets.systolic.simulation.device import SimulatedArray
from motet.targets.systolic.simulation.energy import vector_unit_pj
from motet.targets.systolic.simulation.events import count_events
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.vector_units import as_computed, refusal
from motet.targets.systolic.workload.graph import single
from motet.targets.systolic.workload.layers import MatrixProduct
from motet.targets.systolic.workload.vector_layers import VectorConvolution, VectorProduct
from motet.targets.systolic.workload.vector_products import single_of_vectors
from motet.targets.systolic.workload.what_if import in_format


def figure(value: float) -> Figure:
    return Figure(value=value, node_nm=45, volts=0.9, source="test")


def with_energy(description: ArrayDescription) -> ArrayDescription:
    energy = Energy(
        mac_pj={"int8": figure(3), "int4": figure(2)},
        scratchpad_pj_per_byte=figure(1),
        accumulator_pj_per_byte=figure(1),
        vector_pj=figure(1),
        interconnect_pj_per_byte_stage=figure(0),
        dram_pj_per_byte=figure(10),
        leakage_watts_per_element=figure(0),
        leakage_watts_per_mebibyte=figure(0),
        idle_pj_per_element_cycle=figure(0),
        multiply_pj_per_bit_pair=figure(0.01),
        add_pj_per_bit=figure(0.1),
    )
    return msgspec.structs.replace(description, energy=energy)


def fed(description: ArrayDescription) -> ArrayDescription:
    """With memories that never make the array wait."""
    pod = description.pods[0]
    wide = msgspec.structs.replace(pod.scratchpad, bytes=2**20, ports=8, banks=8, port_bytes=512)
    sums = msgspec.structs.replace(pod.accumulators, bytes=2**18, ports=8, banks=8, port_bytes=256)
    pods = (msgspec.structs.replace(pod, scratchpad=wide, accumulators=sums),)
    dram = msgspec.structs.replace(description.dram, bytes_per_second=1e12, dma_requests=4096)
    link = msgspec.structs.replace(description.interconnect, link_bytes=4096)
    return msgspec.structs.replace(description, pods=pods, dram=dram, interconnect=link)


def array_cycles(program: SystolicProgram, description: ArrayDescription) -> int:
    return sum(step.array_cycles for step in program_counts(program, description).steps)


def test_fed_well_vectors_stream_in_the_cycles_of_int8_and_drain_sooner() -> None:
    description = fed(machine(length=4, rows=16))
    pins = {"layer": {"dataflow": "weight-stationary", "tile_rows": 256}}
    plain, made = in_format(single(MatrixProduct(1, 256, 16, 64)), "int8")
    program = compile_workload(plain, description, made, constraints=pins).program
    layer = VectorProduct(1, 256, 16, 16, rhs_transposed=True, length=4)
    vectors = compiled(layer, words_of("v4-8/8/4/4"), description, constraints=pins)
    # 4 x 4 tiles of 256 rows each, on 16 x 4 multiply-accumulates and on 4 x 4 units of 4
    assert array_cycles(program, description) == array_cycles(vectors, description) == 16 * 256
    assert layer.macs == plain.macs
    last = {}
    for name, one in (("plain", program), ("vectors", vectors)):
        timing = simulate(one, description)
        array = one.instructions["opcode"] == Opcode.MATMUL
        last[name] = int((timing.end - timing.records["second_end"])[array].max())
    assert (last["plain"], last["vectors"]) == (16 + 4 - 2, 4 + 4 - 2)


def test_bytes_are_those_of_integers_and_scales() -> None:
    """One tile: 5 rows, 2 vectors deep, 3 columns, in 4/8/6/10 with V = 4."""
    layer = VectorProduct(1, 5, 3, 2, rhs_transposed=True, length=4)
    description = machine()
    pins = {"layer": {"dataflow": "weight-stationary", "tile_rows": 5}}
    program = compiled(layer, words_of("v4-4/8/6/10-wide"), description, constraints=pins)
    inputs, weights = 10 * (4 * 8 + 10), 6 * (4 * 4 + 6)
    counts = program_counts(program, description)
    assert counts.dram_read_bytes == -(-inputs // 8) + -(-weights // 8) + 3 * 4
    assert counts.dram_write_bytes == 15 * 4
    assert counts.vector_products == 5 * 3 * 2
    events = count_events(program)
    assert events.macs == {program.format: 5 * 3 * 2 * 4}
    assert events.scratchpad_write_bytes == -(-(inputs + weights) // 8)
    assert events.scratchpad_read_bytes == -(-(inputs + weights) // 8)
    # sums of 8 bytes: written by the product, read and written by dequantise, which reads 3
    # factors that were loaded, and read by the store
    assert events.accumulator_write_bytes == 8 * (15 + 3 + 15)
    assert events.accumulator_read_bytes == 8 * (15 + 3 + 15)
    assert events.vector_operations == 15


def test_energy_of_a_unit_worked_by_hand() -> None:
    description = with_energy(machine())
    layer = VectorProduct(1, 5, 3, 2, rhs_transposed=True, length=4)
    words = words_of("v4-4/8/6/10-p8-wide")
    # scales 6 x 10 pairs; 4 products of 4 x 8 pairs, 3 sums of 4 + 8 + 2 = 14 bits, 14 x 8 pairs
    # with the rounded scale, 64 bits of accumulator
    scales, rest = 60 * 0.01, (4 * 32 + 14 * 8) * 0.01 + (3 * 14 + 64) * 0.1
    assert description.energy is not None
    assert vector_unit_pj(description.energy, words) == pytest.approx((scales, rest))
    program = compiled(layer, words, description)
    all_of_it = program_counts(program, description).energy_joules["mac"]
    assert all_of_it == pytest.approx(30 * (scales + rest) * 1e-12)
    gated = program_counts(program, description, gated=7).energy_joules["mac"]
    assert gated == pytest.approx((30 * scales + 23 * rest) * 1e-12)


def test_the_device_counts_what_its_last_run_gated() -> None:
    description = with_energy(machine())
    layer, words = VectorProduct(1, 6, 4, 3, rhs_transposed=True, length=4), words_of("v4-4/4/4/4")
    program = compiled(layer, words, description, exact=True)
    device = SimulatedArray(description)
    device.load("p", encode(program))
    before = device.counts("p")
    assert (before.vector_products, before.gated_products) == (72, None)
    x, w = random_vectors(np.random.default_rng(0), words, layer)
    x.scales[...], w.scales[...] = 1, 1
    x.scales[0, 2] = 0
    for gated in (4 * 3, 72):
        output = np.zeros((1, 6, 4), np.int64)
        device.invoke("p", [x.integers, x.scales, w.integers, w.scales], [output])
        after = device.counts("p")
        assert after.gated_products == gated == run(program, x, w).gated
        assert after.energy_joules["mac"] < before.energy_joules["mac"]
        x.scales[...] = 0


def test_wide_sums_take_two_words() -> None:
    layer = VectorConvolution(1, 2, 8, 1, 12, 12, (3, 3), padding=(1, 1, 1, 1), length=4)
    description = machine()
    pins = {"layer": {"dataflow": "output-stationary"}}
    for name in ("v4-4/4/4/4", "v4-4/4/4/4-wide"):
        made = as_computed(description, format_named(name))
        halves = 2 if name.endswith("wide") else 1
        assert made.pods[0].accumulator_words == description.pods[0].accumulator_words // halves
        assert made.pods[0].rows == 2
        program = compiled(layer, words_of(name), description, constraints=pins)
        used = int(program.instructions["accumulator_address"].max())
        assert used < description.pods[0].accumulator_words // halves
    assert as_computed(made, format_named(name)) == made


def test_products_that_no_pod_takes_say_why() -> None:
    description = machine()
    for name, words in (
        ("v8-4/4/4/4", "vectors have 8 integers, its vector units take 4"),
        ("v4-4/8/6/13", "scales of activations have 13 bits, its vector units take 12"),
    ):
        assert words in str(refusal(description, words_of(name)))
        layer = VectorProduct(1, 5, 3, 2, rhs_transposed=True, length=int(name[1]))
        with pytest.raises(CompileError, match=words):
            compiled(layer, words_of(name), description)
    tiny = load_architecture("tiny-4x4")
    assert "no vector units (per_vector)" in str(refusal(tiny, words_of("v4-4/4/4/4")))
    narrow = msgspec.structs.replace(description.pods[0], formats=("int4",))
    only = msgspec.structs.replace(description, pods=(narrow,))
    assert "weights have 8 bits, its multipliers 4" in str(refusal(only, words_of("v4-8/4/4/4")))


def broken(program: SystolicProgram, which: int, **fields: int) -> SystolicProgram:
    """``program`` with fields of its first instruction of an opcode changed."""
    code = program.instructions.copy()
    at = int(np.flatnonzero(code["opcode"] == which)[0])
    for name, value in fields.items():
        code[name][at] = value
    return with_code(program, code)


def with_code(program: SystolicProgram, code: np.ndarray) -> SystolicProgram:
    return SystolicProgram(
        program.format, code, program.queue_starts, program.tensors, program.views, program.steps
    )


@pytest.mark.parametrize(
    ("opcode", "fields", "words"),
    [
        (Opcode.MATMUL, {"flags": Flag.BIAS}, "sums of vectors start from 0"),
        (Opcode.LOAD, {"flags": Flag.PAD_LOWEST}, "vectors are padded with zeros"),
        (Opcode.LOAD, {"flags": Flag.ACCUMULATORS}, "accumulators are loaded with floats"),
        (Opcode.VECTOR, {"function": Function.ADD}, "use \\+accumulators"),
        (Opcode.MATMUL, {"depth": 3}, "does not fit the 2x4 array"),
    ],
)
def test_the_checker_knows_what_vectors_are(opcode: int, fields: dict, words: str) -> None:
    layer = VectorProduct(1, 5, 3, 4, rhs_transposed=True, length=4)
    pins = {"layer": {"dataflow": "weight-stationary"}}
    description = machine()
    program = compiled(layer, words_of("v4-4/4/4/4"), description, constraints=pins)
    if opcode == Opcode.LOAD:
        loads = np.flatnonzero(program.instructions["opcode"] == Opcode.LOAD)
        vectors = [i for i in loads if not program.instructions["flags"][i] & Flag.ACCUMULATORS]
        code = program.instructions.copy()
        code["flags"][vectors[0]] = fields["flags"]
        wrong = with_code(program, code)
    else:
        wrong = broken(program, opcode, **fields)
    with pytest.raises(ProgramError, match=words):
        check_program(wrong, description)


def test_tensors_of_vectors_have_their_scales_behind_them() -> None:
    layer = VectorProduct(1, 5, 3, 4, rhs_transposed=True, length=4)
    description = machine()
    program = compiled(layer, words_of("v4-4/4/4/4"), description, exact=True)
    swapped = (*program.tensors[1::-1], *program.tensors[2:])
    wrong = SystolicProgram(
        program.format, program.instructions, program.queue_starts, swapped, program.views, ()
    )
    with pytest.raises(ProgramError, match="no vectors of the same number before it"):
        check_program(wrong, description)
    as_int8 = SystolicProgram(
        "int8", program.instructions, program.queue_starts, program.tensors, program.views,
        program.steps,
    )  # fmt: skip
    with pytest.raises(ProgramError, match="is of vectors, int8 has none"):
        check_program(as_int8, description)


def test_the_shipped_machine_takes_the_papers_settings() -> None:
    shipped = load_architecture("vsquant-64x64")
    for name in ("v16-4/8u/6/10-wide", "v16-4/4/4/4", "v16-8/8/6/10-p8-wide"):
        assert refusal(shipped, words_of(name)) is None
    layer = VectorProduct(1, 16, 8, 6, rhs_transposed=True, length=16)
    workload = single_of_vectors(layer, words_of("v16-4/8/6/10-wide"))
    joules = program_counts(compile_workload(workload, shipped).program, shipped).energy_joules
    assert joules["mac"] > 0
