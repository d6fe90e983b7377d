"""Forks around the kernel calls of units that run side by side.

``passes.host_stages`` marks such units with a stage and a group, and puts a stage's groups one
after the other. Where lowering made kernel calls of them and nothing else, a ``Fork`` goes in
front; a stage with copies between (of a concatenation) stays a sequence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from motet.runtime.program import Fork, Instruction, Kernel


@dataclass
class Stages:
    """The stage that is being lowered into ``instructions``."""

    instructions: list[Instruction]
    mark: str = ""
    _start: int = 0
    _groups: list[str] = field(default_factory=list)
    """The mark under which each instruction from ``_start`` on was made."""

    def enter(self, mark: str) -> None:
        """What is lowered next has the mark ``mark``: "stage/group", or "" for none."""
        self._settle()
        if _stage_of(mark) != _stage_of(self.mark):
            self.close()
            self._start = len(self.instructions)
        self.mark = mark

    def close(self) -> None:
        """End the stage, with a fork where it has groups of kernels."""
        self._settle()
        made, sizes = self.instructions[self._start :], Counter(self._groups)
        if self.mark and len(sizes) > 1 and all(isinstance(one, Kernel) for one in made):
            self.instructions.insert(self._start, Fork(tuple(sizes.values())))
        self.mark, self._groups = "", []

    def _settle(self) -> None:
        """Instructions that came since the last mark are of it."""
        if self.mark:
            new = len(self.instructions) - self._start - len(self._groups)
            self._groups += [self.mark] * new


def _stage_of(mark: str) -> str:
    return mark.partition("/")[0]
