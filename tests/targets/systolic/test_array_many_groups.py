"""Programs of depthwise layers have many tiles that differ in their group alone: still linear."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("numba")

from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import Opcode, empty_instructions
from motet.targets.systolic.instructions.program import Role, SystolicProgram, Tensor
from motet.targets.systolic.simulation.costs import load_values

SIDE = 4


def loads(groups: int) -> SystolicProgram:
    """A 4 x 4 tile of every group, each twice."""
    view = View(0, (groups, SIDE, SIDE), Loop(groups, SIDE * SIDE), (Loop(SIDE, SIDE),),
                (Loop(SIDE, 1),))  # fmt: skip
    made = empty_instructions(2 * groups)
    made["opcode"], made["rows"], made["columns"] = Opcode.LOAD, SIDE, SIDE
    made["operand"] = 0
    made["group"] = np.arange(2 * groups) % groups
    tensors = (Tensor("x", (groups, SIDE, SIDE), Role.INPUT),)
    return SystolicProgram("fp32", made, np.array([0, 2 * groups]), tensors, (view,), ())


def seconds(groups: int) -> float:
    program = loads(groups)
    table, begin = program.view_table, time.process_time()
    values = load_values(program.instructions, table)
    taken = time.process_time() - begin
    assert (values == SIDE * SIDE).all()
    return taken


def test_tiles_of_many_groups_are_looked_up_in_linear_time() -> None:
    """Twenty times the groups took four hundred times as long, 30 seconds and more."""
    seconds(10)
    assert min(seconds(100_000) for _ in range(2)) < 40 * min(seconds(5_000) for _ in range(3)) + 1
