from __future__ import annotations

import numpy as np

from motet.compiler.registers import RegisterFile
from motet.compiler.weights import WeightPool
from motet.runtime.program import Constant, Input, Register, Stored, View
from motet.runtime.shapes import evaluate


def test_each_place() -> None:
    file = RegisterFile(WeightPool())
    read = file.input(0, "float32", (2, 3))
    made = file.stored("float16", (2, 3))
    seen = file.view(made, (6,))
    weight = file.constant(np.ones((3,), "int8"))
    assert [file.registers[index] for index in (read, made, seen, weight)] == [
        Register("float32", (2, 3), Input(0)),
        Register("float16", (2, 3), Stored(0)),
        Register("float16", (6,), View(made)),
        Register("int8", (3,), Constant(0)),
    ]
    assert file.storage_bytes == [12]


def test_symbolic_bytes() -> None:
    file = RegisterFile(WeightPool())
    file.stored("int64", ("N", 3))
    file.stored("bool", ())
    assert evaluate(file.storage_bytes[0], {"N": 5}) == 120
    assert file.storage_bytes[1] == 1


def test_a_constant_has_one_register_in_a_program_and_one_number_in_the_bundle() -> None:
    pool = WeightPool()
    one, other = RegisterFile(pool), RegisterFile(pool)
    other.input(0, "float32", (1,))
    array = np.ones(4, "float32")
    assert one.constant(array) == one.constant(array.copy()) == 0
    assert other.constant(array) == 1
    assert other.registers[1].place == Constant(0)
    assert len(pool.arrays) == 1
