from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from vm_programs import Draft, affine_program, batch_program, choice_program

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
    Program,
    Register,
    ShapeTensor,
    Storage,
    Stored,
    TensorInfo,
    View,
)
from motet.runtime.shapes import Expression
from motet.runtime.verify import verify_program, verify_wires
from motet.runtime.verify_memory import overlapping_storages

BIAS = np.zeros(8, np.float32)


def with_item(program: Program, part: str, index: int, value: Any) -> Program:
    items = list(getattr(program, part))
    items[index] = value
    return replace(program, **{part: tuple(items)})


def register(index: int, place: Any, dtype: str = "float32", shape: Any = (8,)) -> Any:
    return lambda p: with_item(p, "registers", index, Register(dtype, shape, place))


def instruction(index: int, value: Any) -> Any:
    return lambda p: with_item(p, "instructions", index, value)


def part(**parts: Any) -> Any:
    return lambda p: replace(p, **parts)


@pytest.mark.parametrize(
    "program", [affine_program(), affine_program((0, 4)), batch_program(), choice_program()]
)
def test_correct_programs_pass(program: Program) -> None:
    bias = np.zeros(program.registers[1].shape, np.float32) if program.offsets else BIAS
    verify_program("m", program, [bias], ())


# The affine program: registers 0 x, 1 bias, 2 view of x, 3 sum, 4 product, 5 view of it.
AFFINE_FAULTS: dict[str, tuple[str, Callable[[Program], Program]]] = {
    "input": ("register 0 has no place", register(0, Input(1))),
    "input below": ("register 0 has no place", register(0, Input(-1))),
    "input dtype": ("register 0 has no place", register(0, Input(0), "int32")),
    "constant": ("register 1 has no place", register(1, Constant(1))),
    "constant below": ("register 1 has no place", register(1, Constant(-1))),
    "constant shape": ("register 1 has no place", register(1, Constant(0), shape=(4, 2))),
    "constant dtype": ("register 1 has no place", register(1, Constant(0), "int32")),
    "storage": ("register 3 has no place", register(3, Stored(2))),
    "storage below": ("register 3 has no place", register(3, Stored(-1))),
    "view of itself": ("register 2 has no place", register(2, View(2))),
    "view of a later one": ("register 2 has no place", register(2, View(3))),
    "view below": ("register 2 has no place", register(2, View(-1))),
    "view dtype": ("register 2 has no place", register(2, View(0), "int32")),
    "no dtype": ("register 3 has no place", register(3, Stored(0), "float31")),
    "object dtype": ("register 3 has no place", register(3, Stored(0), "object")),
    "large": ("register 3 is larger than its storage", register(3, Stored(0), shape=(9,))),
    "kernel reads": ("instruction 0 refers", instruction(0, Kernel("add", (2, 9, 3), 1, 0))),
    "kernel reads below": ("instruction 0 refers", instruction(0, Kernel("add", (2, -1, 3), 1, 0))),
    "kernel writes": ("instruction 0 refers", instruction(0, Kernel("add", (2, 1, 6), 1, 0))),
    "operator": ("instruction 0 refers", instruction(0, Kernel("add", (2, 1, 3), 1, 2))),
    "operator below": ("instruction 0 refers", instruction(0, Kernel("add", (2, 1, 3), 1, -1))),
    "no outputs": ("instruction 0 refers", instruction(0, Kernel("add", (2, 1, 3), 0, 0))),
    "outputs below": ("instruction 0 refers", instruction(0, Kernel("add", (2, 1, 3), -1, 0))),
    "too many outputs": ("instruction 0 refers", instruction(0, Kernel("add", (3,), 2, 0))),
    "array reads": ("instruction 0 refers", instruction(0, ArrayCall("p", (9,), (3,), 0))),
    "array writes": ("instruction 0 refers", instruction(0, ArrayCall("p", (2,), (9,), 0))),
    "array operator": ("instruction 0 refers", instruction(0, ArrayCall("p", (2,), (3,), 2))),
    "array outputs": ("instruction 0 refers", instruction(0, ArrayCall("p", (2,), (), 0))),
    "array output twice": ("instruction 0 refers", instruction(
        0, ArrayCall("p", (2,), (3, 3), 0))),
    "array program": ("instruction 0 runs an array program", instruction(
        0, ArrayCall("q", (2,), (3,), 0))),
    "move from": ("instruction 0 refers", instruction(0, Move(9, 3))),
    "move to": ("instruction 0 refers", instruction(0, Move(2, 9))),
    "shape tensor": ("instruction 0 refers", instruction(0, ShapeTensor((8,), 9))),
    "shape tensor dtype": ("instruction 0 reads", instruction(0, ShapeTensor((8,), 3))),
    "condition": ("instruction 0 refers", instruction(0, Branch(9, 1))),
    "condition dtype": ("instruction 0 reads", instruction(0, Branch(3, 1))),
    "branch beyond": ("instruction 0 refers", instruction(0, Branch(3, 3))),
    "branch to itself": ("instruction 1 refers", instruction(1, Branch(3, 1))),
    "goto beyond": ("instruction 0 refers", instruction(0, Goto(3))),
    "goto itself": ("instruction 0 refers", instruction(0, Goto(0))),
    "goto back": ("instruction 1 refers", instruction(1, Goto(0))),
    "write to an input": ("instruction 0 reads", instruction(0, Kernel("double", (3, 2), 1, 0))),
    "write to a weight": ("instruction 0 reads", instruction(0, Kernel("double", (3, 1), 1, 0))),
    "outputs": ("its outputs", part(output_registers=(6,))),
    "output below": ("its outputs", part(output_registers=(-1,))),
    "outputs missing": ("its outputs", part(output_registers=())),
    "outputs dtype": ("its outputs", part(outputs=(TensorInfo("y", "int64", (2, 4)),))),
    "offset unaligned": ("outside the arena", part(offsets=(0, 8))),
    "offset below": ("outside the arena", part(offsets=(0, -64))),
    "offset beyond": ("outside the arena", part(offsets=(0, 128))),
    "offsets missing": ("outside the arena", part(offsets=(0,))),
    "offsets without arena": ("outside the arena", part(arena_bytes=None)),
    "unbound symbol": ("no input binds N", part(outputs=(TensorInfo("y", "float32", ("N",)),))),
}  # fmt: skip


@pytest.mark.parametrize("fault", AFFINE_FAULTS)
def test_each_fault_is_found(fault: str) -> None:
    message, damage = AFFINE_FAULTS[fault]
    with pytest.raises(BundleError, match=f"model 'm': .*{message}"):
        verify_program("m", damage(affine_program()), [BIAS], {"p"})


def test_fixed_offsets_need_fixed_sizes() -> None:
    program = replace(batch_program(), offsets=(0, 64, 128), arena_bytes=192)
    with pytest.raises(BundleError, match="outside the arena"):
        verify_program("m", program, [])


def test_a_storage_larger_than_the_arena() -> None:
    program = affine_program()
    program = with_item(program, "storages", 0, Storage(4096, program.storages[0].lifetime))
    with pytest.raises(BundleError, match="outside the arena"):
        verify_program("m", program, [BIAS])


def test_storages_that_share_bytes_while_both_are_in_use() -> None:
    program = affine_program()
    assert program.offsets == (0, 64)
    with pytest.raises(BundleError, match=r"storages [01] and [01] share bytes"):
        verify_program("m", replace(program, offsets=(64, 64)), [BIAS])


def test_storages_one_after_the_other_may_share_bytes() -> None:
    draft = Draft()
    value = draft.input("x", (8,))
    for _ in range(3):
        value = draft.kernel("double", value, draft.stored((8,)))
    program = draft.finish(y=value)
    assert program.offsets is not None
    assert program.offsets[0] == program.offsets[2] != program.offsets[1]
    verify_program("m", program, [])


@pytest.mark.parametrize("program", [affine_program(), batch_program()])
@pytest.mark.parametrize(("storage", "lifetime"), [(0, (1, 2)), (0, (0, 0)), (1, (1, 1))])
def test_use_outside_the_lifetime(
    program: Program, storage: int, lifetime: tuple[int, int]
) -> None:
    changed = Storage(program.storages[storage].bytes, Lifetime(*lifetime))
    program = with_item(program, "storages", storage, changed)
    with pytest.raises(BundleError, match=f"storage {storage} is used outside its lifetime"):
        verify_program("m", program, [BIAS])


STORAGES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 6), st.integers(0, 4)),
    max_size=8,
)


@given(STORAGES)
def test_overlaps_are_those_that_brute_force_finds(drawn: list[tuple[int, int, int, int]]) -> None:
    """Storages as (offset and bytes in units of 64, first instruction, instructions more)."""
    spans = [Lifetime(first, first + more) for _, _, first, more in drawn]
    program = replace(
        affine_program(),
        storages=tuple(Storage(64 * d[1], span) for d, span in zip(drawn, spans, strict=True)),
        offsets=tuple(64 * d[0] for d in drawn),
    )
    overlapping = any(
        a[0] < b[0] + b[1] and b[0] < a[0] + a[1] and min(a[1], b[1]) and one.overlaps(other)
        for (a, one), (b, other) in combinations(zip(drawn, spans, strict=True), 2)
    )
    assert overlapping == any(overlapping_storages(program))


def test_a_condition_of_several_elements() -> None:
    draft = Draft()
    flags = draft.input("flags", (2,), "bool")
    draft.branch(flags, 1)
    with pytest.raises(BundleError, match="wrong kind"):
        verify_program("m", draft.finish(flags=flags), [])


def test_a_symbol_that_never_stands_alone_is_unbound() -> None:
    draft = Draft()
    x = draft.input("x", (Expression("*", "N", 2),))
    with pytest.raises(BundleError, match="no input binds N"):
        verify_program("m", draft.finish(x=x), [])


def relay(dtype: str = "float32") -> Program:
    draft = Draft()
    return draft.finish(y=draft.input("x", (4,), dtype))


@pytest.mark.parametrize(
    "wires",
    [
        {"b": {"z": "a.y"}}, {"b": {"x": "a.z"}}, {"b": {"x": "c.y"}}, {"b": {"x": "b.y"}},
        {"b": {"x": "i.y"}}, {"b": {"x": ""}}, {"a": {"x": "b.y"}},
    ],
)  # fmt: skip
def test_wires_that_join_nothing(wires: dict[str, dict[str, str]]) -> None:
    programs = {"i": relay("int32"), "a": relay(), "b": relay()}
    with pytest.raises(BundleError, match="the wire from"):
        verify_wires({name: wires.get(name, {}) for name in programs}, programs)


def test_a_correct_wire_passes() -> None:
    verify_wires({"a": {}, "b": {"x": "a.y"}}, {"a": relay(), "b": relay()})
