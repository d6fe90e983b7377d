"""The checker: accepts legal programs, refuses broken ones with the instruction and the remedy."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
from array_random_programs import (
    description,
    mutations,
    random_program,
    why_illegal,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.runtime.errors import ProgramError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.checker import check_program
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


def test_verdicts_are_those_of_brute_force() -> None:
    """Every pair of accesses is looked at: no race is missed, and none is invented."""
    verdicts: collections.Counter[tuple[bool, str]] = collections.Counter()
    machine = description("int8")
    for seed in range(25):
        rng = np.random.default_rng(seed)
        program = random_program(rng, "int8", 40)
        assert not why_illegal(program)
        for number, broken in enumerate(mutations(rng, program)):
            if breaks_static_rules(broken, machine):
                continue
            expected, found = why_illegal(broken), refusal(broken, machine)
            assert bool(expected) == bool(found), (seed, number, expected, found)
            verdicts[
                bool(found), expected.split(" ")[-1] if "race" not in expected else "race"
            ] += 1
    assert sum(count for (bad, _), count in verdicts.items() if bad) >= 10
    assert sum(count for (bad, _), count in verdicts.items() if not bad) >= 10
    assert (True, "race") in verdicts
