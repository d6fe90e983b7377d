"""The simulated array as the device that the VM runs array programs on.

``invoke`` may be called from many threads: every call in flight has on-chip
memories of its own, which later calls use again, with the programs bound to them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from motet.runtime.device import Array, LayerCounts
from motet.runtime.errors import InputError
from motet.targets.systolic.checker import check_program
from motet.targets.systolic.description import ArrayDescription
from motet.targets.systolic.functional import BoundProgram, OnChipMemories
from motet.targets.systolic.program import SystolicProgram
from motet.targets.systolic.timing import layer_counts


class SimulatedArray:
    """An ``Accelerator`` (see ``runtime.device``): values and cycles of array programs."""

    def __init__(self, description: ArrayDescription) -> None:
        self.description = description
        self.clock_hz = description.clock_hz
        self._lock = threading.Lock()
        self._programs: dict[str, SystolicProgram] = {}
        self._counts: dict[str, LayerCounts] = {}
        self._idle: list[_Pod] = []

    def load(self, name: str, program: bytes) -> None:
        """Take an encoded program, in place of one of the same name.

        Raises
        ------
        BundleError: the bytes are damaged. ProgramError: it breaks a rule of this array.
        """
        decoded = SystolicProgram.decode(program)
        check_program(decoded, self.description)
        with self._lock:
            self._programs[name] = decoded
            self._counts.pop(name, None)

    def invoke(self, name: str, inputs: Sequence[Array], output: Array) -> None:
        """Run program ``name``; arrays are fp32, C-contiguous, in operand order.

        Raises ``InputError`` for an unknown name or an array that does not fit.
        """
        output = output[0] if isinstance(output, tuple) else output
        with self._lock:
            program = self._program(name)
            pod = self._idle.pop() if self._idle else _Pod(self.description)
        try:
            pod.run(name, program, inputs, output)
        finally:
            with self._lock:
                self._idle.append(pod)

    def counts(self, name: str) -> LayerCounts:
        """Cost of one run of program ``name``; raises ``InputError`` for an unknown name."""
        with self._lock:
            program, known = self._program(name), self._counts.get(name)
        if known is None:
            known = layer_counts(program, self.description)
            with self._lock:
                if self._programs.get(name) is program:
                    self._counts[name] = known
        return known

    def _program(self, name: str) -> SystolicProgram:
        if name not in self._programs:
            raise InputError(f"no array program {name!r} is loaded")
        return self._programs[name]


class _Pod:
    """One set of on-chip memories, and the programs bound to it."""

    def __init__(self, description: ArrayDescription) -> None:
        self._memories = OnChipMemories(description)
        self._bound: dict[str, tuple[SystolicProgram, BoundProgram]] = {}

    def run(
        self, name: str, program: SystolicProgram, inputs: Sequence[Array], output: Array
    ) -> None:
        known = self._bound.get(name)
        if known is None or known[0] is not program:
            known = (program, BoundProgram(program, self._memories))
            self._bound[name] = known
        known[1].run(inputs, output)
