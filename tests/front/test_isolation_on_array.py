"""A bundle of two models on an array: programs that were changed are refused when it is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from front_models import layers

import motet
from motet.errors import ProgramError
from motet.targets.systolic.instructions.encoding import decode, encode
from motet.targets.systolic.instructions.isa import Flag, Opcode
from motet.targets.systolic.instructions.pods_used import pods_used
from motet.targets.systolic.instructions.program import SystolicProgram

ARRAY = "sosa-256x32x32"
PODS = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same network twice: one may have all pods, one two of them."""
    path = layers(tmp_path_factory.mktemp("two") / "m.onnx", 8)
    models = [
        motet.ModelSpec(path=str(path), name="free"),
        motet.ModelSpec(path=str(path), name="held", quota=motet.QuotaSpec(pods=PODS)),
    ]
    return motet.compile(motet.BundleSpec(models=models, target=ARRAY))


def program_of(bundle: Any, model: str) -> tuple[str, SystolicProgram]:
    """The one array program that a model calls."""
    (name,) = {
        step.program for step in bundle.programs[model].instructions if hasattr(step, "program")
    }
    return name, decode(bundle.array_programs[name])


def changed(bundle: Any, name: str, data: bytes) -> Any:
    """The bundle with other bytes for one array program."""
    programs = {**bundle.array_programs, name: data}
    return replace(bundle, array_programs=programs)


def test_a_program_of_more_pods_than_its_models_quota_is_refused(bundle: Any) -> None:
    motet.load(bundle)
    free, whole = program_of(bundle, "free")
    held, part = program_of(bundle, "held")
    assert pods_used(part) <= PODS < pods_used(whole)
    swapped = changed(bundle, held, bundle.array_programs[free])
    message = rf"model 'held': an array program of its uses pods 0 to \d+, its quota is {PODS}"
    with pytest.raises(ProgramError, match=message):
        motet.load(swapped)


def _needed_beside(made: SystolicProgram, tensor: int) -> set[int]:
    """Where tiles are loaded for a step that reads the resident ``tensor``."""
    code = made.instructions
    views = [number for number, view in enumerate(made.views) if view.tensor == tensor]
    reads = np.isin(code["operand"], views) & (code["flags"] & int(Flag.RESIDENT) != 0)
    loads = (code["opcode"] == Opcode.LOAD) & np.isin(code["step"], code["step"][reads])
    on_chip = loads & (code["flags"] & int(Flag.ACCUMULATORS) == 0)
    return {int(address) for address in code["address"][on_chip]}


@pytest.mark.parametrize("model", ["free", "held"])
def test_a_region_on_what_is_needed_at_the_same_time_is_refused(bundle: Any, model: str) -> None:
    """A tensor that is kept on chip, moved to where tiles of its reader are."""
    name, made = program_of(bundle, model)
    kept = [n for n, tensor in enumerate(made.tensors) if tensor.resident is not None]
    asked = [(number, address) for number in kept for address in _needed_beside(made, number)]
    assert asked
    for number, address in asked:
        tensors = list(made.tensors)
        tensors[number] = replace(tensors[number], resident=address)
        moved = SystolicProgram(
            made.format, made.instructions, made.queue_starts, tuple(tensors), made.views,
            made.steps,
        )  # fmt: skip
        with pytest.raises(ProgramError, match=r"has put something else|also used by|nothing wr"):
            motet.load(changed(bundle, name, encode(moved)))
