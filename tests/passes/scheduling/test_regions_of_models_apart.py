"""Two models in one array program: regions of both that overlap in time are refused.

The checker is asked about programs in which one address was changed, whatever the order in which
the models' steps follow each other, and whether or not the machine happens to order the accesses.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

pytest.importorskip("numba")

from motet.passes.scheduling.shared_programs import united
from motet.runtime.errors import ProgramError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.isa import Opcode
from motet.targets.systolic.instructions.program import Role, SystolicProgram, Tensor
from motet.targets.systolic.mappings.assignment import Assignment, Group
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import MatrixProduct

PODS, SIDE = 2, 32
SIZE = SIDE * SIDE
A1, A2, B1, B2 = range(4)
IN_TURN = (A1, A2, B1, B2)
TOGETHER = ((A1, B1, A2, B2), (A1, B1, B2, A2), (B1, A1, A2, B2), (B1, A1, B2, A2))
"""Orders in which the value that is kept on chip of each model lives while the other's does."""


def array() -> ArrayDescription:
    base = load_architecture("sosa-256x32x32")
    made = msgspec.structs.replace(base.pods[0], count=PODS)
    return msgspec.structs.replace(base, name="sosa-2", pods=(made,))


def chain(width: int) -> Workload:
    """y = (x v) w: what lies between the two products can stay on chip."""
    layer, shape = MatrixProduct(1, width, width, width), (1, width, width)
    tensors = [
        Tensor("x", shape, Role.INPUT),
        Tensor("v", shape, Role.WEIGHT),
        Tensor("w", shape, Role.WEIGHT),
        Tensor("between", shape, Role.INTERNAL),
        Tensor("y", shape, Role.OUTPUT),
    ]
    steps = (Step("first", layer, (0, 1), 3), Step("second", layer, (3, 2), 4))
    return Workload(tuple(tensors), steps)


def program(order: tuple[int, ...], pods: int = 1) -> SystolicProgram:
    """Both models' steps in this order, each on the first pods."""
    both = united(chain(SIDE), chain(SIDE))
    stages = tuple((Group((number,), range(pods)),) for number in order)
    return compile_workload(both, array(), "int8", None, Assignment(stages)).program


def kept(made: SystolicProgram) -> list[int]:
    """The numbers of the tensors on chip, one of each model."""
    found = [n for n, tensor in enumerate(made.tensors) if tensor.resident is not None]
    assert len(found) == 2
    return found


def moved(made: SystolicProgram, number: int, address: int) -> SystolicProgram:
    """The program with tensor ``number`` at ``address``, for all that use it."""
    tensors = list(made.tensors)
    tensors[number] = replace(tensors[number], resident=address)
    return SystolicProgram(
        made.format, made.instructions, made.queue_starts, tuple(tensors), made.views, made.steps
    )


@pytest.mark.parametrize("pods", [1, PODS])
@pytest.mark.parametrize("order", TOGETHER)
def test_regions_that_overlap_in_time_are_refused(order: tuple[int, ...], pods: int) -> None:
    """The whole region, and its last 64 words."""
    made = program(order, pods)
    one, other = kept(made)
    check_program(made, array())
    for number, onto in ((one, other), (other, one)):
        start = made.tensors[onto].resident or 0
        for address in (start, start - SIZE + 64):
            with pytest.raises(ProgramError, match=r"has put something else|also used by"):
                check_program(moved(made, number, address), array())


def test_regions_one_after_the_other_may_be_the_same() -> None:
    """The second model begins when the first has ended: the planner gives it the same words."""
    made = program(IN_TURN)
    one, other = kept(made)
    assert made.tensors[one].resident == made.tensors[other].resident
    check_program(made, array())


def test_a_tile_of_one_model_in_the_region_of_the_other_is_refused() -> None:
    """The region moved to where the other model's second product loads its tiles meanwhile."""
    made = program((A1, B1, B2, A2))
    code = made.instructions
    loads = code[(code["opcode"] == Opcode.LOAD) & (code["step"] == B2)]
    region = kept(made)[0]
    for address in {*loads["address"].tolist()}:
        with pytest.raises(ProgramError, match=r"has put something else|also used by"):
            check_program(moved(made, region, address), array())
