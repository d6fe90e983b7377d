"""Encoded array programs: round trip, versions, damage, bombs, size and determinism."""

import dataclasses
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import BundleError, ProgramError
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions import encoding
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.encoding import decode, encode
from motet.targets.systolic.instructions.isa import INSTRUCTION, Opcode, empty_instructions
from motet.targets.systolic.instructions.program import (
    Element,
    Role,
    StepInfo,
    SystolicProgram,
    Tensor,
)

BIG = st.integers(-(2**63), 2**63 - 1)
SIZES = st.integers(0, 2**40)
LOOPS = st.lists(st.builds(Loop, SIZES, BIG), max_size=3).map(tuple)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def views(tensors: int) -> st.SearchStrategy[View]:
    return st.builds(
        View,
        st.integers(0, tensors - 1),
        st.lists(SIZES, max_size=4).map(tuple),
        st.builds(Loop, SIZES, BIG),
        LOOPS,
        LOOPS,
        st.tuples(SIZES, SIZES, SIZES, SIZES),
        BIG,
    )


@st.composite
def programs(draw: st.DrawFn) -> SystolicProgram:
    tensors = draw(
        st.lists(
            st.builds(
                Tensor,
                TEXT,
                st.lists(SIZES, max_size=8).map(tuple),
                st.sampled_from(Role),
                st.sampled_from(Element),
                st.none() | st.integers(0, 2**64 - 1),
            ),
            min_size=1,
            max_size=4,
        )
    )
    steps = st.builds(StepInfo, TEXT, TEXT, st.integers(0, 2**63), TEXT, st.integers(0, 2**32 - 1))
    count = draw(st.integers(0, 30))
    raw = draw(st.binary(min_size=count * INSTRUCTION.itemsize, max_size=count * 76))
    instructions = np.frombuffer(raw, INSTRUCTION).copy()
    instructions["opcode"] = instructions["opcode"] % len(Opcode) + 1
    ends = draw(
        st.integers(0, 3).flatmap(
            lambda pods: st.lists(st.integers(0, count), min_size=4 * pods, max_size=4 * pods)
        )
    )
    starts = np.array([0, *sorted(ends)[:-1], *([count] if ends else [])], np.int64)
    if not ends:
        instructions = instructions[:0]
    return SystolicProgram(
        draw(st.sampled_from(list(FORMATS))),
        instructions,
        starts,
        tuple(tensors),
        tuple(draw(st.lists(views(len(tensors)), max_size=3))),
        tuple(draw(st.lists(steps, max_size=3))),
    )


def same(one: SystolicProgram, other: SystolicProgram) -> bool:
    return (
        one.instructions.tobytes() == other.instructions.tobytes()
        and one.queue_starts.tolist() == other.queue_starts.tolist()
        and (one.format, one.tensors, one.views, one.steps)
        == (other.format, other.tensors, other.views, other.steps)
    )


def small() -> SystolicProgram:
    instructions = empty_instructions(6)
    instructions["opcode"] = [1, 2, 2, 4, 5, 7]
    instructions["address"] = np.arange(6) * 7
    view = View(0, (2, 3), Loop(1, 0), (Loop(2, 3),), (Loop(3, -1),), (0, 0, 0, 0), 2)
    return SystolicProgram(
        "int8",
        instructions,
        np.array([0, 1, 3, 4, 6], np.int64),
        (Tensor("x", (2, 3), Role.INPUT), Tensor("y", (2, 3), Role.OUTPUT, Element.INT32)),
        (view,),
        (StepInfo("conv", "Convolution", 12, "weight-stationary"),),
    )


def resealed(data: bytes) -> bytes:
    """The bytes with the right checksum, as a careful forger would leave them."""
    crc = zlib.crc32(data[16:], zlib.crc32(data[:12]))
    return data[:12] + crc.to_bytes(4, "little") + data[16:]


def rebuilt(body: bytes, program: SystolicProgram, **sizes: int) -> bytes:
    stored = zlib.compress(body)
    head = bytearray(encode(program)[:52])
    head[36:52] = struct.pack("<QQ", sizes.get("before", len(body)), len(stored))
    return resealed(bytes(head) + stored)


def body_of(program: SystolicProgram) -> bytes:
    return zlib.decompress(encode(program)[52:])


@given(programs())
@settings(max_examples=100, deadline=None)
def test_round_trip_keeps_every_bit(program: SystolicProgram) -> None:
    data = encode(program)
    made = decode(data)
    assert same(made, program)
    assert encode(made) == data


def test_equal_programs_have_equal_bytes() -> None:
    assert encode(small()) == encode(small())


def test_every_flipped_byte_is_refused() -> None:
    data = encode(small())
    for index in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[index] ^= flip
            with pytest.raises(BundleError):
                decode(bytes(damaged))


def test_every_cut_and_every_tail_is_refused() -> None:
    data = encode(small())
    for length in range(len(data)):
        with pytest.raises(BundleError):
            decode(data[:length])
    with pytest.raises(BundleError, match="too long"):
        decode(data + b"\0")


def test_flips_behind_a_right_checksum_never_escape_as_other_errors() -> None:
    """A forged file is refused, or it is a program that encodes to the same values."""
    program = small()
    data, body = encode(program), body_of(program)
    forged = [resealed(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]) for i in range(len(data))]
    for flip in (1, 0x80):
        forged += [
            rebuilt(body[:i] + bytes([body[i] ^ flip]) + body[i + 1 :], program)
            for i in range(len(body))
        ]
    refused = 0
    for each in forged:
        try:
            made = decode(each)
        except BundleError:
            refused += 1
        else:
            assert same(decode(encode(made)), made)
    assert refused > len(data)


def test_versions() -> None:
    data = encode(small())
    newer = resealed(data[:8] + struct.pack("<H", encoding.VERSION + 1) + data[10:])
    with pytest.raises(BundleError, match="upgrade Motet"):
        decode(newer)
    older = resealed(data[:8] + struct.pack("<H", 1) + data[10:])
    with pytest.raises(BundleError, match="compile the model again"):
        decode(older)


def test_file_of_this_version_still_loads() -> None:
    """Written by version 2 and kept: what once loaded loads."""
    data = bytes.fromhex(KEPT)
    assert same(decode(data), small())


def test_bomb_is_not_unpacked() -> None:
    """A stream of a gigabyte that says it is small, and one that says it is large."""
    program = small()
    bomb = zlib.compress(bytes(2**26))
    for before in (100, 2**26, 2**63):
        head = bytearray(encode(program)[:52])
        head[36:52] = struct.pack("<QQ", before, len(bomb))
        start = time.perf_counter()
        with pytest.raises(BundleError):
            decode(resealed(bytes(head) + bomb))
        assert time.perf_counter() - start < 1


def test_counts_are_never_trusted() -> None:
    data = encode(small())
    for field in range(5):
        at = 16 + 4 * field
        for count in (0, 1, 7, 2**16, 2**24, 2**32 - 1):
            forged = data[:at] + struct.pack("<I", count) + data[at + 4 :]
            if forged != data:
                with pytest.raises(BundleError):
                    decode(resealed(forged))


def test_unknown_opcodes_and_formats_are_refused() -> None:
    program = small()
    program.instructions["opcode"][2] = 99
    with pytest.raises(BundleError, match="unknown opcode"):
        decode(encode(program))
    data = encode(small())
    with pytest.raises(BundleError, match="format"):
        decode(resealed(data[:10] + struct.pack("<H", 77) + data[12:]))


def test_what_has_no_encoding_is_refused_when_writing() -> None:
    program = small()
    for starts in ([0, 1, 3, 4, 5], [0, 3, 1, 4, 6], [1, 1, 3, 4, 6], [0, 6]):
        with pytest.raises(ProgramError, match="queue"):
            encode(dataclasses.replace(program, queue_starts=np.array(starts)))
    deep = Tensor("deep", (1,) * 9, Role.INPUT)
    with pytest.raises(ProgramError, match="deep"):
        encode(dataclasses.replace(program, tensors=(deep,)))
    with pytest.raises(ProgramError, match="no tensor"):
        encode(dataclasses.replace(program, tensors=()))


def test_a_million_instructions_take_about_a_second() -> None:
    count = 1_000_000
    index = np.arange(count)
    instructions = empty_instructions(count)
    instructions["opcode"] = np.array([1, 1, 8, 2, 7])[index % 5]
    instructions["row"] = index // 30 * 32 % 3136
    instructions["address"] = index % 8 * 1024
    instructions["value"] = index // 4
    starts = np.linspace(0, count, 1025).astype(np.int64)
    program = dataclasses.replace(small(), instructions=instructions, queue_starts=starts)
    begin = time.process_time()
    data = encode(program)
    made = decode(data)
    assert time.process_time() - begin < 3
    assert len(data) < count
    assert same(made, program)


KEPT = (
    "4d4f54455453410002000300ce27f9ac06000000040000000200000001000000010000003902000000000000"
    "930000000000000078016364646260644000262893192144128b8599bae6812c6762646480b90b4693eb3e64"
    "bf82cd86fa8e58f360eafe4301543b4e8a0528c30dc482400cb29b078841a0a232393fafcc1988f3734a4b32"
    "f3f3ca5333d3334a748b4b1241bcc4a24a984b6136824c02013608c5c0080a1560ec21c0ffff302984182e16"
    "d87476a02c3ac6a50124de00b2a0a11eac040037e81b54"
)
