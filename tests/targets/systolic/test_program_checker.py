"""The checker: every rule catches a program that breaks it, and names the instruction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from systolic_cases import array

from motet.runtime.errors import CompileError, ProgramError
from motet.targets.systolic.addressing import Loop
from motet.targets.systolic.checker import check_program
from motet.targets.systolic.codegen import compile_layer
from motet.targets.systolic.isa import Opcode
from motet.targets.systolic.layers import Convolution, MatrixProduct

ARRAY = array()
PROGRAM = compile_layer(MatrixProduct(1, 6, 8, 12, bias=True), ARRAY)
OPCODES = PROGRAM.instructions["opcode"].tolist()


def nth(opcode, number=0):
    """Index of the ``number``-th instruction of an opcode."""
    return int(np.flatnonzero(PROGRAM.instructions["opcode"] == opcode)[number])


def changed(index, **fields):
    instructions = PROGRAM.instructions.copy()
    for name, value in fields.items():
        instructions[name][index] = value
    return replace(PROGRAM, instructions=instructions)


@pytest.mark.parametrize(
    ("opcode", "fields", "message"),
    [
        (Opcode.LOAD_INPUT, {"address": 4096 - 8}, "scratchpad of 4096 bytes"),
        (Opcode.LOAD_INPUT, {"address": 2}, "do not lie on words"),
        (Opcode.LOAD_INPUT, {"row": 1}, "the tile leaves its operand"),
        (Opcode.LOAD_INPUT, {"column": 9}, "the tile leaves its operand"),
        (Opcode.LOAD_INPUT, {"group": 1}, "the tile leaves its operand"),
        (Opcode.LOAD_INPUT, {"operand": 1}, "operand 1 is not the layer's input"),
        (Opcode.LOAD_INPUT, {"operand": 9}, "operand 9 is not the layer's input"),
        (Opcode.LOAD_WEIGHT, {"operand": 0xFFFF}, "is not the layer's weight"),
        (Opcode.LOAD_WEIGHT, {"columns": 0}, "the tile is empty"),
        (Opcode.LOAD_BIAS, {"address": 1024}, "accumulator memory of 1024 bytes"),
        (Opcode.MATMUL, {"address": 3000}, "no 6x4 tile was loaded at byte 3000"),
        (Opcode.MATMUL, {"weight_address": 0}, "no 4x4 tile was loaded at byte 0"),
        (Opcode.MATMUL, {"accumulator_address": 512}, "no 6x4 tile was loaded at byte 512"),
        (Opcode.MATMUL, {"rows": 5}, "no 5x4 tile was loaded"),
        (Opcode.MATMUL, {"depth": 5}, "5x4 weight tile does not fit the 4x4 array"),
        (Opcode.MATMUL, {"depth": 0}, "the tile is empty"),
        (Opcode.STORE, {"address": 512}, "no 6x4 tile was loaded at byte 512"),
        (Opcode.STORE, {"operand": 0}, "operand 0 is not the layer's output"),
        (Opcode.STORE, {"low": 1.0, "high": 0.0}, "limits 1.0 to 0.0 are not in order"),
        (Opcode.STORE, {"low": np.nan}, "limits nan"),
    ],
)
def test_a_broken_field_is_named(opcode, fields, message):
    index = nth(opcode)
    with pytest.raises(ProgramError, match=rf"instruction {index} \({opcode.name}\): .*{message}"):
        check_program(changed(index, **fields), ARRAY)


def test_a_load_over_a_tile_in_use():
    """The second input tile over the first, which the MATMUL before it still streams."""
    address = int(PROGRAM.instructions["address"][nth(Opcode.LOAD_INPUT)])
    index = nth(Opcode.LOAD_INPUT, 1)
    with pytest.raises(ProgramError, match=rf"instruction {index} .*the MATMUL before it works on"):
        check_program(changed(index, address=address), ARRAY)


def test_an_overwritten_tile_cannot_be_read():
    index = nth(Opcode.LOAD_WEIGHT)
    address = int(PROGRAM.instructions["address"][nth(Opcode.LOAD_INPUT)])
    with pytest.raises(ProgramError, match=r"\(MATMUL\): no 6x4 tile was loaded"):
        check_program(changed(index, address=address + 4), ARRAY)


def test_a_missing_or_repeated_store():
    index = nth(Opcode.STORE)
    without = replace(PROGRAM, instructions=np.delete(PROGRAM.instructions, index))
    with pytest.raises(ProgramError, match="do not cover the output exactly once"):
        check_program(without, ARRAY)
    with pytest.raises(ProgramError, match="do not cover the output exactly once"):
        check_program(changed(nth(Opcode.STORE, 1), column=0), ARRAY)


def test_macs_that_are_not_the_matmuls():
    with pytest.raises(ProgramError, match="577 macs stated, 576 in its MATMULs"):
        check_program(replace(PROGRAM, macs=577), ARRAY)


def with_operand(index, **fields):
    operands = list(PROGRAM.operands)
    operands[index] = replace(operands[index], **fields)
    return replace(PROGRAM, operands=tuple(operands))


@pytest.mark.parametrize(
    ("index", "fields", "message"),
    [
        (0, {"shape": (1, 6, 11)}, "operand 0 is empty, too large, or left by loops"),
        (0, {"shape": (1, 0, 12)}, "operand 0 is empty"),
        (0, {"shape": (2**20, 2**20)}, "operand 0 is empty, too large"),
        (1, {"padding": (1, 0, 0, 0)}, "operand 1 must not be padded"),
        (3, {"shape": (1, 6, 9)}, "operand 3 is not written exactly once"),
    ],
)
def test_operands(index, fields, message):
    with pytest.raises(ProgramError, match=message):
        check_program(with_operand(index, **fields), ARRAY)


def test_an_output_whose_addresses_collide():
    generator = replace(PROGRAM.operands[3].generator, rows=(Loop(6, 1),))
    with pytest.raises(ProgramError, match="operand 3 is not written exactly once"):
        check_program(with_operand(3, generator=generator), ARRAY)


def test_operands_in_another_order():
    swapped = replace(PROGRAM, operands=PROGRAM.operands[::-1])
    with pytest.raises(ProgramError, match="operands must be input, weight, perhaps bias, output"):
        check_program(swapped, ARRAY)


def test_layers_that_cannot_be():
    with pytest.raises(CompileError, match="groups must divide"):
        Convolution(1, 3, 4, 2, 8, 8, (3, 3))
    with pytest.raises(CompileError, match="smaller than the kernel"):
        Convolution(1, 3, 4, 1, 2, 8, (3, 3))
    with pytest.raises(CompileError, match="positive"):
        MatrixProduct(1, 0, 4, 4)
    with pytest.raises(CompileError, match="2\\*\\*31"):
        MatrixProduct(1, 2**16, 2**16, 1)
    with pytest.raises(CompileError, match="low must not exceed"):
        MatrixProduct(1, 1, 1, 1, clamp=(1.0, 0.0))


def test_a_layer_of_too_many_tiles_is_refused():
    with pytest.raises(CompileError, match=r"tiles on array 'test-4x4'.*on the host"):
        compile_layer(MatrixProduct(1, 4096, 16384, 16384), ARRAY)
