"""Programs as bytes: round trips, versions, and damage of every kind."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolic_cases import array, convolutions, products

from motet.runtime.errors import BundleError, MotetError
from motet.targets.systolic.checker import check_program
from motet.targets.systolic.codegen import compile_layer
from motet.targets.systolic.functional import BoundProgram, OnChipMemories
from motet.targets.systolic.layers import Convolution, MatrixProduct
from motet.targets.systolic.program import SystolicProgram
from motet.targets.systolic.timing import layer_counts

ARRAY = array()
LAYER = Convolution(1, 2, 3, 1, 4, 4, (2, 2), padding=(1, 0, 0, 1), bias=True, clamp=(0.0, 6.0))
ENCODED = compile_layer(LAYER, ARRAY).encode()


@settings(max_examples=40, deadline=None)
@given(layer=st.one_of(convolutions(), products()))
def test_round_trip(layer):
    program = compile_layer(layer, ARRAY)
    encoded = program.encode()
    decoded = SystolicProgram.decode(encoded)
    np.testing.assert_array_equal(decoded.instructions, program.instructions)
    assert (decoded.operands, decoded.macs) == (program.operands, program.macs)
    assert decoded.encode() == encoded == compile_layer(layer, ARRAY).encode()


def test_every_flipped_byte_is_noticed():
    for position in range(len(ENCODED)):
        damaged = bytearray(ENCODED)
        damaged[position] ^= 0x5A
        with pytest.raises(BundleError):
            SystolicProgram.decode(bytes(damaged))


def test_truncated_and_lengthened():
    for size in [*range(60), len(ENCODED) - 1]:
        with pytest.raises(BundleError):
            SystolicProgram.decode(ENCODED[:size])
    with pytest.raises(BundleError):
        SystolicProgram.decode(ENCODED + b"\0")


def test_a_newer_version_is_refused():
    newer = ENCODED[:8] + struct.pack("<H", 2) + ENCODED[10:]
    with pytest.raises(BundleError, match="version 2, this Motet reads up to 1: upgrade"):
        SystolicProgram.decode(newer)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes(data):
    with pytest.raises(BundleError):
        SystolicProgram.decode(data)


def repaired(damaged):
    """The bytes with a checksum that fits them."""
    damaged[12:16] = struct.pack("<I", zlib.crc32(damaged[16:]))
    return bytes(damaged)


@pytest.mark.parametrize("bit", [0, 1, 4, 7])
def test_damage_behind_a_right_checksum_raises_motet_errors_only(bit):
    """Where decoding and the checker pass, the program runs inside its bounds."""
    values = [np.zeros(x, np.float32) for x in (LAYER.input_shape, LAYER.weight_shape, 3)]
    output = np.zeros(LAYER.output_shape, np.float32)
    outcomes = set()
    for position in range(16, len(ENCODED)):
        damaged = bytearray(ENCODED)
        damaged[position] ^= 1 << bit
        try:
            program = SystolicProgram.decode(repaired(damaged))
            check_program(program, ARRAY)
            if all(max(x.padding) < 1000 for x in program.operands):
                layer_counts(program, ARRAY)
                BoundProgram(program, OnChipMemories(ARRAY)).run(values, output)
            outcomes.add("runs")
        except MotetError as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"runs", "BundleError", "ProgramError", "InputError"}


def test_programs_of_no_instruction():
    program = compile_layer(MatrixProduct(1, 2, 2, 2), ARRAY)
    empty = SystolicProgram(program.instructions[:0], program.operands, 0)
    decoded = SystolicProgram.decode(empty.encode())
    with pytest.raises(MotetError, match="do not cover the output"):
        check_program(decoded, ARRAY)
