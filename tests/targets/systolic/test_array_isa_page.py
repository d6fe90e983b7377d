"""docs/ARRAY_ISA.md says what isa.py, the assembler and the encoding do."""

from __future__ import annotations

import enum
import re
import struct
from pathlib import Path

import pytest

from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.formats import FORMATS, VECTOR_CODE
from motet.targets.systolic.instructions import encoding
from motet.targets.systolic.instructions.assembly import assemble, disassemble
from motet.targets.systolic.instructions.assembly_words import DATAFLOWS, FLAGS, keys
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.isa import (
    DATAFLOW_NAMES,
    ENGINE_OF,
    INSTRUCTION,
    Activation,
    Dataflow,
    Engine,
    Flag,
    Function,
    Opcode,
    empty_instructions,
)

PAGE = (Path(__file__).parents[3] / "docs" / "ARRAY_ISA.md").read_text()


def table(header: str) -> list[list[str]]:
    """The cells of the table whose first line begins with ``header``."""
    lines = PAGE.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(header))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


@pytest.mark.parametrize(
    ("header", "codes"),
    [
        ("| opcode | name |", Opcode),
        ("| code | word | d becomes", Function),
        ("| code | word | value of x", Activation),
    ],
)
def test_codes(header: str, codes: type[enum.IntEnum]) -> None:
    assert [(int(row[0]), row[1]) for row in table(header)] == [
        (int(code), code.name.lower()) for code in codes
    ]


def test_flags_and_dataflows() -> None:
    flags = [(int(row[0]), row[1], row[2].split(":")[0]) for row in table("| bit | word |")]
    assert flags == [(int(flag), word, flag.name) for word, flag in FLAGS.items()]
    assert len(flags) == len([flag for flag in Flag if flag])
    flows = {row[1]: (int(row[0]), row[2]) for row in table("| code | word | name |")}
    assert flows == {
        word: (int(code), next(name for name, known in DATAFLOW_NAMES.items() if known == code))
        for word, code in DATAFLOWS.items()
    }
    assert len(flows) == len(Dataflow) - 1


def test_engines() -> None:
    rows = table("| engine | number |")
    assert [(row[0], int(row[1])) for row in rows] == [(e.name.lower(), int(e)) for e in Engine]
    for row, engine in zip(rows, Engine, strict=True):
        names = {opcode.name.lower() for opcode, own in ENGINE_OF.items() if own is engine}
        assert set(row[2].split(", ")) == names


def test_record() -> None:
    rows = table("| offset | bytes | type | field |")
    expected = []
    for name in INSTRUCTION.names or ():
        kind, offset = (INSTRUCTION.fields or {})[name][:2]
        expected.append([str(offset), str(kind.itemsize), f"{kind.kind}{kind.itemsize}", name])
    assert rows == expected
    assert f"{INSTRUCTION.itemsize} bytes, little-endian" in PAGE
    blank = empty_instructions(1)[0]
    assert (blank["operand"], blank["target_pods"]) == (65535, 1)


def test_operands_that_instructions_name_are_fields() -> None:
    for row in table("| opcode | name |"):
        for name in re.findall(r"`(\w+)`", row[2]):
            assert name in keys(int(row[0])), (row[1], name)


def test_file() -> None:
    rows = table("| offset | type | content |")
    program = assemble(example())
    data = encoding.encode(program)
    assert rows[1][2] == f"version, {encoding.VERSION}"
    assert [int(row[0]) for row in rows] == [0, 8, 10, 12, 16, 36, 44]
    codes = [f"{f.code} {f.name}" for f in FORMATS.values()]
    assert rows[2][2] == "number format: " + ", ".join([*codes, f"{VECTOR_CODE} vectors"])
    _, version, code, _, *counts, body, stored = struct.unpack_from("<8sHHI5IQQ", data)
    assert (version, code) == (encoding.VERSION, FORMATS["int8"].code)
    assert counts == [len(program.instructions), 4, 4, 4, 1]
    assert f"begins with {len(data) - stored} bytes" in PAGE
    assert body > stored


def example() -> str:
    found = re.search(r"```asm\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_example_runs_and_reads_as_written() -> None:
    program = assemble(example())
    check_program(program, load_architecture("tiny-4x4"))
    written = [line.split(";")[0].strip() for line in example().split("\n")]
    made = [line.strip() for line in disassemble(program).split("\n")]
    assert [line for line in made if line] == [line for line in written if line]
