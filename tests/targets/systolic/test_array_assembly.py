"""The assembly language: exact round trips, readable lines, errors with line and remedy."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import ProgramError
from motet.targets.systolic.instructions.assembly import (
    assemble,
    disassemble,
    disassembled_lines,
    instruction_text,
)
from motet.targets.systolic.instructions.encoding import encode
from motet.targets.systolic.instructions.isa import (
    INSTRUCTION,
    Activation,
    Dataflow,
    Flag,
    Function,
    Instructions,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.instructions.program import Role, SystolicProgram, Tensor

EXAMPLE = """\
; a comment
format int8
pods 2
tensor 0 "x; \\"y\\"" input word 1x3x8x8   ; with a comment
tensor 1 "größe" weight fp32 scalar
tensor 2 "" internal word 4x16 resident=@512
view 0 tensor=0 shape=3x8x8 group=1:0 rows=2:8,4:-1 columns=3:64 padding=1,1,1,1 offset=-9
step 0 "conv+relu" "Convolution" macs=192 dataflow="weight-stationary" pods=1

pod 0 load:
  load view=0 row=0 col=0 to=@16 rows=8 cols=3 targets=2
  signal
pod 1 array:   ; the other pod
  wait queue=0.load count=1
  matmul ws in=@16 w=@4096 acc=@0 rows=8 depth=3 cols=4 +acc step=3
pod 1 vector:
  vector requantise vector=@32 acc=@0 rows=8 cols=4 value=7 act=leaky_relu alpha=0.1 low=0.0
"""


def program_of(instructions: Instructions, starts: list[int]) -> SystolicProgram:
    tensors = (Tensor("x", (2,), Role.INPUT),)
    return SystolicProgram("fp32", instructions, np.array(starts, np.int64), tensors, ())


@given(st.binary(max_size=20 * 76), st.integers(0, 20), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_any_records_survive(raw: bytes, first: int, second: int) -> None:
    """Also records that break every rule, NaNs and codes that nobody knows."""
    instructions = np.frombuffer(raw[: len(raw) // 76 * 76], INSTRUCTION)
    count = len(instructions)
    bounds = sorted([min(first, count), min(second, count)])
    program = program_of(instructions, [0, *bounds, count, count])
    made = assemble(disassemble(program))
    assert made.instructions.tobytes() == instructions.tobytes()
    assert made.queue_starts.tolist() == program.queue_starts.tolist()


CODES = {"opcode": Opcode, "function": Function, "activation": Activation, "dataflow": Dataflow}


@given(
    st.lists(
        st.fixed_dictionaries(
            {name: st.sampled_from(codes).map(int) for name, codes in CODES.items()},
            optional={
                "flags": st.integers(0, 31),
                "address": st.integers(0, 2**32 - 1),
                "value": st.integers(0, 2**32 - 1),
                "alpha": st.floats(width=32),
                "low": st.sampled_from([0.0, -0.0, -np.inf, np.inf, 1e-45]),
                "semaphore": st.integers(0, 9),
                "pod": st.integers(0, 2),
            },
        )
    )
)
@settings(max_examples=100, deadline=None)
def test_instructions_of_every_kind_survive(fields: list[dict[str, float]]) -> None:
    instructions = empty_instructions(len(fields))
    for record, values in zip(instructions, fields, strict=True):
        for name, value in values.items():
            record[name] = value
    program = program_of(instructions, [0, 0, 0, len(fields), len(fields)])
    assert assemble(disassemble(program)).instructions.tobytes() == instructions.tobytes()


def test_text_of_the_example() -> None:
    program = assemble(EXAMPLE)
    assert program.pods == 2
    assert program.tensors[0].name == 'x; "y"'
    assert program.tensors[1].shape == ()
    assert program.tensors[2].resident == 512
    assert program.views[0].offset == -9
    assert program.views[0].rows[1].stride == -1
    assert program.steps[0].macs == 192
    matmul = program.instructions[program.instructions["opcode"] == Opcode.MATMUL][0]
    assert matmul["second_address"] == 4096
    assert matmul["flags"] == Flag.ACCUMULATE
    assert matmul["dataflow"] == Dataflow.WEIGHT_STATIONARY
    assert matmul["pod"] == 1
    assert matmul["step"] == 3
    vector = program.instructions[-1]
    assert (vector["alpha"], vector["low"], vector["high"]) == (np.float32(0.1), 0, np.inf)
    again = assemble(disassemble(program))
    assert encode(again) == encode(program)


def test_lines_are_as_documented() -> None:
    made = assemble(EXAMPLE)
    lines = [line.strip() for line in disassembled_lines(made)]
    for line in EXAMPLE.split("\n"):
        content = line.strip()
        if content and ";" not in content:
            assert content in lines
    matmul = made.instructions[made.instructions["opcode"] == Opcode.MATMUL][0]
    assert instruction_text(matmul) == (
        "matmul ws in=@16 w=@4096 acc=@0 rows=8 depth=3 cols=4 +acc step=3"
    )
    assert "pod=1" in instruction_text(matmul, pod=0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format int8", "format int9", "line 2.*format"),
        ("tensor 1", "tensor 7", "line 5.*number 1"),
        ("weight fp32", "weight fp99", "line 5.*fp32"),
        ("scalar", "1x1x1x1x1x1x1x1x1", "line 5.*8 axes"),
        ("rows=2:8,4:-1", "rows=2", "line 7.*not a number"),
        ("rows=2:8,4:-1", "", "line 7.*rows= is missing"),
        ("tensor=0", "tensor=9", "line 7.*0 to 2"),
        ("macs=192", "mac=192", "line 8.*macs"),
        ("pod 0 load:", "pod 0 loads:", "line 10.*load, array, vector, store"),
        ("pod 0 load:", "pod 0 load", "line 10.*label"),
        ("signal", "signl", "line 12.*unknown instruction"),
        ("in=@16", "into=@16", "line 15.*has no 'into'"),
        ("in=@16", "in=@4294967296", "line 15.*does not fit"),
        ("depth=3", "depth=-3", "line 15.*does not fit"),
        ("+acc", "+ac", "line 15.*unknown word"),
        ("act=leaky_relu", "act=relu7", "line 17.*not a value"),
        ("alpha=0.1", "alpha=1e99", "line 17.*not a value"),
        ('step 0 "conv+relu"', 'step 0 "conv+relu', "line 8.*quotation"),
    ],
)
def test_mistakes_name_line_and_remedy(old: str, new: str, message: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(ProgramError, match=message):
        assemble(EXAMPLE.replace(old, new, 1))


def test_a_program_without_format_is_refused() -> None:
    with pytest.raises(ProgramError, match="format"):
        assemble("pods 1\n")


def test_fifty_thousand_instructions_take_a_second() -> None:
    instructions = empty_instructions(50_000)
    index = np.arange(len(instructions))
    instructions["opcode"] = Opcode.MATMUL
    instructions["dataflow"] = Dataflow.WEIGHT_STATIONARY
    for name in ("address", "second_address", "accumulator_address", "rows", "columns", "depth"):
        instructions[name] = index % 977
    program = program_of(instructions, [0, 0, len(index), len(index), len(index)])
    begin = time.process_time()
    text = disassemble(program)
    made = assemble(text)
    assert time.process_time() - begin < 4
    assert made.instructions.tobytes() == instructions.tobytes()
