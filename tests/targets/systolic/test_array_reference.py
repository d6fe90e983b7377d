"""docs/ARRAY.md says what the code says: keys, instructions, and the example's figures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from motet.runtime.errors import SpecError
from motet.targets.systolic.codegen import compile_layer
from motet.targets.systolic.description import ArrayDescription, load_description
from motet.targets.systolic.isa import INSTRUCTION, NO_OPERAND, Opcode
from motet.targets.systolic.layers import MatrixProduct
from motet.targets.systolic.timing import layer_counts

TEXT = (Path(__file__).parents[3] / "docs" / "ARRAY.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```toml\n(.*?)```", TEXT, re.S)


def rows_of(heading):
    """The cells of the first tables under a heading, without code marks."""
    section = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    return [[cell.replace("`", "").strip() for cell in row] for row in rows]


@pytest.fixture
def array(tmp_path):
    path = tmp_path / "my_array.toml"
    path.write_text(EXAMPLE[1])
    return load_description(path)


def test_every_key_of_a_description_has_a_row():
    (_, *rows) = rows_of("Description")
    assert [row[0] for row in rows] == list(ArrayDescription.__struct_fields__)


@pytest.mark.parametrize("key", ["scratchpad_bytes", "accumulator_bytes"])
def test_the_least_memory_is_what_the_table_says(tmp_path, key):
    least = {"scratchpad_bytes": 8 * 16 * (16 + 16), "accumulator_bytes": 8 * 16 * 16}[key]
    path = tmp_path / "array.toml"
    path.write_text(re.sub(rf"{key} = .*", f"{key} = {least}", EXAMPLE[1]))
    load_description(path)
    path.write_text(re.sub(rf"{key} = .*", f"{key} = {least - 1}", EXAMPLE[1]))
    with pytest.raises(SpecError, match=f"at least {least}"):
        load_description(path)


def test_every_opcode_has_a_row():
    rows = [row for row in rows_of("Instructions") if len(row) == 4 and row[1].isupper()]
    assert [(int(row[0]), row[1]) for row in rows] == [(op.value, op.name) for op in Opcode]
    assert f"`operand` is {NO_OPERAND}" in TEXT


def test_every_field_of_an_instruction_has_a_row():
    rows = [row for row in rows_of("Instructions") if re.fullmatch("[uf][24]", row[2])]
    said = [(int(byte), name, np.dtype(f"<{kind}")) for byte, name, kind, _ in rows]
    fields = INSTRUCTION.fields
    assert said == [(fields[name][1], name, fields[name][0]) for name in INSTRUCTION.names]
    assert f"A record has {INSTRUCTION.itemsize} bytes" in TEXT


def test_the_figures_of_the_example(array):
    counts = layer_counts(compile_layer(MatrixProduct(1, 100, 64, 64), array), array)
    assert counts.tiles == 16
    assert f"{counts.cycles} cycles for {counts.macs:,} multiply-accumulates" in TEXT
    assert f"a utilisation of {100 * counts.utilisation:.1f} %" in TEXT
    moved = counts.dram_read_bytes + counts.dram_write_bytes
    assert f"moves {moved:,} bytes, which takes {counts.dram_cycles} cycles" in TEXT
