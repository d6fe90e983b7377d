from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vm_programs import batch_program, choice_program

from motet.runtime.errors import BundleError
from motet.runtime.memory import Lifetime
from motet.runtime.program import (
    ArrayCall,
    Branch,
    Constant,
    Goto,
    Input,
    Kernel,
    Move,
    Operator,
    Program,
    Register,
    ShapeTensor,
    Storage,
    Stored,
    TensorInfo,
    View,
    decode,
    encode,
)
from motet.runtime.shapes import Expression

number = st.integers(0, 2**40)
name = st.text(max_size=8)
leaf = number | st.sampled_from(["N", "S"])
dimension = leaf | st.builds(Expression, st.sampled_from(["+", "*", "max"]), leaf, leaf)
shape = st.lists(dimension, max_size=3).map(tuple)
dtype = st.sampled_from(["float32", "int64", "bool"])
numbers = st.lists(number, max_size=3).map(tuple)


def many(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(strategy, max_size=4).map(tuple)


place = st.one_of(*(st.builds(kind, number) for kind in (Input, Constant, Stored, View)))
instruction = st.one_of(
    st.builds(Kernel, name, numbers, number, number),
    st.builds(ArrayCall, name, numbers, numbers, number),
    st.builds(Move, number, number),
    st.builds(ShapeTensor, shape, number),
    st.builds(Branch, number, number),
    st.builds(Goto, number),
)
programs = st.builds(
    Program,
    inputs=many(st.builds(TensorInfo, name, dtype, shape)),
    outputs=many(st.builds(TensorInfo, name, dtype, shape)),
    output_registers=numbers,
    registers=many(st.builds(Register, dtype, shape, place)),
    storages=many(st.builds(Storage, dimension, st.builds(Lifetime, number, number))),
    instructions=many(instruction),
    operators=many(
        st.builds(Operator, name, name, many(name), st.sampled_from(["host", "array"]), dimension)
    ),
    offsets=st.none() | numbers,
    arena_bytes=st.none() | number,
)


@given(programs)
def test_decode_gives_back_what_was_encoded(program: Program) -> None:
    data = encode(program)
    assert decode(data) == program
    assert encode(decode(data)) == data


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="cannot be decoded"):
        decode(data)


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_program_decodes_or_is_refused(data: st.DataObject) -> None:
    good = bytearray(encode(batch_program()))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BundleError):  # any other exception fails the test
        assert isinstance(decode(bytes(good)), Program)


@pytest.mark.parametrize("share", range(10))
def test_a_truncated_program_is_refused(share: int) -> None:
    data = encode(choice_program())
    with pytest.raises(BundleError, match="cannot be decoded"):
        decode(data[: len(data) * share // 10])


@pytest.mark.parametrize("deep", [b"[" * 200_000, b'["+",1,' * 200_000])
def test_nesting_without_end_is_refused(deep: bytes) -> None:
    data = encode(batch_program())
    assert data.count(b'"N"') > 1
    with pytest.raises(BundleError, match="cannot be decoded"):
        decode(data.replace(b'"N"', deep, 1))


@pytest.mark.parametrize("key", ["inputs", "registers", "instructions", "offsets"])
def test_a_missing_part_is_named(key: str) -> None:
    fields = msgspec.json.decode(encode(batch_program()))
    del fields[key]
    with pytest.raises(BundleError, match=key):
        decode(msgspec.json.encode(fields))


def test_an_unknown_instruction_is_refused() -> None:
    data = encode(choice_program()).replace(b'"goto"', b'"jump"')
    with pytest.raises(BundleError, match="jump"):
        decode(data)
