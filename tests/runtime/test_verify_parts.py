"""Programs whose tensors share a storage: correct ones pass and run, wrong ones are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from vm_programs import Draft, bundle_of

from motet.runtime.bundle import open_bundle
from motet.runtime.errors import BundleError
from motet.runtime.memory import Lifetime, part
from motet.runtime.program import (
    Input,
    Kernel,
    Move,
    Part,
    Place,
    Program,
    Register,
    Storage,
    Stored,
    View,
)
from motet.runtime.session import Session
from motet.runtime.verify import verify_program


def joined_program() -> Program:
    """``y = [2x, 2x', x', 2y's 16 middle values]`` for x = [x', x'']: parts read and written.

    Registers: 0 x, 1 first half of x, 2 to 4 parts of storage 0, 5 all of it, 6 a slice of it,
    7 storage 1.
    """
    draft = Draft()
    x = draft.input("x", (32,))
    draft.sizes.append(64 + 64 + 128)
    places: list[tuple[int, Place]] = [
        (16, Part(x, 0)),
        (32, Stored(0, 0)),
        (16, Stored(0, 128)),
        (16, Stored(0, 192)),
        (64, Stored(0, 0)),
        (16, Part(5, 128)),
    ]
    for size, place in places:
        draft.registers.append(Register("float32", (size,), place))
    draft.kernel("double", x, 2)
    draft.kernel("double", 1, 3)
    draft.move(1, 4)
    z = draft.kernel("double", 6, draft.stored((16,)))
    program = draft.finish(y=5, z=z)
    lives = (Lifetime(0, 4), Lifetime(3, 4))
    offsets: Any = {"offsets": (0, 256), "arena_bytes": 320}
    storages = tuple(Storage(size, life) for size, life in zip((256, 64), lives, strict=True))
    return replace(program, storages=storages, **offsets)


def test_parts_are_written_and_read(kernel_library: bytes, tmp_path: Any) -> None:
    bundle = bundle_of({"m": joined_program()}, kernel_library)
    session = Session(open_bundle(bundle.save(tmp_path / "x.motet")))
    for seed in range(2):
        x = np.random.default_rng(seed).standard_normal(32).astype(np.float32)
        found = session.run("m", {"x": x})
        wanted = np.concatenate([2 * x, 2 * x[:16], x[:16]])
        np.testing.assert_array_equal(found["y"], wanted)
        np.testing.assert_array_equal(found["z"], 4 * x[:16])


def with_register(number: int, shape: Any, place: Place) -> Program:
    program = joined_program()
    registers = list(program.registers)
    registers[number] = Register("float32", shape, place)
    return replace(program, registers=tuple(registers))


def with_instructions(**changed: Any) -> Program:
    program = joined_program()
    instructions = list(program.instructions)
    for name, instruction in changed.items():
        instructions[int(name.removeprefix("at"))] = instruction
    return replace(program, instructions=tuple(instructions))


FAULTS: dict[str, tuple[str, Program]] = {
    "offset below": ("register 2 has no place", with_register(2, (32,), Stored(0, -64))),
    "part below": ("register 1 has no place", with_register(1, (16,), Part(0, -64))),
    "unaligned": ("register 3 has no place", with_register(3, (16,), Stored(0, 136))),
    "part unaligned": ("register 1 has no place", with_register(1, (16,), Part(0, 32))),
    "part of itself": ("register 1 has no place", with_register(1, (16,), Part(1, 0))),
    "part of a later one": ("register 1 has no place", with_register(1, (16,), Part(5, 0))),
    "beyond the storage": ("register 4 is larger", with_register(4, (17,), Stored(0, 192))),
    "behind the storage": ("register 4 is larger", with_register(4, (16,), Stored(0, 256))),
    "part beyond": ("register 1 reaches beyond", with_register(1, (17,), Part(0, 64))),
    "part behind": ("register 6 reaches beyond", with_register(6, (16,), Part(5, 256))),
    "writes overlap": ("instruction 2 writes over", with_register(4, (16,), Stored(0, 128))),
    "writes overlap partly": ("instruction 1 writes over", with_register(2, (48,), Stored(0, 0))),
    "a part unknown": ("instruction 1 writes over", with_register(2, ("N",), Stored(0, 0))),
    "written in place": ("instruction 3 writes bytes", with_instructions(
        at3=Kernel("double", (6, 3), 1, 2))),
    "moved in place": ("instruction 2 writes bytes", with_instructions(at2=Move(4, 4))),
    "written twice at once": ("instruction 1 writes bytes", with_instructions(
        at1=Kernel("both", (1, 3, 3), 2, 1))),
    "a part missing": ("an output holds bytes", with_instructions(at2=Move(1, 3))),
    "read too early": ("instruction 1 reads bytes", with_instructions(
        at1=Kernel("double", (6, 7), 1, 1))),
    "never written": ("instruction 0 reads bytes", with_instructions(
        at0=Kernel("double", (5, 7), 1, 0))),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str) -> None:
    message, program = FAULTS[fault]
    program = replace(program, storages=tuple(
        Storage(storage.bytes, Lifetime(0, 4)) for storage in program.storages))  # fmt: skip
    with pytest.raises(BundleError, match=f"model 'm': {message}"):
        verify_program("m", program, [])


def test_a_view_of_a_part_is_written_as_the_part() -> None:
    """Branches move what they give to the same place, seen in any shape."""
    program = joined_program()
    registers = (*program.registers, Register("float32", (4, 4), View(4)))
    moves = (Move(1, 4), Move(1, 4))
    again = replace(program, registers=registers, instructions=(*program.instructions[:2], *moves))
    again = replace(again, output_registers=(5, 5))
    verify_program("m", again, [])


def test_an_empty_tensor_in_another_shape_need_not_be_written() -> None:
    draft = Draft()
    draft.input("x", ("N",))
    empty = draft.stored((0, 3))
    verify_program("m", draft.finish(y=draft.view(empty, ("N", 3))), [])
    full = draft.stored((1, 3))
    with pytest.raises(BundleError, match="an output holds bytes that no instruction wrote"):
        verify_program("m", draft.finish(y=draft.view(full, ("N", 3))), [])


def test_a_part_of_an_array() -> None:
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    found = part(whole, 32, (2, 5))
    np.testing.assert_array_equal(found, np.arange(8, 18).reshape(2, 5))
    assert found.base is not None
    for offset, shape in ((64, (9,)), (96, (1,)), (6, (1,))):
        with pytest.raises(ValueError, match="lies outside of 96 bytes"):
            part(whole, offset, shape)


def test_a_symbolic_part_is_checked_when_it_is_bound() -> None:
    draft = Draft()
    x = draft.input("x", ("N",))
    draft.registers.append(Register("float32", (16,), Part(x, 64)))
    program = draft.finish(y=1)
    session = Session(bundle_of({"m": program}))
    values = np.arange(40, dtype=np.float32)
    np.testing.assert_array_equal(session.run("m", {"x": values})["y"], values[16:32])
    with pytest.raises(Exception, match="lies outside of 100 bytes"):
        session.run("m", {"x": values[:25]})
    assert program.registers[0].place == Input(0)
