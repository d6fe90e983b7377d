"""Parts of tensors: splits and concatenations without a copy, through plan and program."""

import numpy as np
import pytest
from array_emission import machine
from hypothesis import given, settings
from hypothesis import strategies as st
from test_array_spatial import convolved

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.mappings.line_plan import (
    along,
    joined_rows,
    joined_width,
    line_cycles,
)
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Convolution, Elementwise
from motet.targets.systolic.workload.parts import Part, whole_view


def halves(channels, side, stride):
    """A copy of the image; 1x3 of its first half and 3x1 of the other; a 1x1 of both."""
    each = channels // 2
    row, column = (
        Convolution(1, each, each, each, side, side, kernel, (stride, stride), padding)
        for kernel, padding in (((1, 3), (0, 1, 0, 1)), ((3, 1), (1, 0, 1, 0)))
    )
    size = row.out_size[0]
    last = Convolution(1, channels, 5, 1, size, size, (1, 1))
    image = (1, channels, side, side)
    tensors = (
        Tensor("x", image, Role.INPUT),
        Tensor("row", row.weight_shape, Role.WEIGHT),
        Tensor("column", column.weight_shape, Role.WEIGHT),
        Tensor("last", last.weight_shape, Role.WEIGHT),
        Tensor("copy", image, Role.INTERNAL),
        Tensor("first", row.input_shape, Role.INTERNAL),
        Tensor("second", row.input_shape, Role.INTERNAL),
        Tensor("both", last.input_shape, Role.INTERNAL),
        Tensor("left", row.output_shape, Role.INTERNAL),
        Tensor("right", row.output_shape, Role.INTERNAL),
        Tensor("y", last.output_shape, Role.OUTPUT),
    )
    steps = (
        Step("in", Elementwise("identity", image), (0,), 4),
        Step("row", row, (5, 1), 8),
        Step("column", column, (6, 2), 9),
        Step("out", last, (7, 3), 10),
    )
    parts = (
        Part(5, 4, 0),
        Part(6, 4, each * side**2),
        Part(8, 7, 0),
        Part(9, 7, each * size**2),
    )
    return Workload(tensors, steps, parts)


def expected_of(made, x, row, column, last):
    each = x.shape[1] // 2
    parts = [
        convolved(made.steps[1].layer, x[:, :each], row),
        convolved(made.steps[2].layer, x[:, each:], column),
    ]
    return np.einsum("oc,bchw->bohw", last[:, :, 0, 0], np.concatenate(parts, axis=1))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([2, 6, 8]),
    st.integers(3, 9),
    st.integers(1, 2),
    st.sampled_from([1, 2]),
    st.sampled_from([4096, 65536]),
)
def test_halves_are_split_and_joined(channels, side, stride, pods, scratchpad):
    """Resident in the larger scratchpad, in DRAM in the smaller one."""
    workload = halves(channels, side, stride)
    array = machine(pods=pods, scratchpad=scratchpad, sums=2048)
    compiled = compile_workload(workload, array)
    check_program(compiled.program, array)
    if scratchpad > 4096:
        assert {4, 7} <= compiled.plan.resident.keys()
        offset = channels // 2 * side**2
        assert compiled.plan.resident[6].address == compiled.plan.resident[4].address + offset
    rng = np.random.default_rng(side)
    arguments = [
        rng.standard_normal(compiled.program.tensors[i].shape).astype(np.float32)
        for i in compiled.program.arguments
    ]
    (result,) = compiled.program.results
    made = np.zeros(compiled.program.tensors[result].shape, np.float32)
    Interpreter(compiled.program).run(arguments, [made])
    np.testing.assert_allclose(made, expected_of(workload, *arguments), rtol=1e-4, atol=1e-5)


def test_a_whole_is_there_when_all_its_parts_are():
    workload = halves(4, 4, 1)
    with pytest.raises(CompileError, match=r"'out' is out of order"):
        Workload(workload.tensors, (*workload.steps[:2], workload.steps[3]), workload.parts)


def test_parts_that_overlap_are_refused():
    workload = halves(4, 4, 1)
    parts = (*workload.parts[:3], Part(9, 7, 1))
    with pytest.raises(CompileError, match=r"'column' .* writes a known tensor"):
        Workload(workload.tensors, workload.steps, parts)


@pytest.mark.parametrize(
    "part",
    [Part(9, 7, 33), Part(9, 7, -1), Part(9, 8, 0), Part(8, 7, 0), Part(10, 7, 0)],
    ids=["beyond", "before", "of a part", "twice", "an output"],
)
def test_what_is_no_part(part):
    workload = halves(4, 4, 1)
    with pytest.raises(CompileError, match="cannot be a part of tensor"):
        Workload(workload.tensors, workload.steps, (*workload.parts[:3], part))


def test_padding_cannot_begin_inside_an_image():
    whole = Tensor("whole", (1, 4, 3, 3), Role.INTERNAL)
    loops = Loop(1, 0), (Loop(5, 5),), (Loop(3, 1),)
    padded = View(1, (1, 1, 3, 3), *loops, padding=(1, 1, 1, 1))
    made = whole_view(padded, Part(1, 0, 18), whole)
    assert (made.tensor, made.shape, made.offset) == (0, (4, 3, 3), 2 * 25)
    with pytest.raises(CompileError, match="begins inside an image"):
        whole_view(padded, Part(1, 0, 10), whole)


@pytest.mark.parametrize("kernel", [(1, 3), (3, 1), (3, 3)])
def test_rows_are_joined_where_lines_are_short(kernel):
    """14 positions fill a quarter of 64 columns; a fold takes 64 cycles all the same."""
    padding = tuple(2 * [size // 2 for size in kernel])
    layer = Convolution(1, 512, 512, 512, 14, 14, kernel, padding=padding)
    lines, _ = along(layer, 64, 64)
    joined = joined_rows(lines, 64, 64, 262144)
    assert joined_width(lines, joined) == (joined - 1) * 16 + 14
    single = line_cycles(lines, 64, 64)
    assert line_cycles(lines, 64, 64, joined) < single * (0.32 if min(kernel) == 1 else 0.95)
