"""Case N of a seed: which model is mutated, and how. The same numbers give the same case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import onnx
from numpy.typing import NDArray

from .mutations import MUTATIONS
from .mutations.raw import mutate_bytes
from .seeds import Seed

NETWORK_SHARE = 0.01
"""Of all cases; a network takes seconds where an operator's test takes a tenth."""
RAW_SHARE = 0.08
STEPS = (1, 1, 1, 2, 2, 3)
"""How many mutations a case has; one is drawn."""
TRIES = 20


@dataclass(frozen=True)
class Case:
    """A mutated file. inputs: those of the model it was; steps: what was done to it."""

    number: int
    origin: str
    steps: tuple[str, ...]
    content: bytes
    inputs: dict[str, NDArray[Any]]


def make_case(
    number: int, seed: int, operators: Sequence[Seed], networks: Sequence[Seed] = ()
) -> Case:
    """Case ``number`` of ``seed``, from one of the models given."""
    chance = Random(f"{seed}/{number}")
    pool = networks if networks and chance.random() < NETWORK_SHARE else operators
    origin = chance.choice(pool)
    if chance.random() < RAW_SHARE:
        content, step = mutate_bytes(origin.content, chance)
        return Case(number, origin.name, (step,), content, origin.inputs)
    content, steps = _mutated(origin.content, chance)
    return Case(number, origin.name, steps, content, origin.inputs)


def _mutated(content: bytes, chance: Random) -> tuple[bytes, tuple[str, ...]]:
    model = onnx.load_from_string(content)
    steps: list[str] = []
    wanted = chance.choice(STEPS)
    for _ in range(TRIES):
        step = chance.choice(MUTATIONS)(model, chance)
        steps += [step] if step else []
        if len(steps) == wanted:
            break
    return model.SerializeToString(deterministic=True), tuple(steps)
