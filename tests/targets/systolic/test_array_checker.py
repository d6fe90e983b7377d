"""The checker: accepts legal programs, refuses broken ones with the instruction and the remedy."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import pytest
from array_illegal_programs import mutations, why_illegal
from array_random_programs import description, random_program
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import ProgramError
from motet.targets.systolic.architecture import ArrayDescription, Dram, Memory, Pod, VectorUnit
from motet.targets.systolic.instructions.assembly import assemble
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.isa import INSTRUCTION, Opcode
from motet.targets.systolic.instructions.rules import check_rules, check_tables

FORMATS = ("int8", "fp32", "bf16", "int4")


def refusal(program: Any, machine: ArrayDescription) -> str:
    try:
        check_program(program, machine)
    except ProgramError as error:
        return str(error)
    return ""


def breaks_static_rules(program: Any, machine: ArrayDescription) -> bool:
    if check_tables(program, machine):
        return True
    try:
        check_rules(program, machine, lambda i, text: ProgramError(f"{i}: {text}"))
    except ProgramError:
        return True
    return False


@given(st.integers(0, 2**32), st.sampled_from(FORMATS), st.integers(1, 80))
@settings(max_examples=25, deadline=None)
def test_random_legal_programs_are_accepted(seed: int, number_format: str, length: int) -> None:
    program = random_program(np.random.default_rng(seed), number_format, length)
    check_program(program, description(number_format))


def compare_with_brute_force(seeds: range) -> collections.Counter[tuple[bool, str]]:
    """Every pair of accesses is looked at: no race is missed, and none is invented."""
    verdicts: collections.Counter[tuple[bool, str]] = collections.Counter()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        number_format = FORMATS[seed % len(FORMATS)]
        small = description(number_format)
        program = random_program(rng, number_format, int(rng.integers(10, 60)))
        assert not why_illegal(program)
        for number, broken in enumerate(mutations(rng, program)):
            if breaks_static_rules(broken, small):
                continue
            expected, found = why_illegal(broken), refusal(broken, small)
            assert bool(expected) == bool(found), (seed, number, expected, found)
            verdicts[bool(found), "race" if "race" in expected else ""] += 1
    return verdicts


def test_verdicts_are_those_of_brute_force() -> None:
    verdicts = compare_with_brute_force(range(12))
    assert sum(count for (bad, _), count in verdicts.items() if bad) >= 8
    assert sum(count for (bad, _), count in verdicts.items() if not bad) >= 8
    assert verdicts[True, "race"] >= 3


@pytest.mark.slow
def test_many_verdicts_are_those_of_brute_force() -> None:
    verdicts = compare_with_brute_force(range(1000, 1400))
    assert verdicts[True, "race"] >= 200


LAYER = """\
format int8
pods 2
tensor 0 "x" input word 8x3
tensor 1 "w" weight word 3x4
tensor 2 "y" output word 8x4
tensor 3 "scale" weight fp32 4
tensor 4 "kept" internal word 8x4 resident=@128
tensor 5 "between" internal word 8x4
view 0 tensor=0 shape=8x3 group=1:0 rows=8:3 columns=3:1
view 1 tensor=1 shape=3x4 group=1:0 rows=3:4 columns=4:1
view 2 tensor=2 shape=8x4 group=1:0 rows=8:4 columns=4:1
view 3 tensor=3 shape=4 group=1:0 rows=1:0 columns=4:1
view 4 tensor=4 shape=8x4 group=1:0 rows=8:4 columns=4:1
view 5 tensor=5 shape=8x4 group=1:0 rows=8:4 columns=4:1
view 6 tensor=5 shape=8x4 group=1:0 rows=10:6 columns=4:1 padding=1,1,1,1
step 0 "conv+relu" "Convolution" macs=96 dataflow="weight-stationary" pods=1

pod 0 load:
  load view=0 row=0 col=0 to=@16 rows=8 cols=3 targets=2
  load view=1 row=0 col=0 to=@64 rows=3 cols=4
  load view=3 row=0 col=0 acc=@64 rows=1 cols=4 +accumulators
  signal
  wait queue=0.store count=1
  load view=5 row=0 col=0 to=@64 rows=8 cols=4
pod 0 array:
  wait queue=0.load count=1
  matmul ws in=@16 w=@64 acc=@0 rows=8 depth=3 cols=4
  signal
pod 0 vector:
  wait queue=0.array count=1
  vector requantise vector=@64 acc=@0 rows=8 cols=4 low=0.0
  signal
  wait queue=0.store count=1
  vector add view=4 row=0 col=0 acc=@0 rows=8 cols=4 alpha=1.0 +resident
  signal
pod 0 store:
  wait queue=0.vector count=1
  transfer view=4 row=0 col=0 acc=@0 rows=8 cols=4
  store view=5 row=0 col=0 acc=@0 rows=8 cols=4
  signal
  wait queue=0.vector count=2
  store view=2 row=0 col=0 acc=@0 rows=8 cols=4
"""


def machine(**changes: Any) -> ArrayDescription:
    pod = {
        "count": 2,
        "rows": 8,
        "columns": 4,
        "formats": ("int8",),
        "scratchpad": Memory(bytes=256),
        "accumulators": Memory(bytes=4 * 80),
        "vector": VectorUnit(lanes=4),
    }
    return ArrayDescription(
        name="small",
        clock_hz=1e9,
        pods=(Pod(**{**pod, **changes}),),
        dram=Dram(bytes_per_second=1e9),
    )


def test_layer_is_accepted() -> None:
    check_program(assemble(LAYER), machine())


REFUSED = {
    # instructions by themselves
    "vector requantise": ("vector column_add act=gelu", "0.vector, instruction 1.*float formats"),
    "matmul ws": ("matmul os", "offers no such dataflow"),
    "matmul ws in": ("matmul in", "dataflow is not one"),
    "rows=8 depth=3 cols=4": ("rows=8 depth=3 cols=4 +accumulators", "mean nothing"),
    "depth=3 cols=4": ("depth=3 cols=4 +acc +bias", "not from both"),
    "low=0.0": ("low=1.0 high=0.0", "limits"),
    "low=0.0\n": ("low=0.0 reserved=1\n", "reserved"),
    "depth=3": ("depth=0", "empty"),
    "matmul ws in=@16 w=@64 acc=@0 rows=8 depth=3": (
        "matmul ws in=@16 w=@64 acc=@0 rows=8 depth=9",
        "does not fit the 8x4 array",
    ),
    "alpha=1.0": ("alpha=0.5", "alpha must be 1"),
    "cols=4 low": ("cols=4 pod=1 low", "not that of its queue"),
    "pod 0 vector:\n": ("pod 0 vector:\n  store view=2 rows=1 cols=1\n", "another engine"),
    "targets=2": ("targets=3", "target pods"),
    "queue=0.load": ("queue=7.load", "waits for a queue"),
    # operands
    "view=0 row=0": ("view=9 row=0", "names no view"),
    "w=@64 acc": ("w=@64 view=0 acc", "must be NO_OPERAND"),
    "rows=8 cols=3": ("rows=8 cols=4", "leaves its view of 1 groups of 8x3"),
    "load view=0": ("load view=2", "reads value 0 of tensor 2 .'y'., which nothing wrote"),
    "store view=5": ("store view=1", "leaves its view|writes an input"),
    "store view=2": ("store view=4", "resident"),
    "transfer view=4": ("transfer view=5", "lies in DRAM"),
    "cols=4 +accumulators": ("cols=4", "holds words"),
    "store view=5 row=0": ("store view=6 row=0", "writes through padding"),
    # addresses
    "to=@16": ("to=@250", "tile in the scratchpad leaves"),
    "w=@64": ("w=@250", "weight tile"),
    "in=@16": ("in=@4294967295", "input tile"),
    "acc=@64": ("acc=@77", "tile in the accumulators"),
    "vector=@64": ("vector=@77", "vector leaves"),
    "vector=@64 acc=@0": ("vector=@3 acc=@0", "overlaps"),
    # tables
    "resident=@128": ("resident=@250", "leaves the scratchpad"),
    "rows=8:4 columns=4:1\nview 3": ("rows=8:4 columns=4:-1\nview 3", "reaches values -3"),
    "rows=10:6": ("rows=11:6", "reaches values 0 to 63"),
    "shape=3x4": ("shape=4x4", "more values than the 12"),
    "macs=96": ("macs=97", "claims 97"),
    # all together
    "to=@64 rows=3": ("to=@65 rows=3", "0.array, instruction 1.*word 64 .*nothing wrote"),
    "  wait queue=0.array count=1\n": ("", "0.vector, instruction 0.*nothing orders"),
    "  wait queue=0.vector count=2\n": ("", "nothing orders"),
    "0.vector count=2": ("0.vector count=3", "gives 2"),
    "store view=5 row=0 col=0 acc=@0 rows=8": (
        "store view=5 row=0 col=0 acc=@0 rows=7",
        "value 28 of tensor 5 .'between'.*nothing wrote",
    ),
    "store view=2 row=0 col=0 acc=@0 rows=8": (
        "store view=2 row=0 col=0 acc=@0 rows=7",
        "no store writes value 28 of the output 'y'",
    ),
    "store view=2 row=0 col=0": (
        "store view=2 row=0 col=0 acc=@0 rows=1 cols=1\n  store view=2 row=0 col=0",
        "0.store, instruction 6.*already written",
    ),
    "pod 0 load:\n": (
        "pod 0 load:\n  wait queue=0.array count=1\n",
        "wait for each other: .*0.load, instruction 0.*0.array, instruction 0",
    ),
}


@pytest.mark.parametrize("old", list(REFUSED))
def test_each_rule_names_the_instruction(old: str) -> None:
    new, message = REFUSED[old]
    assert old in LAYER
    with pytest.raises(ProgramError, match=message):
        check_program(assemble(LAYER.replace(old, new, 1)), machine())


def test_machines_that_do_not_fit_the_program() -> None:
    program = assemble(LAYER)
    with pytest.raises(ProgramError, match="computes in fp32, not int8"):
        check_program(program, machine(formats=("fp32",)))
    with pytest.raises(ProgramError, match="2 pods, small has 1"):
        check_program(program, machine(count=1))
    with pytest.raises(ProgramError, match="offers no such dataflow"):
        check_program(program, machine(dataflows=("output-stationary",)))
    with pytest.raises(ProgramError, match="scratchpad"):
        check_program(program, machine(scratchpad=Memory(bytes=64)))


def test_unknown_codes_are_refused() -> None:
    for field, value in (("opcode", 99), ("function", 99), ("activation", 99), ("flags", 64)):
        program = assemble(LAYER)
        program.instructions[field][7] = value
        with pytest.raises(ProgramError, match=r"array, instruction 1 "):
            check_program(program, machine())


def test_queues_that_are_no_slices_are_refused() -> None:
    program = assemble(LAYER)
    for starts in (program.queue_starts[:-1], program.queue_starts + 1, program.queue_starts[::-1]):
        with pytest.raises(ProgramError, match="queue_starts"):
            check_program(dataclasses.replace(program, queue_starts=starts), machine())


def test_a_resident_value_read_at_another_place_is_a_race() -> None:
    """Cells are exact: the word next to a tile is another one."""
    load = "load view=0 row=0 col=0 to=@{} rows=1 cols=1"
    other = LAYER.replace("pod 0 load:\n", f"pod 0 load:\n  {load}\n")
    check_program(assemble(other.format(127)), machine())
    check_program(assemble(other.format(160)), machine())
    for word in (128, 159):
        late = f"{LAYER}pod 1 load:\n  {load} target=0\n"
        with pytest.raises(ProgramError, match=f"word {word} of the scratchpad of pod 0.*orders"):
            check_program(assemble(late.format(word)), machine())


def test_empty_programs_are_fine_where_nothing_is_asked() -> None:
    text = 'format int8\npods 0\ntensor 0 "x" input word 3\n'
    program = assemble(text)
    assert program.instructions.dtype == INSTRUCTION
    check_program(program, machine())
    with pytest.raises(ProgramError, match="no store writes value 0"):
        check_program(assemble(text.replace("input", "output")), machine())


def test_random_programs_use_everything() -> None:
    used: set[int] = set()
    for seed in range(8):
        program = random_program(np.random.default_rng(seed), "int8", 80)
        used |= {int(opcode) for opcode in program.instructions["opcode"]}
    assert used == {int(opcode) for opcode in Opcode}


def test_a_value_written_twice_by_one_tile_is_refused() -> None:
    """Views whose loops meet an address twice may be read, not written."""
    for number, kind in ((2, "tensor 2"), (4, "word 128")):
        loops = f"view {number} tensor={number} shape=8x4 group=1:0 rows=8:"
        twice = LAYER.replace(f"{loops}4 columns=4:1", f"{loops}0 columns=4:1")
        with pytest.raises(ProgramError, match=f"writes .*{kind}.* twice"):
            check_program(assemble(twice), machine())


CHAIN = """\
format int8
pods 2
tensor 0 "x" input word 1x1
view 0 tensor=0 shape=1x1 group=1:0 rows=1:0 columns=1:0

pod 0 load:
{loads}
pod 0 store:
{moves}
pod 1 load:
  wait queue=0.store count={last}
  load view=0 row=0 col=0 to=@0 rows=1 cols=1 target=1
"""


def test_many_signals_that_are_awaited_late() -> None:
    """More clocks are kept at once than there is room for at first; knowledge is passed on."""
    count = 200
    loads = "\n".join(
        f"  load view=0 row=0 col=0 to=@{i} rows=1 cols=1\n  signal" for i in range(count)
    )
    moves = "\n".join(
        f"  wait queue=0.load count={i + 1}\n"
        f"  transfer from=@{i} to=@{i} rows=1 cols=1 target=1\n  signal"
        for i in range(count)
    )
    check_program(assemble(CHAIN.format(loads=loads, moves=moves, last=1)), machine())
    late = moves.replace("count=150\n", "count=149\n")
    with pytest.raises(ProgramError, match=r"0\.store, instruction 448 .*word 149 .*orders"):
        check_program(assemble(CHAIN.format(loads=loads, moves=late, last=1)), machine())
    unordered = CHAIN.replace("  wait queue=0.store count={last}\n", "")
    with pytest.raises(ProgramError, match=r"1\.load, instruction 0 .*word 0 .* of pod 1"):
        check_program(assemble(unordered.format(loads=loads, moves=moves)), machine())


def test_knowledge_passes_through_a_third_queue() -> None:
    """0.load, 0.store, 1.load: the last knows what the second knew of the first."""
    text = CHAIN.format(
        loads="  load view=0 row=0 col=0 to=@0 rows=1 cols=1 targets=2\n  signal",
        moves="  wait queue=0.load count=1\n  signal",
        last=1,
    )
    check_program(assemble(text), machine())
    with pytest.raises(ProgramError, match=r"1\.load, instruction 1 .*nothing orders"):
        check_program(assemble(text.replace("  wait queue=0.load count=1\n", "")), machine())
