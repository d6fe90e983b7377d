"""docs/SPECIFICATION.md says what the structs say, and its example uses every key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from motet.compiler.spec import BundleSpec, HostOptions
from motet.compiler.spec_file import tomllib
from motet.compiler.spec_reference import keys_of, reference, tables
from motet.compiler.spec_table import from_table, to_table
from motet.runtime.errors import SpecError
from motet.targets.host.machine import machine_for

DOCUMENT = Path(__file__).parents[2] / "docs" / "SPECIFICATION.md"


@pytest.fixture(scope="module")
def example() -> dict[str, object]:
    found = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    assert found
    return tomllib.loads(found[1])


def test_the_document_ends_with_the_tables() -> None:
    assert DOCUMENT.read_text(encoding="utf-8").endswith(f"-->\n\n{reference()}"), (
        "run python -m motet.compiler.spec_reference and put its output at the end"
    )


def test_the_tables_are_those_of_the_specification() -> None:
    assert [path for path, _ in tables()] == [
        "", "models.NAME", "models.NAME.quota", "host", "array", "passes",
        "passes.fold_batch_norm", "passes.fuse", "passes.join_vectors", "passes.layout",
        "passes.merge_depth", "passes.merge_depth.models.NAME", "passes.place", "passes.regions",
        "passes.replace_depthwise", "passes.schedule",
    ]  # fmt: skip


def test_the_example_is_a_specification(example: dict[str, object]) -> None:
    spec = from_table(example)
    assert isinstance(spec, BundleSpec)
    assert from_table(to_table(spec)) == spec


def test_the_example_uses_every_key(example: dict[str, object]) -> None:
    for path, struct in tables():
        here: list[object] = [example]
        for key in path.split(".") if path else ():
            inner = [table for table in here if isinstance(table, dict)]
            here = [v for t in inner for k, v in t.items() if key in ("NAME", k)]
        used = {key for table in here if isinstance(table, dict) for key in table}
        assert {info.name for info in keys_of(struct)} <= used, path


def test_the_cpus_are_those_that_the_host_target_knows() -> None:
    (cpu,) = (info for info in keys_of(HostOptions) if info.name == "cpu")
    with pytest.raises(SpecError) as caught:
        machine_for("none")
    known = str(caught.value).partition("one of ")[2].split(", ")
    assert sorted(get_args(get_args(cpu.type)[0])) == sorted(known)
