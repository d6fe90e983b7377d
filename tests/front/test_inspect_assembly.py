"""``motet inspect --asm``: the text of array programs, which assembles to the same programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from front_outcome import Motet

import motet
from motet.targets.systolic.instructions.assembly import assemble
from motet.targets.systolic.instructions.encoding import encode


@pytest.fixture(scope="module")
def bundle(models: Path) -> Path:
    made = motet.compile([models / "layers.onnx", models / "affine.onnx"], target="tiny-4x4")
    return made.save(models / "assembly.motet")


def programs(text: str) -> dict[str, str]:
    """The text of each program under its name."""
    parts = text.split("; ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def test_the_text_assembles_to_the_bundles_programs(run_motet: Motet, bundle: Path) -> None:
    outcome = run_motet("inspect", bundle, "--asm")
    assert (outcome.code, outcome.err) == (0, "")
    known = motet.load(bundle).bundle.array_programs
    found = programs(outcome.out)
    assert found.keys() == known.keys()
    for name, text in found.items():
        assert encode(assemble(text)) == known[name]


def test_one_program_by_the_beginning_of_its_name(run_motet: Motet, bundle: Path) -> None:
    every = programs(run_motet("inspect", bundle, "--asm").out)
    name = sorted(every)[0]
    assert programs(run_motet("inspect", bundle, "--asm", name[:-4]).out) == {name: every[name]}


def test_no_such_program(run_motet: Motet, bundle: Path, small: Path) -> None:
    outcome = run_motet("inspect", bundle, "--asm", "nothing")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--asm nothing: no such array program; there are " in outcome.err
    assert (
        "no array programs: the bundle is for the host" in run_motet("inspect", small, "--asm").err
    )
