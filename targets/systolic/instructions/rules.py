"""The rules that tables and instructions keep each by itself, whatever the others do.

Every rule is a mask over instructions of where it is broken, and a message with the remedy.
They come in stages (codes; shapes; operands; vectors; addresses; waits), because a later one relies
on those before. Instructions are looked at in pieces; in a piece and stage the first one that
breaks any rule is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.isa import ENGINES, Opcode
from motet.targets.systolic.instructions.program import Element, Role, SystolicProgram
from motet.targets.systolic.instructions.rule_chunk import CHUNK
from motet.targets.systolic.instructions.rules_codes import CodeRules
from motet.targets.systolic.instructions.rules_places import PlaceRules
from motet.targets.systolic.instructions.rules_vectors import VectorRules, wrong_vectors

MAX_VALUES = 2**31 - 1
"""Of a tensor; its padded view may have more."""

Report = Callable[[int, str], Exception]
"""From an instruction's number and what is wrong with it to the error."""


def check_rules(program: SystolicProgram, description: ArrayDescription, report: Report) -> None:
    """Raise ``report``'s error of the first instruction that breaks a rule of its own."""
    starts = program.queue_starts
    counted = np.concatenate([[0], np.cumsum(program.instructions["opcode"] == Opcode.SIGNAL)])
    signals = counted[starts[1:]] - counted[starts[:-1]]
    for begin in range(0, len(program.instructions), CHUNK):
        _Rules(program, description, begin).check(signals, report)


class _Rules(CodeRules, PlaceRules, VectorRules):
    """All rules for one piece of the program."""

    def check(self, signals: NDArray[np.int64], report: Report) -> None:
        """Raise the error of the first instruction that breaks a rule; signals: of each queue."""
        for stage in (
            self.check_codes,
            self.check_shapes,
            self.check_operands,
            self.check_vectors,
            self.check_addresses,
            lambda: self._waits(signals),
        ):
            stage()
            if self.first is not None:
                raise report(self.begin + self.first[0], self.first[1])

    def _waits(self, signals: NDArray[np.int64]) -> None:
        waits = self.is_[Opcode.WAIT]
        if not waits.any():
            return
        given = signals[np.where(waits, self.field["semaphore"], 0)]
        self.refuse(
            waits & (self.field["value"] > given),
            lambda i: (
                f"it waits for {int(self.field['value'][i])} signals of a queue that gives "
                f"{int(given[i])}: it would wait forever"
            ),
        )


def check_tables(program: SystolicProgram, description: ArrayDescription) -> str | None:
    """What is wrong with the program's format, tensors, views or queues, if anything is."""
    starts, count = program.queue_starts, len(program.instructions)
    if (len(starts) - 1) % ENGINES or starts[0] != 0 or starts[-1] != count:
        return "queue_starts must rise from 0 to the number of instructions, 4 queues a pod"
    if (np.diff(starts) < 0).any():
        return "queue_starts must rise"
    if program.pods > description.pod_count:
        return f"it has {program.pods} pods, {description.name} has {description.pod_count}"
    least = min(pod.scratchpad_words(program.format) for pod in description.pods)
    for number, tensor in enumerate(program.tensors):
        if tensor.elements > MAX_VALUES:
            return f"tensor {number} ({tensor.name!r}) has more than {MAX_VALUES} values"
        if tensor.resident is None:
            continue
        if tensor.role is not Role.INTERNAL or tensor.element is not Element.WORD:
            return f"tensor {number} ({tensor.name!r}) is resident, so it must be internal words"
        if not 0 <= tensor.resident <= least - tensor.elements:
            return (
                f"tensor {number} ({tensor.name!r}) leaves the scratchpad of {least} words: keep "
                "it in DRAM"
            )
    wrong = wrong_vectors(program)
    if wrong is not None:
        return wrong
    return next(filter(None, (_wrong_view(program, i) for i in range(len(program.views)))), None)


def _wrong_view(program: SystolicProgram, number: int) -> str | None:
    view = program.views[number]
    if not 0 <= view.tensor < len(program.tensors):
        return f"view {number} is of tensor {view.tensor}, which is not there"
    tensor = program.tensors[view.tensor]
    name = f"view {number} (of {tensor.name!r})"
    if min(loop.extent for loop in view.loops) < 1 or min(view.padding) < 0:
        return f"{name} has an empty loop or a negative padding"
    if math.prod(view.shape) > tensor.elements:
        return f"{name} sees more values than the {tensor.elements} of its tensor"
    if any(view.padding) and len(view.shape) < 2:
        return f"{name} has padding around fewer than two axes"
    size = math.prod(view.padded_shape)
    if view.first_address < 0 or view.last_address >= size or size >= 2**48:
        return (
            f"{name} reaches values {view.first_address} to {view.last_address} of "
            f"{size}: correct its offset or strides"
        )
    return None
